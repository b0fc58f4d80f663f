package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// recovering is a ledger of four that lost three of them.
type recovering struct {
	*replicatest.Cluster
	left  *replicatest.Node
	lost  []*replicatest.Node
	plan  *replica.Survivor
	was   [][]byte // every entry below the head
	fresh []*replicatest.Identity
}

func loseThree(t *testing.T, change func(*replica.Config)) *recovering {
	t.Helper()
	c := replicatest.Start(t, 4, change)
	var last *replica.Receipt
	for i := range 12 {
		last = c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[i%3], fmt.Sprint("before ", i)))
	}
	r := &recovering{Cluster: c, left: c.Follower()}
	r.left.Await("it knows that all of it is certified", func(s replica.Status) bool { return s.Certified > last.Last })
	for _, n := range c.Nodes {
		if n != r.left {
			r.lost = append(r.lost, n)
		}
	}
	for _, n := range append([]*replicatest.Node{r.left}, r.lost...) {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	r.plan = r.left.Survey()
	err := r.left.Replica.Archive().Entries(0, 1, func(uint64, []byte) error { return nil })
	if err == nil {
		t.Fatal("a stopped replica has its history open")
	}
	r.was = entriesOf(t, r.left, r.plan.Head.Size)
	// One comes back in the place of a lost one, under another key.
	again := r.lost[0].Identity
	r.fresh = []*replicatest.Identity{again.Rekeyed(t), replicatest.NewIdentity(t, "r5", "op-b"), replicatest.NewIdentity(t, "r6", "op-c")}
	if again.Record.Name > "r5" {
		t.Fatal("the new ones are not by name")
	}
	return r
}

