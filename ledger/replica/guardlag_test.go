package replica_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// Power comes back; one of four is dead, and one needs a snapshot, for which
// nobody can say yet that it is committed.
func TestRestartWithALaggingReplica(t *testing.T) {
	c := replicatest.Start(t, 4, func(cfg *replica.Config) { cfg.Raft.TrailingLogs = 4 })
	leader := c.Leader()
	behind := c.Follower()
	if err := behind.Stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		c.Submit(c.Leader(), replica.WaitCommitted, c.Record(c.Council[0], fmt.Sprint("record ", i)))
	}
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "sealed"))
	for _, n := range c.Nodes {
		if n == behind {
			continue
		}
		n.Await("it has a certified state", func(s replica.Status) bool { return s.Certified > 21 })
		if err := n.Replica.Snapshot(c.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Nodes {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	dead := false
	for _, n := range c.Nodes {
		if n != behind && n != leader && !dead {
			dead = true // its machine is gone
			continue
		}
		n.Start()
	}
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "again"))
	behind.Await("it has caught up", func(s replica.Status) bool { return s.Ready })
}

// A follower that lies vouches for an old snapshot of its own as the newest
// index, while the others have not heard yet that this is committed. What a
// snapshot has beyond its seal is proven by nothing: it must not be installed
// over the log that has it all.
func TestOldSnapshotAsTheNewestIndex(t *testing.T) {
	liars := map[string]*forger{}
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		f := &forger{}
		liars[cfg.Name] = f
		cfg.Raft.Commit = 1500 * time.Millisecond // followers hear late what is committed
		cfg.Limits.SealInterval, cfg.Limits.SealGather = 1500*time.Millisecond, 1500*time.Millisecond
		cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			f.transport = inner
			return inner
		}, Service: func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if f.node != nil && q.URL.Path == "/position" {
					_, _ = w.Write([]byte(`{"commit":1000000}`))
					return
				}
				inner.ServeHTTP(w, q)
			})
		}}
	})
	c.Lies = true
	leader := c.Leader()
	var followers []*replicatest.Node
	for _, n := range c.Nodes {
		if n != leader {
			followers = append(followers, n)
		}
	}
	liar, victim := followers[0], followers[1]
	f := liars[liar.Record.Name]
	f.node = liar
	c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
	liar.Await("it has a certified state", func(s replica.Status) bool { return s.Certified > 2 && s.CertifyLag == 0 })
	if err := liar.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(liar.Dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	state, err := os.ReadFile(slices.Max(found))
	if err != nil {
		t.Fatal(err)
	}
	c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "after the snapshot"))
	var servers []raft.Server
	for _, n := range c.Nodes {
		id, address := target(n)
		servers = append(servers, raft.Server{ID: id, Address: address})
	}
	term := leader.Replica.Status().Term
	newest := c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "the newest")).Last
	last, lastTerm := leader.Replica.RaftLast()
	victim.Await("its log has it", func(replica.Status) bool { index, _ := victim.Replica.RaftLast(); return index >= last })
	id, address := target(victim)
	var answer raft.InstallSnapshotResponse
	own, _ := target(liar)
	victim.Replica.Believe(term+1, own) // it won the election
	_ = f.transport.InstallSnapshot(id, address, &raft.InstallSnapshotRequest{RPCHeader: f.header(), SnapshotVersion: 1, Term: term + 1,
		LastLogIndex: last, LastLogTerm: lastTerm, Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: servers}), ConfigurationIndex: 1,
		Size: int64(len(state))}, &answer, bytes.NewReader(state))
	s := victim.Await("it goes on, or halts", func(s replica.Status) bool { return s.Applied > newest || s.Role == replica.RoleHalted })
	if s.Role == replica.RoleHalted {
		t.Errorf("halted for good: %+v", s.Alarms)
	}
}

