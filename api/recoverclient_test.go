package api

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// recover goes on from the certified head with r1 alone, as the next generation.
func (f *fake) recover() {
	f.mu.Lock()
	defer f.mu.Unlock()
	root, err := f.archive.TreeHash(f.state.Next())
	if err != nil {
		f.t.Fatal(err)
	}
	fork, size := f.certified.Checkpoint, f.state.Next()
	body := ledger.Recover{At: f.state.Stamp(), Generation: 1, Keep: []string{"r1"},
		Head: ledger.RecoverHead{Last: f.state.Prev(), Root: ledger.Hash(root), Size: size}}
	sign := func(author, typ string, body any) []byte {
		return f.world.sayAs(f.t, f.world.governors[author], ledger.Payload{Author: author, Ledger: f.world.hash, Type: typ}, body)
	}
	first := sign("alice", ledger.TypeRecover, body)
	next, result := fsm.Apply(f.state, &ledger.Command{Kind: ledger.CommandStatements, Stamp: body.At,
		Statements: [][]byte{first, sign("bob", ledger.TypeApprove, ledger.Ballot{Proposal: idOf(f.t, first)})}}, directVerifier{})
	if next.Meta().Generation != 1 {
		f.t.Fatalf("%+v", result.Verdicts)
	}
	f.state = next
	f.append(result.Entries...)
	f.seal()
	link, err := ledger.ParseLink(f.links[len(f.links)-1])
	if err != nil {
		f.t.Fatal(err)
	}
	path, err := f.archive.ProveConsistency(size, f.state.Next())
	if err != nil {
		f.t.Fatal(err)
	}
	link.Fork = &ledger.Fork{Checkpoint: string(fork)}
	for _, h := range path {
		link.Fork.Proof = append(link.Fork.Proof, ledger.Hash(h))
	}
	if f.links[len(f.links)-1], err = link.Encode(); err != nil {
		f.t.Fatal(err)
	}
}

// leftBranch is a ledger that was recovered, the branch that was left, and a client's
// folder that followed that.
type leftBranch struct {
	world    *world
	f        *fake
	old, now string // servers of the two
	dir      string
	kept     *client.Head
}

// recoveredBeyond is a recovery from a head that so many entries of the old branch follow.
func recoveredBeyond(t *testing.T, beyond int) *leftBranch {
	t.Helper()
	w := newWorld(t)
	l := &leftBranch{world: w, f: fakeOf(t, w), dir: t.TempDir()}
	l.f.submit(w.record(t, "alice", "before"))
	old := l.f.branch()
	for range beyond {
		old.submit(w.record(t, "alice", "on the branch that is left"))
	}
	l.f.recover()
	_, l.old = newLying(t, old)
	_, l.now = newLying(t, l.f)
	var err error
	if l.kept, err = newClient(t, w, l.dir, l.old).Sync(short(t)); err != nil {
		t.Fatal(err)
	}
	return l
}

// A client that followed an old majority beyond the head from which the council
// went on follows the higher generation, says what it left, and never goes back.
func TestClientFollowsRecovery(t *testing.T) {
	for _, beyond := range []int{0, 1, 9} {
		branch := recoveredBeyond(t, beyond)
		w, a, b, dir, kept := branch.world, branch.old, branch.now, branch.dir, branch.kept
		c := newClient(t, w, dir, b)
		head, err := c.Sync(short(t))
		if err != nil {
			t.Fatalf("beyond by %d: %v", beyond, err)
		}
		if head.Authority.Generation != 1 || len(c.Links()) != 2 {
			t.Errorf("generation %d, %d links", head.Authority.Generation, len(c.Links()))
		}
		left := c.Left()
		if (left != nil) != (beyond > 0) || left != nil && (left.Size != kept.Size || left.Generation != 1 || left.Fork.Size >= left.Size) {
			t.Errorf("beyond by %d: it says that it left %+v", beyond, left)
		}
		notes, err := filepath.Glob(filepath.Join(dir, w.hash.String(), "left-*"))
		if err != nil || len(notes) != min(beyond, 1) {
			t.Errorf("beyond by %d: kept %v, %v", beyond, notes, err)
		}
		// After a restart, whatever the old majority shows.
		again := newClient(t, w, dir, a)
		var proof *client.ProofError
		var rollback *client.RollbackError
		if _, err := again.Sync(short(t)); !errors.As(err, &proof) && !errors.As(err, &rollback) {
			t.Errorf("beyond by %d: the old majority is answered with %v", beyond, err)
		}
		if now := again.Left(); (now != nil) != (beyond > 0) || now != nil && (now.Size != kept.Size || now.Fork != left.Fork || now.Generation != 1) {
			t.Errorf("beyond by %d: after a restart it says that it left %+v", beyond, now)
		}
		var across *client.RecoveredError
		_, err = again.Sync(short(t))
		if errors.As(err, &across) != (beyond > 0) {
			t.Errorf("beyond by %d: the error does not name the recovery: %v", beyond, err)
		} else if beyond > 0 && (!across.Ours || across.Index != 1 || across.Generation != 1 || across.Fork != left.Fork || across.Offered != kept.Size) {
			t.Errorf("beyond by %d: %+v", beyond, across)
		}
		if head, err := newClient(t, w, dir, a, b).Sync(short(t)); err != nil || head.Authority.Generation != 1 {
			t.Errorf("beyond by %d: with both: %v", beyond, err)
		}
		if _, err := os.Stat(filepath.Join(dir, w.hash.String(), "head")); err != nil {
			t.Error(err)
		}
	}
}

