package fsm

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// checkReplays derives a world's entries again, and from a snapshot at every
// seal, and compares.
func checkReplays(t failer, w *world) {
	t.Helper()
	trust := trusting{}
	r, err := NewReplayer(w.entry0, trust)
	if err != nil {
		t.Fatal(err)
	}
	type point struct {
		at    int
		state *State
	}
	snapshots := []point{}
	for i, entry := range w.entries {
		if err := r.Add(entry); err != nil {
			t.Fatalf("replay: %v", err)
		}
		e, err := ledger.ParseEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == ledger.KindSeal {
			loaded := reload(t, r.State(), e)
			sameState(t, r.State(), loaded)
			snapshots = append(snapshots, point{i + 1, loaded})
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	sameState(t, w.state, r.State())
	for _, p := range snapshots {
		s, err := Replay(p.state, func(yield func([]byte, error) bool) {
			for _, entry := range w.entries[p.at:] {
				if !yield(entry, nil) {
					return
				}
			}
		}, trust)
		if err != nil {
			t.Fatalf("replay after the snapshot at entry %d: %v", p.at, err)
		}
		sameState(t, w.state, s)
	}
}

// reload dumps a state that was just sealed, and loads it.
func reload(t failer, s *State, seal *ledger.Entry) *State {
	t.Helper()
	names, values := dump(t, s)
	loaded, err := Load(func(yield func(string, []byte) bool) {
		for _, name := range names {
			if !yield(name, values[name]) {
				return
			}
		}
	}, seal)
	if err != nil {
		t.Fatalf("load at entry %d: %v", seal.Seq, err)
	}
	return loaded
}

// trusting is a verifier for entries that were verified once.
type trusting struct{}

func (trusting) Verify(*ledger.Statement, []byte) bool { return true }

func (trusting) Possesses(public, message, proof []byte) bool { return true }

func sameState(t failer, a, b *State) {
	t.Helper()
	if a.Digest() != b.Digest() || a.next != b.next || a.prev != b.prev || a.stamp != b.stamp {
		t.Fatalf("states differ: entry %d digest %s, entry %d digest %s", a.next, a.Digest(), b.next, b.Digest())
	}
	if a.sealed != b.sealed || a.urgent != b.urgent || a.pending != b.pending || !slices.Equal(a.causes, b.causes) {
		t.Fatalf("states differ in what is not in records: %+v %+v", [...]any{a.sealed, a.urgent, a.pending, a.causes}, [...]any{b.sealed, b.urgent, b.pending, b.causes})
	}
	for name, pair := range map[string][2]map[string]uint64{
		"due":    {timesOf(a.index.due.Root().Walk), timesOf(b.index.due.Root().Walk)},
		"lapses": {timesOf(a.index.lapses.Root().Walk), timesOf(b.index.lapses.Root().Walk)},
	} {
		if !maps.Equal(pair[0], pair[1]) {
			t.Fatalf("the index %s differs", name)
		}
	}
	counts := func(s *State) map[string]uint64 {
		all := map[string]uint64{}
		s.index.counts.Root().Walk(func(key []byte, n uint64) bool { all[string(key)] = n; return false })
		return all
	}
	if !maps.Equal(counts(a), counts(b)) {
		t.Fatalf("the counts differ: %v %v", counts(a), counts(b))
	}
}

func timesOf[F ~func([]byte, string) bool](walk func(F)) map[string]uint64 {
	times := map[string]uint64{}
	walk(func(key []byte, name string) bool { times[name] = timeOf(key); return false })
	return times
}

func TestReplayNamesTheFirstBadEntry(t *testing.T) {
	w := newWorld(t, defaultGenesis())
	p := w.propose("alice", "operator.add", operatorArgs{Name: "delta"})
	w.submit(p, w.ballot("bob", ledger.TypeApprove, p))
	w.apply(ledger.CommandSeal)
	w.now += 600_000
	w.submit(w.sign(saying{author: "r1", typ: ledger.TypeRecord, body: ledger.Record{Text: "hello"}}))
	w.apply(ledger.CommandSeal)
	// 1 propose, 2 approve, 3 decision, 4 executed, 5 seal, 6 epoch, 7 record, 8 seal

	for _, c := range []struct {
		name   string
		spoil  func(entries [][]byte) [][]byte
		seq    uint64
		saying string
	}{
		{"a flipped signature", func(e [][]byte) [][]byte { e[1][len(e[1])-1] ^= 1; return e }, 2, "bad_signature"},
		{"another effect", func(e [][]byte) [][]byte { e[2][len(e[2])-40] ^= 1; return e }, 3, "the rules give"},
		{"another digest", func(e [][]byte) [][]byte {
			i := strings.Index(string(e[4]), `"digest":"`) + 12
			e[4][i] = e[4][i]%26 + 'a'
			return e
		}, 5, "the rules give"},
		{"a missing entry", func(e [][]byte) [][]byte { return slices.Delete(e, 3, 4) }, 4, "entry 5"},
		{"a statement twice", func(e [][]byte) [][]byte { return restamp(t, slices.Insert(e, 6, e[0])) }, 7, "entry 1 already"},
		{"an effect from nowhere", func(e [][]byte) [][]byte { return restamp(t, slices.Insert(e, 7, e[5])) }, 8, "nothing before it causes"},
		{"an end too early", func(e [][]byte) [][]byte { return e[:2] }, 3, "ends before"},
		{"a second genesis", func(e [][]byte) [][]byte {
			g, err := (&ledger.Entry{Seq: 6, Stamp: w.now, Kind: ledger.KindGenesis, Content: []byte("{}")}).Encode()
			if err != nil {
				t.Fatal(err)
			}
			return slices.Insert(e[:5], 5, g)
		}, 6, "can't stand here"},
		{"no entry", func(e [][]byte) [][]byte { e[0] = []byte("nonsense"); return e }, 1, "parse entry"},
	} {
		entries := [][]byte{}
		for _, entry := range w.entries {
			entries = append(entries, slices.Clone(entry))
		}
		s, err := New(w.entry0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Replay(s, func(yield func([]byte, error) bool) {
			for _, entry := range c.spoil(entries) {
				if !yield(entry, nil) {
					return
				}
			}
		}, NewDirectVerifier(16))
		var bad *ReplayError
		if !errors.As(err, &bad) {
			t.Errorf("%s: replay found nothing: %v", c.name, err)
			continue
		}
		if bad.Seq != c.seq || !strings.Contains(bad.Error(), c.saying) {
			t.Errorf("%s: got %q, want entry %d and %q", c.name, bad.Error(), c.seq, c.saying)
		}
	}
}

// restamp numbers and chains entries anew, so that only what they say is wrong.
func restamp(t *testing.T, entries [][]byte) [][]byte {
	t.Helper()
	g := defaultGenesis()
	entry0, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	prev, stamp := ledger.LeafHash(entry0), uint64(0)
	for i := range entries {
		e, err := ledger.ParseEntry(entries[i])
		if err != nil {
			t.Fatal(err)
		}
		stamp = max(stamp, e.Stamp)
		e.Seq, e.Prev, e.Stamp = uint64(i+1), prev, stamp
		if entries[i], err = e.Encode(); err != nil {
			t.Fatal(err)
		}
		prev = ledger.LeafHash(entries[i])
	}
	return entries
}
