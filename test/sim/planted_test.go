package sim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
)

// A script is a plan that nobody drew: one round of given faults.
// The archives are looked at each minute.
func script(replicas int, round time.Duration, faults ...fault) *plan {
	for at := time.Minute; at < round; at += time.Minute {
		faults = append(faults, fault{At: at, Kind: faultLook})
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return &plan{Seed: 7, Replicas: replicas, Rounds: 1, Round: round, Calm: time.Minute, Pace: 6 * time.Second, Clients: clients, Faults: faults}
}

// often has more clients ask more often, so that somebody asks a leader that was
// just cut off before all of them wait at the others for one.
func often(p *plan) *plan {
	p.Pace, p.Clients = 3*time.Second, 12
	return p
}

// lostQuorum leaves one replica of four, with which the council goes on.
var lostQuorum = fault{At: 2 * time.Minute, For: 10 * time.Second, Kind: faultLose, Others: []string{"r2"}}

// forgetful takes the newest certified head away from the disks that are left.
func forgetful(w *world) {
	old := []byte(nil)
	w.watched.Go(func() {
		if w.sleep(time.Minute) {
			old, _ = w.named("r2").running().replica.Checkpoint()
		}
	})
	w.aged = func(left []*node) {
		for _, n := range left {
			if err := os.WriteFile(filepath.Join(n.dir, "certified"), old, 0o600); err != nil {
				w.t.Error(err)
			}
		}
	}
}

func onWAL(p *plan) *plan {
	p.LogStore = replica.LogStoreWAL
	return p
}

// everybody bends the hooks of every replica.
func everybody(bend func(n *node, h *replica.Hooks)) func(*world) {
	return func(w *world) {
		w.bend = bend
	}
}

// hasty counts what was not answered within a second as stored, so that a leader
// alone commits.
type hasty struct{ replica.GuardedTransport }

func (u *hasty) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	answered := make(chan *raft.AppendEntriesResponse, 1)
	go func() { // ends with the request, which the transport's end ends
		own := &raft.AppendEntriesResponse{}
		if u.GuardedTransport.AppendEntries(id, target, args, own) == nil {
			answered <- own
		}
	}()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case own := <-answered:
		*resp = *own
	case <-timer.C:
		*resp = raft.AppendEntriesResponse{Term: args.Term, Success: true}
		if len(args.Entries) > 0 {
			resp.LastLog = args.Entries[len(args.Entries)-1].Index
		}
	}
	return nil
}

func commitAlone(_ *node, h *replica.Hooks) {
	inner := h.Transport
	h.Transport = func(g replica.GuardedTransport) replica.GuardedTransport { return &hasty{inner(g)} }
}

// boastful answers every fourth forwarded submission itself.
type boastful struct {
	http.RoundTripper
	world *world
	count atomic.Int64
}

func (b *boastful) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.URL.Path != "/submit" || b.count.Add(1)%4 != 0 {
		return b.RoundTripper.RoundTrip(q)
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	st, err := ledger.ParseStatement(body[4:]) // one framed envelope
	if err != nil {
		return nil, err
	}
	seq := b.world.checks.acknowledgedTo() + 1
	receipt := replica.Receipt{Verdicts: []fsm.Verdict{{Seq: seq, ID: st.ID}}, First: seq, Last: seq, Level: replica.LevelCommitted}
	answer, err := json.Marshal(map[string]any{"receipt": receipt})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(answer)), Request: q}, nil
}

// sulking gives a peer up for good after the first request that failed.
type sulking struct {
	replica.GuardedTransport
	mu   sync.Mutex
	lost map[raft.ServerID]bool
}

func (u *sulking) send(id raft.ServerID, request func() error) error {
	u.mu.Lock()
	lost := u.lost[id]
	u.mu.Unlock()
	if lost {
		return raft.ErrTransportShutdown
	}
	err := request()
	if err != nil {
		u.mu.Lock()
		u.lost[id] = true
		u.mu.Unlock()
	}
	return err
}

func (u *sulking) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return u.send(id, func() error { return u.GuardedTransport.AppendEntries(id, target, args, resp) })
}

func (u *sulking) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return u.send(id, func() error { return u.GuardedTransport.RequestVote(id, target, args, resp) })
}

func (u *sulking) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return u.send(id, func() error { return u.GuardedTransport.RequestPreVote(id, target, args, resp) })
}

// astray gives r2, once, a state of which one record is another.
func astray(t *testing.T) func(n *node, h *replica.Hooks) {
	return func(n *node, h *replica.Hooks) {
		if n.name() != "r2" {
			return
		}
		inner, done := h.Apply, false
		h.Apply = func(s *fsm.State, c *ledger.Command, v fsm.Verifier) (*fsm.State, fsm.Result) {
			next, result := inner(s, c, v)
			if result.Sealed != nil && next.Next() > 12 && !done {
				done = true
				next = perturbed(t, next, result)
			}
			return next, result
		}
	}
}

