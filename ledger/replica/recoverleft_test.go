package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// What a recovery must find and keep on the disk of a replica that is left.

// The council signs twice. The second statements are refused where the first were
// applied, unless the operator says that those are given up; if the first are applied
// again after all, what they set aside, the only copy of it, is kept.
func TestRecoverAgainKeepsWhatWasSetAside(t *testing.T) {
	r := loseThree(t, nil)
	first, second := r.statements(nil), r.statements(func(b *ledger.Recover) { b.At++ })
	third := append([][]byte{first[0]}, r.Sign(r.Council[2], ledger.TypeApprove, ledger.Ballot{Proposal: idOf(t, first[0])}))
	var folder, last string
	for i, statements := range [][][]byte{first, second, first} {
		if i > 0 {
			for why, other := range map[string][][]byte{"of another time": second, "with another approval": third} {
				_, err := r.left.Recover(other, nil)
				if i == 2 && why == "of another time" {
					continue // those are applied already
				}
				var refused *replica.RecoverError
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), last) {
					t.Errorf("other statements, %s, after %s: %v", why, last, err)
				}
			}
		}
		report, err := r.left.Recover(statements, nil, func(o *replica.RecoverOptions) { o.Instead = last })
		if err != nil || report.Already || report.ID == last {
			t.Fatalf("recovery %d: %+v, %v", i+1, report, err)
		}
		if last = report.ID; i == 0 {
			folder = report.Folder
		}
	}
	for _, name := range []string{"raft.old", "dropped.cose"} {
		if _, err := os.Stat(filepath.Join(folder+".1", name)); err != nil {
			t.Errorf("what the first recovery set aside is gone: %v", err)
		}
	}
}

// A crash comes between the link of a handover and the checkpoint: the newest
// certified head is the link's, and nothing goes on from before it.
func TestRecoverFromTheNewestLink(t *testing.T) {
	c := replicatest.Start(t, 4, nil)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
	n := c.Follower()
	before := n.Await("it knows a certified head", func(s replica.Status) bool { return s.Certified > 1 })
	note, err := os.ReadFile(filepath.Join(n.Dir, "certified"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := n.Replica.NewLogKey()
	if err != nil {
		t.Fatal(err)
	}
	c.Decide(c.Leader(), "log.rekey", fresh)
	n.Await("the handover is certified", func(s replica.Status) bool { return s.Authority == 1 && s.Certified > before.Certified })
	for _, one := range c.Nodes {
		if err := one.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	newest := n.Survey()
	if err := os.WriteFile(filepath.Join(n.Dir, "certified"), note, 0o600); err != nil {
		t.Fatal(err)
	}
	found := n.Survey()
	if len(found.Links) != 1 || found.Head.Size <= before.Certified || found.Authority.Index != 1 {
		t.Errorf("the plan goes on from size %d under authority %d, newest is %d", found.Head.Size, found.Authority.Index, newest.Head.Size)
	}
	// A plan from the head before it, whoever made it.
	old := *found
	checkpoint, err := ledger.ParseCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	old.Head.Size, old.Head.Root = checkpoint.Head.Size, checkpoint.Head.Root
	_, err = n.Recover(c.Recovery(&old, []string{n.Record.Name}, nil, nil), &old)
	var refused *replica.RecoverError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "make a new plan") {
		t.Errorf("a recovery from before the newest link: %v", err)
	}
}

func idOf(t *testing.T, envelope []byte) ledger.Hash {
	t.Helper()
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return st.ID
}