// entriesOf reads the history of a stopped node.
func entriesOf(t *testing.T, n *replicatest.Node, size uint64) [][]byte {
	t.Helper()
	a, err := replica.OpenArchive(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var list [][]byte
	err = a.Entries(0, size, func(_ uint64, entry []byte) error {
		list = append(list, bytes.Clone(entry))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (r *recovering) statements(change func(*ledger.Recover)) [][]byte {
	return r.Recovery(r.plan, []string{r.left.Record.Name}, r.fresh, change)
}

// recovered recovers the one that is left and starts it with the new ones.
func (r *recovering) recovered(t *testing.T) (news []*replicatest.Node) {
	t.Helper()
	report, err := r.left.Recover(r.statements(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Generation != 1 || report.Already || report.Size != r.plan.Head.Size {
		t.Fatalf("report %+v", report)
	}
	r.Generation = 1
	r.left.Start()
	r.left.Await("the new branch is certified", func(s replica.Status) bool {
		return s.Generation == 1 && s.Certified > r.plan.Head.Size && s.Authority == 1
	})
	for _, one := range r.fresh {
		n := r.Add(one)
		n.Start()
		news = append(news, n)
	}
	for _, n := range news {
		n.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
		r.left.Await("it votes", voter(n.Record.Name))
	}
	return news
}

// Three of four replicas are lost with their disks. The council goes on from the
// last certified head with the one that is left and three new ones.
func TestRecoverLostQuorum(t *testing.T) {
	for _, store := range []string{replica.LogStoreBolt, replica.LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			r := loseThree(t, func(cfg *replica.Config) { cfg.LogStore = store })
			for _, n := range r.lost {
				n.Wipe()
			}
			statements := r.statements(nil)
			r.recovered(t)
			sameDigest(t, r.Cluster)
			for _, n := range r.Nodes {
				if !n.Running() {
					continue
				}
				chain := walk(t, r.Cluster, n)
				if chain.Latest.Generation != 1 || len(chain.Latest.Active()) != 4 || chain.Latest.CosignThreshold != 3 {
					t.Errorf("%s: authority %d: generation %d, %d active", n.Record.Name, chain.Latest.Index, chain.Latest.Generation, len(chain.Latest.Active()))
				}
				if fork, opened := chain.Fork(1); !opened || fork.Size != r.plan.Head.Size || fork.Root != r.plan.Head.Root {
					t.Errorf("%s: the ledger goes on from %+v", n.Record.Name, fork)
				}
				for seq, entry := range r.was {
					if now, err := n.Replica.Archive().Entry(uint64(seq)); err != nil || !bytes.Equal(now, entry) {
						t.Fatalf("%s: entry %d is not what was certified: %v", n.Record.Name, seq, err)
					}
				}
			}
			// What was signed for the generation before is refused.
			r.Generation = 0
			old := r.Record(r.Council[0], "of before")
			r.Generation = 1
			var rejected *replica.RejectedError
			_, err := r.Leader().Replica.Submit(r.Context(), [][]byte{old}, replica.WaitCommitted)
			if !errors.As(err, &rejected) || rejected.Verdicts[0].Code != fsm.WrongGeneration {
				t.Errorf("a statement of the generation before: %v", err)
			}
			// A restart finds everything again, and doing it again changes nothing.
			if err := r.left.Stop(); err != nil {
				t.Fatal(err)
			}
			report, err := r.left.Recover(statements, nil)
			if err == nil && !report.Already {
				t.Errorf("a recovery of other bytes was applied once more: %+v", report)
			}
			r.left.Start()
			sameDigest(t, r.Cluster)
		})
	}
}

// The lost majority comes back with its disks, certifies on its own, and learns
// that the ledger went on without it.
func TestOldMajorityReturns(t *testing.T) {
	r := loseThree(t, nil)
	// At an address of its own: where it was, another one is now.
	moved := replicatest.NewIdentity(t, r.fresh[0].Record.Name, r.fresh[0].Record.Operator)
	r.fresh[0] = moved
	r.recovered(t)
	for _, n := range r.lost {
		n.Start()
	}
	for _, n := range r.lost {
		s := n.Await("it halts", func(s replica.Status) bool { return halted(s) != "" })
		if reason := halted(s); !strings.Contains(reason, "recovered as generation 1 without this replica; re-key it") {
			t.Errorf("%s halts because %s", n.Record.Name, reason)
		}
	}
	sameDigestOf(t, r.Cluster, append([]*replicatest.Node{r.left}, r.Nodes[4:]...))
}

func halted(s replica.Status) string {
	for _, a := range s.Alarms {
		if a.Code == "halted" {
			return a.Detail
		}
	}
	return ""
}

func sameDigestOf(t *testing.T, c *replicatest.Cluster, nodes []*replicatest.Node) {
	t.Helper()
	all := c.Nodes
	defer func() { c.Nodes = all }()
	c.Nodes = nodes
	sameDigest(t, c)
}

// What a replica refuses to be recovered by, and that it leaves nothing behind.
func TestRecoverRefuses(t *testing.T) {
	r := loseThree(t, nil)
	good := r.statements(nil)
	other := replicatest.NewCeremony(t, 1)
	foreign := other.Council[0]
	for _, c := range []struct {
		name, why  string
		statements [][]byte
	}{
		{"one operator", "has the approval of 1", good[:1]},
		{"approvals alone", "want one recover", good[1:]},
		{"twice the same voice", "two statements", [][]byte{good[0], good[1], good[1]}},
		{"a later generation", "generation", r.statements(func(b *ledger.Recover) { b.Generation = 2 })},
		{"a head beyond what is here", "short of the head", r.statements(func(b *ledger.Recover) { b.Head.Size += 1000 })},
		{"an older head", "make a new plan", r.statements(func(b *ledger.Recover) { b.Head.Size-- })},
		{"another root", "the root of size", r.statements(func(b *ledger.Recover) { b.Head.Root[0] ^= 1 })},
		{"another last entry", "not_at_head", r.statements(func(b *ledger.Recover) { b.Head.Last[0] ^= 1 })},
		{"no end", "make a new plan", r.statements(func(b *ledger.Recover) { b.Until = 0 })},
		{"a future date", "set the clock", r.statements(func(b *ledger.Recover) { b.At, b.Until = b.At+3_600_000, b.Until+3_600_000 })},
		{"the key of a lost replica", "has the key of a replica of before", r.statements(func(b *ledger.Recover) {
			b.New[1].Public = r.lost[1].Record.Public
		})},
		{"without this replica", "does not keep", r.Recovery(r.plan, []string{r.lost[0].Record.Name}, nil, nil)},
		{"a replica that is not there", "not there", r.Recovery(r.plan, []string{r.left.Record.Name, "r9"}, nil, nil)},
		{"a stranger's signature", "no vote", [][]byte{good[0], func() []byte {
			st, _ := ledger.ParseStatement(good[0])
			e, err := ledger.Sign(foreign.Key, ledger.Payload{Author: "bob", Ledger: r.Hash, Type: ledger.TypeApprove}, ledger.Ballot{Proposal: st.ID})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}()}},
	} {
		_, err := r.left.Recover(c.statements, nil)
		var refused *replica.RecoverError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: want %q in: %v", c.name, c.why, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.left.Dir, "recovered")); err == nil {
		t.Error("a refused recovery was decided")
	}
	r.left.Start()
	if _, err := r.left.Recover(good, nil); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("a running replica was recovered: %v", err)
	}
	_ = r.left.Kill()
	// The council said until when: an hour from now, and some skew of clocks.
	for after, why := range map[time.Duration]string{-time.Minute: "set the clock", time.Hour + time.Minute: "it expired", 1000 * time.Hour: "it expired"} {
		_, err := r.left.Recover(good, nil, func(o *replica.RecoverOptions) { o.Now = func() time.Time { return time.Now().Add(after) } })
		var refused *replica.RecoverError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v from now: want %q in: %v", after, why, err)
		}
	}
	if _, err := r.left.Recover(good, nil); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if report, err := r.left.Recover(good, nil); err != nil || !report.Already {
		t.Errorf("the good one again: %+v, %v", report, err)
	}
}