func perturbed(t *testing.T, s *fsm.State, result fsm.Result) *fsm.State {
	type record struct {
		key   string
		value []byte
	}
	var records []record
	trie := ledger.Trie{}
	if err := s.Dump(func(key string, value []byte) error {
		if key == "policy" {
			value = []byte(strings.Replace(string(value), `"quota":65536`, `"quota":65535`, 1))
		}
		records = append(records, record{key, slices.Clone(value)})
		trie = trie.Put(key, value)
		return nil
	}); err != nil {
		t.Error(err)
		return s
	}
	seal, err := ledger.ParseEntry(result.Entries[len(result.Entries)-1])
	if err != nil {
		t.Error(err)
		return s
	}
	content := *result.Sealed
	content.Digest = trie.Root()
	if seal.Content, err = canon.Marshal(content); err != nil {
		t.Error(err)
		return s
	}
	other, err := fsm.Load(iter.Seq2[string, []byte](func(yield func(string, []byte) bool) {
		for _, r := range records {
			if !yield(r.key, r.value) {
				return
			}
		}
	}), seal)
	if err != nil {
		t.Error(err)
		return s
	}
	return other
}

// Each planted bug turns its invariant red, and no other before it.
func TestPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		invariant, bug string
		plan           *plan
		bend           func(*world)
	}{
		{invariantAcknowledged, "a follower acknowledges what it did not forward", script(3, 3*time.Minute),
			everybody(func(n *node, h *replica.Hooks) {
				h.Requests = func(inner http.RoundTripper) http.RoundTripper { return &boastful{RoundTripper: inner, world: n.world} }
			})},
		{invariantArchives, "an archive writes another byte", script(3, 3*time.Minute),
			everybody(func(n *node, h *replica.Hooks) {
				if n.name() == "r2" {
					h.Record = func(seq uint64, entry []byte) []byte {
						if seq == 12 {
							entry = slices.Clone(entry)
							entry[len(entry)-1] ^= 1
						}
						return entry
					}
				}
			})},
		{invariantMinority, "a leader takes silence for assent", often(script(3, 6*time.Minute,
			fault{At: 2 * time.Minute, For: 3 * time.Minute, Kind: faultPartition, Target: roleLeader})),
			everybody(commitAlone)},
		{invariantDigests, "one state differs in one record", script(3, 5*time.Minute), everybody(astray(t))},
		{invariantDecisions, "approvals are not verified", script(3, 10*time.Minute),
			everybody(func(_ *node, h *replica.Hooks) {
				h.Verify = func(st *ledger.Statement, good bool) bool { return good || st.Payload.Type == ledger.TypeApprove }
			})},
		{invariantHeads, "two replicas of four sign whatever they are shown", script(4, 5*time.Minute), func(w *world) {
			w.checks.liars["r1"], w.checks.liars["r4"] = true, true
			w.plan.Liars = []string{"r1", "r4"}
			twoFaced(w, "r1", "r2")
			leads(w, "r1")
		}},
		{invariantResumes, "nobody is called again after a failure", script(3, 5*time.Minute,
			fault{At: time.Minute, For: 2 * time.Minute, Kind: faultPartition, Target: roleLeader}),
			everybody(func(_ *node, h *replica.Hooks) {
				inner := h.Transport
				h.Transport = func(g replica.GuardedTransport) replica.GuardedTransport {
					return &sulking{GuardedTransport: inner(g), lost: map[raft.ServerID]bool{}}
				}
			})},
		{invariantMembers, "a leader gives whoever joins a vote at once", script(3, 6*time.Minute,
			fault{At: time.Minute, Kind: faultAdd, Target: "r4"}),
			everybody(func(_ *node, h *replica.Hooks) {
				h.Members = func(set []fsm.ReplicaRecord) []fsm.ReplicaRecord {
					for i := range set {
						set[i].Standing = fsm.ReplicaActive
					}
					return set
				}
			})},
		{invariantMembers, "a leader adds nobody", script(3, 6*time.Minute,
			fault{At: time.Minute, Kind: faultRekey, Target: "r3", Amount: 1}),
			everybody(func(_ *node, h *replica.Hooks) {
				h.Members = func(set []fsm.ReplicaRecord) []fsm.ReplicaRecord {
					return slices.DeleteFunc(set, func(one fsm.ReplicaRecord) bool { return one.Standing == fsm.ReplicaJoining })
				}
			})},
		{invariantBranches, "the old majority hears nothing of a recovery", script(4, 12*time.Minute, lostQuorum),
			func(w *world) { w.untold = true }},
		{invariantBranches, "a recovery goes on from an older head", script(4, 12*time.Minute, lostQuorum), forgetful},
		{invariantClean, "raft-wal's fsyncs do nothing", onWAL(script(3, 4*time.Minute,
			fault{At: 2 * time.Minute, For: 10 * time.Second, Kind: faultCrashAll, Target: "r1"})),
			func(w *world) { w.careless = true }},
	} {
		t.Run(c.invariant, func(t *testing.T) {
			// The script is sound: without the bug nothing is found.
			if res := run(t, c.plan, newRecorder(c.plan, nil), nil); res.violation != nil {
				t.Fatalf("without the bug: %v", res.violation)
			}
			res := run(t, c.plan, newRecorder(c.plan, nil), c.bend)
			t.Log(res)
			if res.violation == nil || res.violation.invariant != c.invariant {
				t.Fatalf("%s: found %v, want %s", c.bug, res.violation, c.invariant)
			}
			t.Log(res.violation)
		})
	}
}
