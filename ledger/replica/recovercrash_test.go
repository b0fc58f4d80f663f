package replica_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// A recovery is cut off after each of its steps. Done again, or, once it is
// decided, simply started, the replica is a member of the new generation, and
// what it had beyond the head is kept aside.
func TestRecoverCrash(t *testing.T) {
	r := loseThree(t, nil)
	tail := appendTail(t, r)
	if plan := r.left.Survey(); plan.Uncertain != 1 || plan.Head != r.plan.Head {
		t.Fatalf("with a statement beyond the head: %+v", plan)
	}
	statements := r.statements(nil)
	r.Generation = 1
	whole := r.left.Dir
	cut := errors.New("cut off")
	steps := []string{"prepared", "decided", "archive.old", "archive", "raft.old", "raft", "certified", "head", "handovers"}
	for i, step := range steps {
		r.left.Dir = filepath.Join(t.TempDir(), "r")
		if err := os.CopyFS(r.left.Dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		o := replica.RecoverOptions{Dir: r.left.Dir, Name: r.left.Record.Name, Genesis: r.Entry, Key: r.left.Key.Public(), Statements: statements}
		o.CrashAt(step, cut)
		if _, err := replica.Recover(r.Context(), o); !errors.Is(err, cut) {
			t.Fatalf("%s: %v", step, err)
		}
		if step == "archive.old" {
			if s := r.left.Survey(); s.Recovered != 1 || s.Head != r.plan.Head {
				t.Errorf("a survey of what was cut off: %+v", s)
			}
		}
		if again := i%2 == 0; again {
			report, err := r.left.Recover(statements, nil)
			if err != nil {
				t.Fatalf("%s: again: %v", step, err)
			}
			if report.Already != (step != "prepared") || report.Dropped != 1 {
				t.Errorf("%s: again: %+v", step, report)
			}
			kept, err := os.ReadFile(filepath.Join(report.Folder, "dropped.cose"))
			if err != nil || string(kept) != string(tail) {
				t.Errorf("%s: kept aside: %d bytes, want %d, %v", step, len(kept), len(tail), err)
			}
		}
		r.left.Start()
		r.left.Await("the new branch is certified after "+step, func(s replica.Status) bool {
			return s.Generation == 1 && s.Certified > r.plan.Head.Size && s.Authority == 1
		})
		if err := r.left.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

// appendTail adds to the one that is left an entry that was applied and not
// certified, and gives its statement.
func appendTail(t *testing.T, r *recovering) []byte {
	t.Helper()
	a, err := replica.OpenArchive(r.left.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	last, err := a.Entry(a.Size() - 1) // a seal that is not certified may follow the head
	if err != nil {
		t.Fatal(err)
	}
	before, err := ledger.ParseEntry(last)
	if err != nil {
		t.Fatal(err)
	}
	statement := r.Record(r.Council[0], "committed and not certified")
	e := ledger.Entry{Seq: a.Size(), Stamp: before.Stamp, Prev: ledger.LeafHash(last), Kind: ledger.KindStatement, Content: statement}
	entry, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Append(e.Seq, entry); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sync(); err != nil {
		t.Fatal(err)
	}
	return statement
}

// Nobody opens the data while a recovery replaces it, at no step of it.
func TestRecoverLocks(t *testing.T) {
	r := loseThree(t, nil)
	appendTail(t, r)
	o := replica.RecoverOptions{Dir: r.left.Dir, Name: r.left.Record.Name, Genesis: r.Entry, Key: r.left.Key.Public(), Statements: r.statements(nil)}
	steps := 0
	o.OnStep(func(step string) error {
		steps++
		if _, err := replica.Survey(r.left.Dir, r.Entry); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("%s: the data was read: %v", step, err)
		}
		if err := r.left.TryStart(); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("%s: the replica was opened: %v", step, err)
		}
		return nil
	})
	if _, err := replica.Recover(r.Context(), o); err != nil || steps < 9 {
		t.Fatalf("after %d steps: %v", steps, err)
	}
	r.left.Start()
}
