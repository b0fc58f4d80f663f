package agent

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// history is a ledger as replicas serve it.
type history struct {
	cluster *replicatest.Cluster
	links   [][]byte
	entries [][]byte // from 1 on
	note    []byte
	url     string // of a replica's API
}

func newHistory(t *testing.T) *history {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	h := &history{cluster: replicatest.Start(t, 3, nil)}
	leader := h.cluster.Leader()
	for _, text := range []string{"one", "two", "three", "four"} {
		h.cluster.Submit(leader, replica.WaitCertified, h.cluster.Record(h.cluster.Council[0], text))
	}
	s, err := api.New(api.FromReplica(leader.Replica), api.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	c, err := client.New(client.Options{Servers: []string{server.URL}, Genesis: h.cluster.Hash})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	head, err := c.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Entries(t.Context(), 1, client.MaxEntriesPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		h.entries = append(h.entries, e.Entry)
	}
	if uint64(len(h.entries)) != head.Size-1 {
		t.Fatalf("%d entries of %d", len(h.entries), head.Size-1)
	}
	h.links, h.note, h.url = c.Links(), head.Note, server.URL
	return h
}

// certify has all replicas sign a head of these entries.
func (h *history) certify(t *testing.T, entries [][]byte, signed time.Time) []byte {
	t.Helper()
	var f archive.Frontier
	f.Append(tlog.Hash(h.cluster.Hash))
	for _, e := range entries {
		f.Append(tlog.Hash(ledger.LeafHash(e)))
	}

	c := &ledger.Checkpoint{Head: ledger.Head{Origin: h.cluster.Genesis.Origin, Size: f.Size, Root: ledger.Hash(f.Root())}}
	for _, r := range h.cluster.Replicas {
		c.Add(ledger.Cosign(h.cluster.Hash, r.Key, r.Key.Cosigner44(), r.Record.Name, c.Head, uint64(signed.Unix())))
	}
	return c.Note()
}

func (h *history) chronicle(t *testing.T) *chronicle {
	t.Helper()
	c := newChronicle(h.cluster.Hash, fsm.NewDirectVerifier(unpackedKeys))
	for _, raw := range h.links {
		if err := c.addLink(raw); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (h *history) follow(t *testing.T, c *chronicle, entries [][]byte, note []byte) (bool, error) {
	t.Helper()
	for _, raw := range entries {
		if err := c.add(raw); err != nil {
			t.Fatal(err)
		}
	}
	verified, err := c.verifyHead(note)
	if err != nil {
		return false, err
	}
	return c.settle(verified)
}

// altered is the history with another seal at its end, well formed and chained.
func (h *history) altered(t *testing.T) [][]byte {
	t.Helper()
	return h.alteredAt(t, len(h.entries)-1)
}

// alteredAt is the history up to a seal, and another one in its place.
func (h *history) alteredAt(t *testing.T, last int) [][]byte {
	t.Helper()
	e, err := ledger.ParseEntry(h.entries[last])
	if err != nil {
		t.Fatal(err)
	}
	seal, err := e.Seal()
	if err != nil {
		t.Fatal(err)
	}
	seal.Digest[0] ^= 1
	if e.Content, err = canon.Marshal(seal); err != nil {
		t.Fatal(err)
	}
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(append([][]byte(nil), h.entries[:last]...), raw)
}

// seals are where in entries the seals are.
func (h *history) seals(t *testing.T) []int {
	t.Helper()
	var at []int
	for i, raw := range h.entries {
		e, err := ledger.ParseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == ledger.KindSeal {
			at = append(at, i)
		}
	}
	if len(at) < 4 {
		t.Fatalf("%d seals", len(at))
	}
	return at
}

// What a source says is believed once a certified head covers it, and not before;
// a lie is forgotten, and contradictions of what is certified are alarms.
func TestOneGate(t *testing.T) {
	h := newHistory(t)
	size := uint64(len(h.entries) + 1)

	t.Run("believed when certified", func(t *testing.T) {
		c := h.chronicle(t)
		for _, raw := range h.entries {
			if err := c.add(raw); err != nil {
				t.Fatal(err)
			}
		}
		if c.size() != 1 {
			t.Fatalf("%d entries were believed without a head", c.size())
		}
		if changed, err := h.follow(t, c, nil, h.note); err != nil || !changed || c.size() != size || c.state.Next() != size {
			t.Fatalf("changed %v, %v, size %d of %d", changed, err, c.size(), size)
		}
		if _, err := h.follow(t, c, nil, h.certify(t, h.entries, time.Now())); err != nil {
			t.Fatalf("a fresher signature of the same head: %v", err)
		}
	})

	t.Run("a lie is forgotten", func(t *testing.T) {
		c := h.chronicle(t)
		_, err := h.follow(t, c, h.altered(t), h.note)
		var lie *lieError
		if !errors.As(err, &lie) || c.size() != 1 || c.next() != 1 {
			t.Fatalf("%v, size %d, next %d", err, c.size(), c.next())
		}
		if changed, err := h.follow(t, c, h.entries, h.note); err != nil || !changed {
			t.Fatalf("after the lie: %v, %v", changed, err)
		}
	})

	t.Run("a lie does not stand in the way of the truth", func(t *testing.T) {
		c := h.chronicle(t)
		at := h.seals(t)[1]
		for _, raw := range h.alteredAt(t, at) {
			if err := c.add(raw); err != nil {
				t.Fatal(err)
			}
		}
		var lie *lieError
		if err := c.add(h.entries[at+1]); !errors.As(err, &lie) || c.next() != 1 || c.lies != 1 {
			t.Fatalf("what follows the truth: %v, next %d, %d lies", err, c.next(), c.lies)
		}
		if changed, err := h.follow(t, c, h.entries, h.note); err != nil || !changed {
			t.Fatalf("after the lie: %v, %v", changed, err)
		}
	})

	t.Run("certified entries that do not follow stop enforcement", func(t *testing.T) {
		c := h.chronicle(t)
		untrue := h.altered(t)
		_, err := h.follow(t, c, untrue, h.certify(t, untrue, time.Now()))
		var divergence *DivergenceError
		if !errors.As(err, &divergence) || c.state.Next() != 1 {
			t.Fatalf("%v, state at %d", err, c.state.Next())
		}
	})

	t.Run("a certified head that contradicts ours", func(t *testing.T) {
		c := h.chronicle(t)
		if _, err := h.follow(t, c, h.entries, h.note); err != nil {
			t.Fatal(err)
		}
		theirs := h.certify(t, h.altered(t), time.Now())
		_, err := c.verifyHead(theirs)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || string(conflict.Theirs) != string(theirs) || string(conflict.Ours) != string(h.note) {
			t.Fatalf("%v", err)
		}
		short := h.altered(t)[:len(h.entries)-1] // ends in no seal: our history has none there
		if _, err := c.verifyHead(h.certify(t, short, time.Now())); !errors.As(err, &conflict) {
			t.Fatalf("a head that ends in no seal: %v", err)
		}
	})

	t.Run("a certified head ahead of us that our history contradicts", func(t *testing.T) {
		c := h.chronicle(t)
		short := h.certify(t, h.altered(t)[:len(h.entries)-1], time.Now()) // ends in no seal
		if _, err := c.verifyHead(short); err != nil {
			t.Fatalf("nothing contradicts it yet: %v", err)
		}
		changed, err := h.follow(t, c, h.entries, h.note)
		var conflict *ConflictError
		if !errors.As(err, &conflict) || string(conflict.Theirs) != string(short) || !changed || c.state.Next() != size {
			t.Fatalf("changed %v, %v, state at %d", changed, err, c.state.Next())
		}
		if changed, err := h.follow(t, c, nil, h.certify(t, h.entries, time.Now())); err != nil || changed {
			t.Fatalf("said again: %v, %v", changed, err)
		}
		c = h.chronicle(t)
		theirs := h.certify(t, h.altered(t), time.Now())
		if _, err := c.verifyHead(theirs); err != nil {
			t.Fatal(err)
		}
		if _, err := c.verifyHead(h.note); !errors.As(err, &conflict) || string(conflict.Ours) != string(theirs) {
			t.Fatalf("two heads ahead of us: %v", err)
		}
	})

	t.Run("what a state passed over contradicts nothing", func(t *testing.T) {
		all, whole, c := h.chronicle(t), h.chronicle(t), h.chronicle(t)
		if _, err := h.follow(t, all, h.entries, h.note); err != nil {
			t.Fatal(err)
		}
		upTo := func(c *chronicle, size uint64) {
			t.Helper()
			if _, err := h.follow(t, c, h.entries[c.size()-1:size-1], h.certify(t, h.entries[:size-1], time.Now())); err != nil {
				t.Fatal(err)
			}
		}
		roots := all.seals.roots
		if len(roots) < 4 {
			t.Fatalf("%d seals", len(roots))
		}
		first, between, taken := roots[0].size, roots[1].size, roots[2].size
		upTo(c, first)
		upTo(whole, taken)
		at, err := c.verifyHead(whole.head.note)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.load(at, whole.state, whole.seal, whole.sealProof(), true); err != nil {
			t.Fatal(err)
		}
		upTo(c, size)
		if _, err := c.verifyHead(h.certify(t, h.entries[:between-1], time.Now())); err != nil {
			t.Fatalf("a true head from before the state: %v", err)
		}
	})

	t.Run("a head behind ours changes nothing", func(t *testing.T) {
		c := h.chronicle(t)
		if _, err := h.follow(t, c, h.entries, h.note); err != nil {
			t.Fatal(err)
		}
		old := c.seals.roots[0]
		n := old.size - 1
		if _, err := h.follow(t, c, nil, h.certify(t, h.entries[:n], time.Now())); !errors.Is(err, errBehind) || c.size() != size {
			t.Fatalf("%v, size %d", err, c.size())
		}
	})

	t.Run("a join pack's head must be reached", func(t *testing.T) {
		pack, err := ledger.ParseCheckpoint(h.note)
		if err != nil {
			t.Fatal(err)
		}
		c := h.chronicle(t)
		c.least = &pack.Head
		if _, err := c.verifyHead(h.certify(t, h.entries[:len(h.entries)-1], time.Now())); !errors.Is(err, errBehind) {
			t.Fatalf("a head behind the pack's: %v", err)
		}
		if changed, err := h.follow(t, c, h.entries, h.note); err != nil || !changed {
			t.Fatal(changed, err)
		}
		var lie *lieError
		c = h.chronicle(t)
		other := pack.Head
		other.Root[0] ^= 1
		c.least = &other
		if _, err := h.follow(t, c, h.entries, h.note); !errors.As(err, &lie) || c.reached {
			t.Fatalf("a ledger without the pack's head: %v", err)
		}
	})

	t.Run("a join pack's head must be on the way", func(t *testing.T) {
		whole := h.chronicle(t)
		if _, err := h.follow(t, whole, h.entries, h.note); err != nil {
			t.Fatal(err)
		}
		seal := whole.seals.roots[0] // far below the head
		for _, wrong := range []bool{false, true} {
			c := h.chronicle(t)
			c.least = &ledger.Head{Origin: h.cluster.Genesis.Origin, Size: seal.size, Root: seal.root}
			if wrong {
				c.least.Root[0] ^= 1
			}
			_, err := h.follow(t, c, h.entries, h.note)
			var lie *lieError
			if wrong && !errors.As(err, &lie) || !wrong && err != nil || c.reached == wrong {
				t.Errorf("another root there %v: %v, reached %v", wrong, err, c.reached)
			}
			// A whole state shows nothing of what stands before it.
			c.begin()
			verified, err := c.verifyHead(h.note)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.load(verified, whole.state, whole.seal, whole.sealProof(), false); !errors.Is(err, errUnproven) || c.reached {
				t.Errorf("a peer's state: %v", err)
			}
			if err := c.load(verified, whole.state, whole.seal, whole.sealProof(), true); err != nil || !c.reached {
				t.Errorf("a state whose history was compared: %v", err)
			}
		}
	})

	t.Run("a state begins where a head ends", func(t *testing.T) {
		c := h.chronicle(t)
		if _, err := h.follow(t, c, h.entries, h.note); err != nil {
			t.Fatal(err)
		}
		d := h.chronicle(t)
		verified, err := d.verifyHead(h.note)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.load(verified, c.state, c.seal, c.sealProof()[1:], false); err == nil {
			t.Fatal("a proof that is cut short was taken")
		}
		if err := d.load(verified, c.state, c.seal, c.sealProof(), false); err != nil {
			t.Fatal(err)
		}
		if d.frontier.Root() != c.frontier.Root() || d.size() != size {
			t.Fatalf("it begins at %d with another root", d.size())
		}
	})
}
