package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

func sealedWorld(t *testing.T) (*world, *ledger.Entry) {
	w := newWorld(t, defaultGenesis())
	p := w.propose("alice", "operator.add", operatorArgs{Name: "delta"})
	w.submit(p)
	w.apply(ledger.CommandSeal)
	e, err := ledger.ParseEntry(w.entries[len(w.entries)-1])
	if err != nil {
		t.Fatal(err)
	}
	return w, e
}

// A state can't be smuggled in under a certified head.
func TestLoadRefusesOtherRecords(t *testing.T) {
	w, seal := sealedWorld(t)
	names, values := dump(t, w.state)
	for _, c := range []struct {
		name   string
		spoil  func(names []string, values map[string][]byte) []string
		saying string
	}{
		{"a changed record", func(n []string, v map[string][]byte) []string {
			v["operator/alpha"] = bytes.Replace(v["operator/alpha"], []byte(`"since":0`), []byte(`"since":1`), 1)
			return n
		}, "digest"},
		{"a record less", func(n []string, _ map[string][]byte) []string { return n[1:] }, "missing"},
		{"a node less", func(n []string, _ map[string][]byte) []string { return n[:len(n)-1] }, "digest"},
		{"a record more", func(n []string, v map[string][]byte) []string {
			v["window/zed"] = []byte(`{"bits":"","count":0,"epoch":0,"last":"` + strings.Repeat("A", 43) + `","last_seq":0,"top":0}`)
			return append(n, "window/zed")
		}, "digest"},
		{"a table that is none", func(n []string, v map[string][]byte) []string {
			v["zoo/lion"] = []byte("{}")
			return append(n, "zoo/lion")
		}, "no such table"},
		{"not canonical", func(n []string, v map[string][]byte) []string {
			v["operator/alpha"] = append(v["operator/alpha"], ' ')
			return n
		}, "operator/alpha"},
		{"out of order", func(n []string, _ map[string][]byte) []string { return append([]string{n[1], n[0]}, n[2:]...) }, "out of order"},
		{"twice", func(n []string, _ map[string][]byte) []string { return append([]string{n[0]}, n...) }, "out of order"},
	} {
		spoilt := map[string][]byte{}
		for name, value := range values {
			spoilt[name] = bytes.Clone(value)
		}
		order := c.spoil(append([]string{}, names...), spoilt)
		_, err := Load(func(yield func(string, []byte) bool) {
			for _, name := range order {
				if !yield(name, spoilt[name]) {
					return
				}
			}
		}, seal)
		if err == nil || !strings.Contains(err.Error(), c.saying) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.saying)
		}
	}
	if _, err := Load(func(func(string, []byte) bool) {}, &ledger.Entry{Kind: ledger.KindEffect}); err == nil {
		t.Error("loaded at an entry that is no seal")
	}
}

// A single record, or its absence, is proven against a seal's digest.
func TestProveRecords(t *testing.T) {
	w, seal := sealedWorld(t)
	content, err := seal.Seal()
	if err != nil {
		t.Fatal(err)
	}
	names, _ := dump(t, w.state)
	for _, key := range append(names, "node/edge-1", "council/zed", "nowhere") {
		p, err := w.state.Prove(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(content.Digest); err != nil {
			t.Errorf("proof of %s: %v", key, err)
		}
		value, there := w.state.Record(key)
		if there != (p.Value != nil) || !bytes.Equal(value, p.Value) {
			t.Errorf("the proof of %s has another value", key)
		}
	}
	if _, err := w.state.Prove("node/\x00"); err == nil {
		t.Error("proved a key that can't be")
	}
}

func TestNewRefusesGenesis(t *testing.T) {
	for name, spoil := range map[string]func(*ledger.Genesis){
		"made before any date": func(g *ledger.Genesis) { g.Created = 0 },
		"made beyond any date": func(g *ledger.Genesis) { g.Created = maxStamp + 1 },
		"too many operators": func(g *ledger.Genesis) {
			for i := range maxOperators {
				g.Operators = append(g.Operators, ledger.Operator{Name: fmt.Sprintf("zeta-%04d", i)})
			}
		},
	} {
		g := defaultGenesis()
		spoil(g)
		entry, err := g.Entry()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(entry); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New([]byte("nonsense")); err == nil {
		t.Error("nonsense accepted")
	}
}
