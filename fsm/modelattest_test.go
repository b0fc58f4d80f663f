package fsm

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// credited runs a fleet of 25 operators in which a coalition attests as word
// says, and gives the share of a node's epochs that were credited.
func credited(t *testing.T, bad func(string) bool, subject string, offends bool, word attestation) float64 {
	t.Helper()
	return creditedIn(t, 25, 4, bad, subject, offends, word)
}

func creditedIn(t *testing.T, operators, nodes int, bad func(string) bool, subject string, offends bool, word attestation) float64 {
	t.Helper()
	// A clean epoch is worth one point here, so that nobody gets to the full
	// reputation, where nothing is credited any more.
	m := newModel(t, operators, nodes, longKeys, withProtection(func(p *ledger.Protection) { p.CleanPoints = 1 }))
	m.watched[subject] = true
	m.word = func(w ledger.Monitor, _ string, _ uint64, clean bool) attestation {
		switch {
		case bad(w.Node):
			return word
		case clean:
			return attestsClean
		}
		return attestsCause
	}
	start := m.reputation(subject).Reputation
	epochs := 40 * m.protect.AttestEpochs // of which the last window is not settled
	for range epochs + m.protect.AttestEpochs {
		if offends {
			m.fault(subject) // seen by all the honest, proven by nobody
		}
		m.epoch()
	}
	if n := m.honestHurt(not(bad)); n != 0 {
		t.Errorf("%d honest nodes were hurt", n)
	}
	return 100 * float64(m.reputation(subject).Reputation-start) / float64(epochs)
}

// A coalition calls its friend clean, who offends in every epoch before the
// eyes of all the honest, though never before enough of them for a verdict.
func TestModelAttestationCapture(t *testing.T) {
	for _, c := range []struct {
		bad          int
		want, margin float64 // percent of epochs
	}{{1, 0, 0.1}, {5, 0, 0.5}, {8, 0.5, 1}, {12, 6, 4}, {16, 30, 10}} {
		t.Run(fmt.Sprint(c.bad, " of 25"), func(t *testing.T) {
			bad := coalition(25, c.bad)
			within(t, "percent of epochs credited", credited(t, bad, "n-24-0", true, attestsClean), c.want, c.margin)
		})
	}
}

// A coalition says nothing of a victim that it watches, or that it gave cause
// for complaint.
func TestModelAttestationWithheld(t *testing.T) {
	for _, c := range []struct {
		bad          int
		name         string
		word         attestation
		want, margin float64
	}{
		{0, "silent", silent, 99, 1},
		{5, "silent", silent, 97, 3}, {8, "silent", silent, 92, 4}, {16, "silent", silent, 48, 10},
		{1, "complaint", attestsCause, 97, 3}, {5, "complaint", attestsCause, 75, 10}, {8, "complaint", attestsCause, 44, 10}, {16, "complaint", attestsCause, 1, 1},
	} {
		t.Run(fmt.Sprint(c.bad, " of 25: ", c.name), func(t *testing.T) {
			bad := coalition(25, c.bad)
			within(t, "percent of epochs credited", credited(t, bad, "n-00-0", false, c.word), c.want, c.margin)
		})
	}
}

// Of four operators one may be silent, or call its friend clean.
func TestModelAttestationOfFew(t *testing.T) {
	bad := coalition(4, 1)
	within(t, "percent of epochs credited, one silent", creditedIn(t, 4, 5, bad, "n-00-0", false, silent), 99, 2)
	within(t, "percent of epochs credited to the fourth's friend", creditedIn(t, 4, 5, bad, "n-02-0", true, attestsClean), 0, 0.1)
}
