package ledger

import (
	"strings"
	"testing"
)

func TestCosignThreshold(t *testing.T) {
	for n, want := range map[int][2]int{0: {0, 1}, 1: {0, 1}, 2: {0, 2}, 3: {0, 2}, 4: {1, 3}, 5: {1, 4}, 6: {1, 4}, 7: {2, 5}, 10: {3, 7}, 31: {10, 21}} {
		if f, threshold := Faults(n), CosignThreshold(n); f != want[0] || threshold != want[1] {
			t.Errorf("%d replicas: %d may lie, %d certify; want %v", n, f, threshold, want)
		}
		// Two certified heads share a replica that doesn't lie, and the honest
		// alone can certify.
		if n > 0 && (2*CosignThreshold(n)-n <= Faults(n) || n-Faults(n) < CosignThreshold(n)) {
			t.Errorf("%d replicas: the threshold does not do what it is for", n)
		}
	}
}

func TestGenesisIsRefused(t *testing.T) {
	vkey := LogVKey("witness.test/w", newWorld(t, 1).genesis.Log)
	for _, c := range []struct {
		why    string
		change func(g *Genesis)
	}{
		{"sponsor", func(g *Genesis) { g.Operators[3].Sponsor = "nobody" }},
		{"sponsor", func(g *Genesis) { g.Operators[3].Sponsor = "dune" }},
		{"no governor is named", func(g *Genesis) { g.Policy.Rules["node.admit"] = Rule{Threshold: 2, Vetoers: []string{"dave"}} }},
		{"vetoers: must be sorted", func(g *Genesis) {
			g.Policy.Rules["node.admit"] = Rule{Threshold: 2, Vetoers: []string{"bob", "alice"}}
		}},
		{"vkey", func(g *Genesis) { g.Witnesses = []Witness{{Name: "w", VKey: "w"}} }},
		{"witnesses", func(g *Genesis) { g.Witnesses = []Witness{{Name: "W", VKey: vkey}} }},
		{"w appears twice", func(g *Genesis) { g.Witnesses = []Witness{{Name: "w", VKey: vkey}, {Name: "w", VKey: vkey}} }},
		{"witness_quorum", func(g *Genesis) { g.Witnesses, g.WitnessQuorum = []Witness{{Name: "w", VKey: vkey}}, 2 }},
		{"also the address of", func(g *Genesis) {
			g.Replicas = append(g.Replicas, testReplica("zoe", "core", "zoe"))
			g.Replicas[1].Peer = g.Replicas[0].Peer
		}},
		{"tls_pin is also that of", func(g *Genesis) {
			g.Replicas = append(g.Replicas, testReplica("zoe", "core", "zoe"))
			g.Replicas[1].TLSPin = g.Replicas[0].TLSPin
		}},
		{"at most 65535", func(g *Genesis) {
			for len(g.Replicas) < 20 {
				name := "s" + string(rune('a'+len(g.Replicas)))
				g.Replicas = append(g.Replicas, testReplica(name, "core", name))
			}
		}},
	} {
		g := newWorld(t, 1).genesis
		c.change(g)
		if _, err := g.Entry(); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("want %q in: %v", c.why, err)
		}
	}
	g := newWorld(t, 1).genesis
	g.Witnesses, g.WitnessQuorum = []Witness{{Name: "w", VKey: vkey}}, 1
	g.Policy.Rules["node.admit"] = Rule{Threshold: 2, Vetoers: []string{"alice", "bob"}}
	if _, err := g.Entry(); err != nil {
		t.Error(err)
	}
}

func TestHashText(t *testing.T) {
	h := Hash{0xab, 1}
	if got, err := ParseHash(h.String()); err != nil || got != h {
		t.Errorf("%s reads back as %s: %v", h, got, err)
	}
	for _, s := range []string{"", h.String()[1:], strings.ToUpper(h.String()), "g" + h.String()[1:], h.String() + "00"} {
		if _, err := ParseHash(s); err == nil {
			t.Errorf("%q is read", s)
		}
	}
}
