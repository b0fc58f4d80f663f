package fsm

import (
	"testing"

	"github.com/quorate/quorate/ledger"
)

// link tells whether the ledger holds a link for down.
func (m *model) link(a, b string) bool {
	r, ok := lookup[LinkRecord](&m.state.view, linkOf(a, b))
	return ok && r.Down
}

// found has as many of a node's monitors say it as make a verdict.
func (m *model) found(kind, subject string) {
	for _, w := range m.monitors(subject) {
		m.observe(w.Node, kind, subject, 1)
	}
}

// One end says that a link is down, or both do, truly or not. No story costs
// anybody anything, and none but the ends' own link is touched.
func TestModelLinkDisputes(t *testing.T) {
	const liar, honest, other = "n-24-0", "n-00-0", "n-01-0"
	for _, c := range []struct {
		name  string
		story func(m *model)
		down  bool
		links int // effects
	}{
		{"one end lies, for 100 epochs", func(m *model) {
			for range 100 {
				m.epoch()
				m.observe(liar, ledger.LinkDown, honest, 1)
				m.observe(honest, ledger.LinkUp, liar, 1)
			}
		}, false, 0},
		{"one end lies, the other is silent", func(m *model) {
			m.epoch()
			m.observe(liar, ledger.LinkDown, honest, 1)
		}, false, 0},
		{"the far end is down by its monitors", func(m *model) {
			m.epoch()
			m.found(ledger.NodeDown, honest)
			m.observe(liar, ledger.LinkDown, honest, 1)
		}, true, 1},
		{"a word from before the far end was found down does not count after it, unless said again", func(m *model) {
			m.epoch()
			m.observe(liar, ledger.LinkDown, honest, 1)
			m.found(ledger.NodeDown, honest)
		}, false, 0},
		{"both lie", func(m *model) {
			m.epoch()
			m.observe(liar, ledger.LinkDown, honest, 1)
			m.observe(honest, ledger.LinkDown, liar, 1)
		}, true, 1},
		{"one end will not say that it is up again", func(m *model) {
			m.epoch()
			m.observe(liar, ledger.LinkDown, honest, 1)
			m.observe(honest, ledger.LinkDown, liar, 1)
			for range 20 {
				m.epoch()
				m.observe(honest, ledger.LinkUp, liar, 1)
			}
		}, true, 1},
		{"until the word that it was down is forgotten", func(m *model) {
			m.epoch()
			m.observe(liar, ledger.LinkDown, honest, 1)
			m.observe(honest, ledger.LinkDown, liar, 1)
			for range linkRetentionEpochs + 2 {
				m.epoch()
			}
		}, false, 1},
		{"a third node speaks of its own links only", func(m *model) {
			m.epoch()
			m.observe(liar, ledger.LinkDown, other, 1)
			m.observe(other, ledger.LinkDown, honest, 1)
		}, false, 0},
		{"eight operators' monitors lie about the far end", func(m *model) {
			bad := coalition(25, 8)
			for range 40 {
				m.epoch()
				m.slander(bad, ledger.NodeDown, honest)
				m.observe(liar, ledger.LinkDown, honest, 1)
			}
		}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(t, 25, 4)
			c.story(m)
			if got := m.link(liar, honest); got != c.down {
				t.Errorf("down is %v", got)
			}
			if n := m.count(EffectLink, nil); n != c.links {
				t.Errorf("%d effects", n)
			}
			if n := m.count(EffectOffence, nil) + m.honestHurt(nil); n != 0 {
				t.Errorf("%d offences and quarantines", n)
			}
		})
	}
}

// Saying down and up of one link under one counter proves itself.
func TestModelLinkEquivocation(t *testing.T) {
	m := newModel(t, 25, 4)
	m.epoch()
	say := func(kind string, from uint64) []byte {
		return m.envelope("n-24-0", ledger.TypeObserve, ledger.Observe{Kind: kind, Subject: "n-00-0", Counter: 1, From: from, To: m.tick()}, nil)
	}
	exhibits := [][]byte{say(ledger.LinkDown, m.tick()), say(ledger.LinkUp, m.tick())}
	m.must(m.envelope("r1", ledger.TypeEvidence, ledger.Evidence{Kind: ledger.EvidenceObservation, Exhibits: exhibits}, nil))
	if got := m.node("n-24-0").Standing; got != NodeExcluded {
		t.Errorf("it is %s", got)
	}
}