// branch is another ledger with all that f has so far.
func (f *fake) branch() *fake {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := archive.Open(f.t.TempDir(), archive.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	if t, ok := f.t.(*testing.T); ok {
		t.Cleanup(func() { a.Close() })
	}
	b := &fake{t: f.t, world: f.world, archive: a, state: f.state, certified: f.certified, links: slices.Clone(f.links),
		changed: make(chan struct{}), status: f.status}
	err = f.archive.Entries(0, f.archive.Size(), func(_ uint64, entry []byte) error {
		b.append(bytes.Clone(entry))
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// A client that followed the old branch through a handover of its own learns which
// recovery it is that the servers follow, and whether its council approved of it.
func TestClientBeyondAnotherHandover(t *testing.T) {
	for _, c := range []struct {
		leaves string
		former bool
	}{{"carol", false}, {"alice", true}} {
		w := newWorld(t)
		f := fakeOf(t, w)
		f.submit(w.record(t, "alice", "before"))
		old := f.branch()
		p := old.propose("alice", "council.change", map[string]any{"remove": []string{c.leaves}})
		old.submit(p, w.ballot(t, "bob", ledger.TypeApprove, p))
		f.recover()
		_, a := newLying(t, old)
		_, b := newLying(t, f)
		dir := t.TempDir()
		kept, err := newClient(t, w, dir, a).Sync(short(t))
		if err != nil || kept.Authority.Index != 1 || kept.Authority.Generation != 0 {
			t.Fatalf("without %s: %+v, %v", c.leaves, kept, err)
		}
		_, err = newClient(t, w, dir, b).Sync(short(t))
		var across *client.RecoveredError
		var proof *client.ProofError
		if !errors.As(err, &across) || !errors.As(err, &proof) {
			t.Fatalf("without %s: the error does not name the recovery: %v", c.leaves, err)
		}
		if across.Ours || across.Index != 1 || across.Generation != 1 || across.Fork.Size >= kept.Size || across.Kept != kept.Size || (across.Former != nil) != c.former {
			t.Errorf("without %s: %+v", c.leaves, across)
		}
	}
}

// givenLinks is newClient with a chain and a head that are known otherwise, as of a
// join pack.
func givenLinks(t *testing.T, f *fake, dir, server string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Servers: []string{server}, Genesis: f.world.hash, TrustDir: dir, Links: f.links, MinHead: f.certified.Checkpoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A client that is given the recovery's link, as an agent by a new join pack, follows
// it as if a server had shown it, and its folder stays good.
func TestClientIsGivenARecovery(t *testing.T) {
	for _, beyond := range []int{0, 1, 9} {
		branch := recoveredBeyond(t, beyond)
		w, f, b, dir, kept := branch.world, branch.f, branch.now, branch.dir, branch.kept
		for _, c := range []*client.Client{givenLinks(t, f, dir, b), givenLinks(t, f, dir, b), newClient(t, w, dir, b)} {
			head, err := c.Sync(short(t))
			if err != nil || head.Authority.Generation != 1 {
				t.Fatalf("beyond by %d: %+v, %v", beyond, head, err)
			}
			if left := c.Left(); (left != nil) != (beyond > 0) || left != nil && (left.Size != kept.Size || left.Generation != 1) {
				t.Errorf("beyond by %d: it says that it left %+v", beyond, left)
			}
		}
	}
}

// A link that is given is compared with the first head that a server shows, also
// below the head that the folder keeps.
func TestClientComparesGivenLinks(t *testing.T) {
	w := newWorld(t)
	f := fakeOf(t, w)
	f.submit(w.record(t, "alice", "before"))
	other := f.branch()
	p := f.propose("alice", "council.change", map[string]any{"remove": []string{"carol"}})
	f.submit(p, w.ballot(t, "bob", ledger.TypeApprove, p))
	for range 9 {
		other.submit(w.record(t, "alice", "of another history, with the same replicas' cosignatures"))
	}
	_, a := newLying(t, other)
	dir := t.TempDir()
	kept, err := newClient(t, w, dir, a).Sync(short(t))
	if err != nil || kept.Size <= f.certified.Size {
		t.Fatalf("%+v, %v", kept, err)
	}
	for run := range 2 {
		c, err := client.New(client.Options{Servers: []string{a}, Genesis: w.hash, TrustDir: dir, Links: f.links})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		var equivocation *client.EquivocationError
		if _, err := c.Sync(short(t)); !errors.As(err, &equivocation) {
			t.Errorf("run %d: it goes on beside the given link: %v", run, err)
		}
	}
}

// A recovery that can't be kept, as on a full disk, is followed once it can.
func TestClientFollowsRecoveryLater(t *testing.T) {
	w := newWorld(t)
	f := fakeOf(t, w)
	f.submit(w.record(t, "alice", "before"))
	old := f.branch()
	old.submit(w.record(t, "alice", "on the branch that is left"))
	f.recover()
	_, a := newLying(t, old)
	l, b := newLying(t, f)
	dir := t.TempDir()
	kept, err := newClient(t, w, dir, a).Sync(short(t))
	if err != nil {
		t.Fatal(err)
	}
	// Nothing can be renamed over a folder, which goes as the client asks again.
	inTheWay := filepath.Join(dir, w.hash.String(), fmt.Sprintf("left-%d", kept.Size))
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	l.lie("/authority/1", func(link []byte) []byte {
		if asked.Add(1) == 2 {
			if err := os.Remove(inTheWay); err != nil {
				t.Error(err)
			}
		}
		return link
	})
	c := newClient(t, w, dir, b)
	head, err := c.Sync(short(t))
	if err != nil || head.Authority.Generation != 1 || c.Left() == nil || c.Left().Size != kept.Size {
		t.Errorf("once it can be kept: %+v, left %+v, %v", head, c.Left(), err)
	}
	if asked.Load() < 2 {
		t.Error("it was kept at once")
	}
}
