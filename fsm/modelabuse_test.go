package fsm

import (
	"testing"

	"github.com/quorate/quorate/ledger"
)

// What was found by simulating and is mended: each of these failed once.

// Accusing everybody costs nothing; it must not keep them from accusing in
// return, or one operator's nodes would be safe from any verdict.
func TestAccusingEverybodyShieldsNobody(t *testing.T) {
	m := newModel(t, 25, 4)
	m.epoch()
	for i := 1; i < 25; i++ {
		for j := range 4 {
			victim := nodeName(i, j)
			for _, w := range m.monitors(victim) {
				if w.Operator == operatorName(0) {
					m.observe(w.Node, ledger.NodeBad, victim, 0)
				}
			}
		}
	}
	for _, w := range m.monitors("n-00-0") {
		if code := m.observe(w.Node, ledger.NodeBad, "n-00-0", 0); code != OK {
			t.Fatalf("%s about its slanderer: %s", w.Node, code)
		}
	}
	if m.count(EffectVerdict, nil) != 1 {
		t.Error("no verdict on the slanderer")
	}
}

// Six operators switch a quarter of the fleet off, their own nodes, which is a
// partition; what the rest of theirs do is found bad as ever.
func TestPartitionShieldsNobody(t *testing.T) {
	m := newModel(t, 25, 4)
	m.epoch()
	for i := range 6 {
		for j := range 4 {
			if i == 0 && j == 0 {
				continue
			}
			for _, w := range m.monitors(nodeName(i, j)) {
				if operatorOf(w.Node) >= 6 {
					m.observe(w.Node, ledger.NodeDown, nodeName(i, j), 0)
				}
			}
		}
	}
	if m.count(EffectPartition, nil) != 1 {
		t.Fatal("a quarter of the fleet is down, and it is no partition")
	}
	for _, w := range m.monitors("n-00-0") {
		m.observe(w.Node, ledger.NodeBad, "n-00-0", 0)
	}
	if m.count(EffectOffence, nil) != 1 {
		t.Error("what a partition's other side does is free")
	}
}

// A node that restarts is seen down by some and up by all a little later. Nobody
// said anything that is false, however often it happens.
func TestARestartConvictsNobody(t *testing.T) {
	m := newModel(t, 25, 4)
	for range 8 {
		m.epoch()
		monitors := m.monitors("n-00-0")
		for _, w := range monitors[:6] {
			m.observe(w.Node, ledger.NodeDown, "n-00-0", 1)
		}
		m.now += 3 * m.policy.TickMillis
		for _, w := range monitors[6:] {
			m.observe(w.Node, ledger.NodeUp, "n-00-0", 1)
		}
	}
	if n := m.count(EffectOffence, nil); n != 0 {
		t.Errorf("%d offences", n)
	}
}

// One draw that falls to a coalition costs its victim one verdict, not its
// place.
func TestOneDrawGivesOneVerdict(t *testing.T) {
	m := newModel(t, 25, 4)
	m.epoch()
	for range 5 {
		for _, w := range m.monitors("n-00-0") {
			m.observe(w.Node, ledger.NodeBad, "n-00-0", 0)
		}
		m.now += m.policy.TickMillis
	}
	if n := m.count(EffectVerdict, nil); n != 1 {
		t.Errorf("%d verdicts in one epoch", n)
	}
	if r := m.reputation("n-00-0").Reputation; r != m.protect.VoteReputation-m.protect.BadPoints {
		t.Errorf("reputation %d", r)
	}
}

// A node whose own network fails finds everybody down at once. It is one
// mistake, and the first is free; it is excluded for none.
func TestALostNodeIsForgiven(t *testing.T) {
	m := newModel(t, 25, 4)
	m.epoch()
	accused := 0
	for i := 1; i < 25; i++ {
		for j := range 4 {
			subject := nodeName(i, j)
			monitors := m.monitors(subject)
			for _, w := range monitors {
				if w.Node == "n-00-0" {
					accused++
					m.slander(func(name string) bool { return name == "n-00-0" }, ledger.NodeDown, subject)
				}
			}
		}
	}
	if accused < 5 {
		t.Fatalf("it watches %d", accused)
	}
	if n := m.count(EffectOffence, nil); n != 0 || m.reputation("n-00-0").Misses != 1 {
		t.Errorf("%d offences, %d misses for %d accusations", n, m.reputation("n-00-0").Misses, accused)
	}
}