// A replica that knows fewer replicas by its state than there are, since it
// replays what was applied then, does not believe one liar: by Raft's own
// configuration and by the certified set it knows of more.
func TestOneLiarDoesNotVouchForALaggingReplica(t *testing.T) {
	var lie, liars atomic.Pointer[string]
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		name := cfg.Name
		cfg.Hooks = &replica.Hooks{Service: func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if liar := liars.Load(); liar != nil && *liar == name && q.URL.Path == "/position" {
					_, _ = w.Write([]byte(*lie.Load()))
					return
				}
				inner.ServeHTTP(w, q)
			})
		}}
	})
	c.Lies = true // it refuses those that it does not know
	follower := c.Follower()
	c.Submit(follower, replica.WaitCertified, c.Record(c.Council[0], "before"))
	names := []string{follower.Record.Name}
	for _, n := range c.Nodes {
		if n != follower && len(names) < 3 {
			names = append(names, n.Record.Name)
		}
	}
	fewer := follower.Replica.HeldConfiguration(1)
	fewer.Servers = fewer.Servers[:3]
	said, err := json.Marshal(map[string]any{"commit": 1_000_000, "configuration": ledger.Hash(sha256.Sum256(raft.EncodeConfiguration(fewer)))})
	if err != nil {
		t.Fatal(err)
	}
	text := string(said)
	lie.Store(&text)
	liars.Store(&names[1])
	var honest *replicatest.Node // whose snapshot the liar vouches for, as of an index that nobody has
	for _, n := range c.Nodes {
		if !slices.Contains(names[:2], n.Record.Name) {
			honest = n
		}
	}
	for _, n := range []*replicatest.Node{honest, follower} {
		n.Await("all is certified", func(s replica.Status) bool { return s.Certified > 2 && s.CertifyLag == 0 })
	}
	if err := honest.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	follower.Replica.Lag(names...)
	for rule, change := range map[string]func(*replica.SnapshotClaims){
		"snapshot_history":       nil,
		"snapshot_configuration": func(said *replica.SnapshotClaims) { said.Servers = said.Servers[:3] },
	} {
		err := follower.Replica.JudgeSnapshot(c.Context(), honest.Replica, 1_000_000, change)
		if err == nil || !strings.Contains(err.Error(), "2 are needed") || refusals(follower.Replica.Status(), rule) != 1 {
			t.Errorf("one liar vouches for a snapshot: %s: %v, %+v", rule, err, follower.Replica.Status().Refusals)
		}
	}
	if follower.Replica.StepVouched(c.Context(), 1, fewer) {
		t.Error("one liar vouches for a configuration")
	}
	if follower.Replica.IndexVouched(c.Context(), 1_000_000) {
		t.Error("one liar vouches for an index")
	}
}

// A replica that was removed is slow to sign its own removal, while another is
// dead: its signature is needed for longer than it lingers.
func TestRemovedReplicaIsHeardWhileItIsNeeded(t *testing.T) {
	var slow atomic.Bool
	released := make(chan struct{})
	delay := func() {
		if slow.Load() {
			<-released
		}
	}
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		cfg.Limits.Linger = time.Second
		if cfg.Name == "r3" {
			cfg.Hooks = &replica.Hooks{
				Requests: func(inner http.RoundTripper) http.RoundTripper {
					return roundTripper(func(q *http.Request) (*http.Response, error) { delay(); return inner.RoundTrip(q) })
				},
				Service: func(inner http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { delay(); inner.ServeHTTP(w, q) })
				},
			}
		}
	})
	c.Lies = true // whom nobody hears looks like a liar
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
	if leader := c.Leader(); leader.Record.Name == "r3" || leader.Record.Name == "r4" {
		if err := leader.Replica.TransferLeadership(c.Context(), "r1"); err != nil {
			t.Fatal(err)
		}
		c.Nodes[0].Await("it leads", func(s replica.Status) bool { return s.Role == replica.RoleLeader && s.Ready })
	}
	leader := c.Leader()
	if err := c.Nodes[3].Kill(); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	time.AfterFunc(4*time.Second, func() { close(released) }) // four times as long as it lingers
	c.Decide(leader, "replica.remove", removeArgs{"r3"})      // fails unless that is certified
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }
