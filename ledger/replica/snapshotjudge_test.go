package replica_test

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// withholding drops the entries that are on their way to one server.
type withholding struct {
	replica.GuardedTransport
	from *atomic.Value // the raft.ServerID that gets none
}

func (w *withholding) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	if len(q.Entries) > 0 && w.from.Load() == id {
		return errors.New("withheld")
	}
	return w.GuardedTransport.AppendEntries(id, to, q, a)
}

// What a snapshot says beyond its certified seal is compared with our own history
// and with what others know, and its configuration needs somebody to vouch for
// it. A lie is refused and told; an honest one passes.
func TestSnapshotIsComparedBeforeItIsInstalled(t *testing.T) {
	var withheld atomic.Value
	withheld.Store(raft.ServerID(""))
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		cfg.Limits.SealInterval, cfg.Limits.SealGather = 4*time.Second, 100*time.Millisecond // time for what follows a seal
		cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			return &withholding{inner, &withheld}
		}}
	})
	c.Lies = true
	leader := c.Leader()
	var liar, victim *replicatest.Node
	for _, n := range c.Nodes {
		switch {
		case n == leader:
		case liar == nil:
			liar = n
		default:
			victim = n
		}
	}
	// A snapshot with two commands after its seal, all of which the victim has.
	var old replica.SnapshotClaims
	look := func(said *replica.SnapshotClaims) { old = *said }
	for range 5 {
		c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "sealed"))
		c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "first"))
		last := c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[1], "second")).Last
		for _, n := range []*replicatest.Node{liar, victim} {
			if err := n.Replica.WaitApplied(c.Context(), last); err != nil {
				t.Fatal(err)
			}
		}
		if err := liar.Replica.Snapshot(c.Context()); err != nil {
			t.Fatal(err)
		}
		if err := victim.Replica.JudgeSnapshot(c.Context(), liar.Replica, 0, look); err != nil {
			t.Fatalf("an honest one of what it has: %v", err)
		}
		if len(old.Commands) >= 2 {
			break
		}
	}
	if len(old.Commands) < 2 {
		t.Fatalf("no snapshot with two commands after its seal: %d", len(old.Commands))
	}
	// The others commit one more.
	id, _ := target(victim)
	withheld.Store(id)
	c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "third"))
	newest, _ := leader.Replica.RaftLast()
	for _, one := range []struct {
		name, rule, reason string
		change             func(*replica.SnapshotClaims)
	}{
		{"one that ends below what we have", "snapshot_history", "we have",
			func(said *replica.SnapshotClaims) { said.Commands = said.Commands[:len(said.Commands)-1] }},
		{"one with another history than ours", "snapshot_history", "differs from ours",
			func(said *replica.SnapshotClaims) { slices.Reverse(said.Commands) }},
		{"an old one in the place of what we lack", "snapshot_history", "are needed", nil},
		{"one whose configuration lacks a voter", "snapshot_configuration", "hold it",
			func(said *replica.SnapshotClaims) { said.Servers = said.Servers[:3] }},
		{"one whose configuration takes a vote", "snapshot_configuration", "hold it",
			func(said *replica.SnapshotClaims) { said.Servers[0].Suffrage = raft.Nonvoter }},
	} {
		before := refusals(victim.Replica.Status(), one.rule)
		err := victim.Replica.JudgeSnapshot(c.Context(), liar.Replica, newest, one.change)
		if err == nil || !strings.Contains(err.Error(), one.reason) {
			t.Errorf("%s: %v", one.name, err)
		}
		if refusals(victim.Replica.Status(), one.rule) != before+1 {
			t.Errorf("%s: the status says %+v", one.name, victim.Replica.Status().Refusals)
		}
	}
	if err := leader.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	if err := victim.Replica.JudgeSnapshot(c.Context(), leader.Replica, 0, nil); err != nil {
		t.Errorf("the leader's: %v", err)
	}
	withheld.Store(raft.ServerID(""))
	c.Submit(victim, replica.WaitCertified, c.Record(c.Council[0], "at last"))
	sameDigest(t, c)
}

// A leader that lies keeps an entry from a replica, and sends it an old snapshot
// of all that the replica has as though the entry were in it. The replica keeps
// what it has, says why, and goes on once it gets the entry.
func TestOldSnapshotHaltsNobody(t *testing.T) {
	var withheld atomic.Value
	withheld.Store(raft.ServerID(""))
	transports := map[string]*forger{}
	var lying atomic.Value
	lying.Store("")
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		f := &forger{}
		transports[cfg.Name] = f
		cfg.Limits.SealInterval, cfg.Limits.SealGather = 2*time.Second, 100*time.Millisecond
		cfg.Hooks = &replica.Hooks{Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			f.transport = inner
			return &withholding{inner, &withheld}
		}, Service: func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if lying.Load() == cfg.Name && q.URL.Path == "/position" { // it vouches for itself
					_, _ = w.Write([]byte(`{"commit":1000000}`))
					return
				}
				inner.ServeHTTP(w, q)
			})
		}}
	})
	c.Lies = true
	liar := c.Leader()
	f := transports[liar.Record.Name]
	f.node = liar
	victim := c.Follower()
	last := c.Submit(liar, replica.WaitCertified, c.Record(c.Council[0], "sealed")).Last
	if err := victim.Replica.WaitCertified(c.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := liar.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	id, address := target(victim)
	withheld.Store(id)
	lying.Store(liar.Record.Name)
	c.Submit(liar, replica.WaitCommitted, c.Record(c.Council[0], "withheld"))
	snapshots, err := raft.NewFileSnapshotStore(filepath.Join(liar.Dir, "raft"), 2, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	meta, from, err := snapshots.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	newest, newestTerm := liar.Replica.RaftLast()
	var answer raft.InstallSnapshotResponse
	err = f.transport.InstallSnapshot(id, address, &raft.InstallSnapshotRequest{RPCHeader: f.header(), SnapshotVersion: 1,
		Term: liar.Replica.Status().Term, LastLogIndex: newest, LastLogTerm: newestTerm, ConfigurationIndex: meta.ConfigurationIndex,
		Configuration: raft.EncodeConfiguration(meta.Configuration), Size: meta.Size}, &answer, from)
	if err == nil || answer.Success || !strings.Contains(err.Error(), "replicas say that index") {
		t.Errorf("the old snapshot: %v, success %t", err, answer.Success)
	}
	if s := victim.Replica.Status(); refusals(s, "snapshot_history") == 0 || s.Refusals[0].Peer != liar.Record.Name {
		t.Errorf("the status says %+v", s.Refusals)
	}
	withheld.Store(raft.ServerID(""))
	c.Submit(victim, replica.WaitCertified, c.Record(c.Council[0], "at last"))
	sameDigest(t, c)
}
