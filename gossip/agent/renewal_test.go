package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// An agent whose view is two epochs late signs for an epoch that is over. What it said
// waits until it sees so itself, is signed anew, and is on the ledger once.
func TestWhatCameTooLateIsSignedAnew(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *lagging) {
		w.pass(2)
		w.say(ledger.LinkUp, "n1")
		w.say(ledger.LinkDown, "n2")
		w.run(3 * time.Second)
		w.expect("while it lags", nil, 2, 0, 0)
		select {
		case <-w.a.wantHead:
		default:
			t.Error("no newer head is asked for")
		}
		w.show()
		w.expect("before it looks", nil, 2, 0, 0)
		w.run(time.Second)
		w.show()
		w.run(time.Second)
		w.expect("once it follows", []string{"link.down n2", "link.up n1"}, 0, 2, 0)
		for _, e := range w.said {
			st, _ := ledger.ParseStatement(e.Content)
			if body, _ := ledger.DecodeBody[ledger.Observe](st); body.From != body.To || body.To*1_000+3_000 > e.Stamp {
				t.Errorf("it speaks of ticks %d to %d, at %d", body.From, body.To, e.Stamp)
			}
		}
		w.pass(3)
		w.show()
		w.run(time.Minute)
		w.expect("long after", []string{"link.down n2", "link.up n1"}, 0, 2, 0)
	})
}

// One that lags again and again is signed anew each time, until it is on the ledger or its
// ticks are over.
func TestWhatComesTooLateAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *lagging) {
		w.say(ledger.LinkUp, "n1")
		for i := range 3 {
			w.pass(2)
			w.gone = true
			w.show()
			w.run(time.Second)
			w.expect("still", nil, 1, uint64(i+1), 0)
		}
		w.gone = false
		w.run(time.Minute)
		w.show()
		w.run(time.Second)
		w.expect("at last", []string{"link.up n1"}, 0, 3, 0)
	})
}

// What the ledger took, though nobody heard its answer, is not said again: not even if the
// agent's view goes over its epochs at once.
func TestWhatTheLedgerHasIsNotSignedAnew(t *testing.T) {
	for what, c := range map[string]struct {
		meanwhile func(w *lagging)
		given     uint64 // up, since nobody knows what became of it
	}{
		"seen":        {func(w *lagging) { w.pass(4); w.show() }, 0},
		"passed over": {func(w *lagging) { w.pass(4); w.jump() }, 1},
		"in the window": {func(w *lagging) { // which tells by itself
			w.pass(1)
			w.jump()
			w.pass(3)
			w.show()
		}, 0},
		"shown twice": {func(w *lagging) { w.a.out.forgotten(); w.pass(4); w.show() }, 0},
	} {
		inVirtualTime(t, func(t *testing.T, w *lagging) {
			w.mute = true
			w.say(ledger.LinkUp, "n1")
			w.run(time.Second)
			w.expect("taken", []string{"link.up n1"}, 1, 0, 0)
			w.mute = false
			c.meanwhile(w)
			w.run(time.Minute)
			w.expect(what, []string{"link.up n1"}, 0, 0, c.given)
			if c.given > 0 {
				w.gave(ledger.TypeObserve, givenDoubt)
			}
		})
	}
	inVirtualTime(t, func(t *testing.T, w *lagging) {
		w.gone = true
		w.say(ledger.LinkUp, "n1")
		w.a.out.came(uint64(w.shown), w.a.out.queue[0].statement.Envelope) // a lie: it is not certified
		w.a.out.forgotten()
		w.gone = false
		w.pass(2)
		w.show()
		w.run(time.Second)
		w.expect("after a lie", []string{"link.up n1"}, 0, 1, 0)
	})
}

// What is no longer true, or not this node's to say any more, is not signed anew.
func TestWhatIsNoLongerTrueIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		say   func(w *lagging)
		pass  int
		words []string
		given uint64
		anew  uint64
		why   string // an attestation was given up
	}{
		"its ticks are over": {func(w *lagging) { w.say(ledger.LinkUp, "n1") }, 12, nil, 1, 0, ""},
		"it said otherwise since": {func(w *lagging) {
			w.say(ledger.LinkDown, "n1")
			time.Sleep(time.Second)
			w.say(ledger.LinkUp, "n1")
		}, 2, []string{"link.up n1"}, 1, 1, ""},
		"it said the same since": {func(w *lagging) {
			w.say(ledger.LinkUp, "n1")
			time.Sleep(time.Second)
			w.say(ledger.LinkUp, "n1")
		}, 2, []string{"link.up n1", "link.up n1"}, 0, 2, ""},
		"it is of its epoch": {func(w *lagging) {
			if err := w.a.out.say(ledger.TypeAttest, func(uint64) any { return ledger.Attest{} }); err != nil {
				w.t.Fatal(err)
			}
		}, 2, nil, 1, 0, givenKind},
		"nobody knows its subject": {func(w *lagging) { w.say(ledger.LinkUp, "nobody") }, 2, nil, 1, 0, ""},
	} {
		inVirtualTime(t, func(t *testing.T, w *lagging) {
			w.gone = true
			c.say(w)
			w.run(time.Second)
			w.pass(c.pass)
			w.reached()
			w.expect(name, c.words, 0, c.anew, c.given)
			if c.why != "" {
				w.gave(ledger.TypeAttest, c.why)
			}
		})
	}
}

// An accusation of a node is signed anew by who is drawn to watch that in the epoch of
// now, and by nobody else.
func TestOnlyMonitorsSignAnew(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *lagging) {
		w.gone = true
		for i := 1; i < 8; i++ {
			w.say(ledger.NodeUp, fmt.Sprintf("n%d", i))
		}
		w.pass(2)
		var want []string
		view := &View{State: w.ledger.State}
		for i := 1; i < 8; i++ {
			n, _ := w.ledger.State.Node(fmt.Sprintf("n%d", i))
			if slices.ContainsFunc(w.ledger.State.Monitors(&n, w.ledger.State.Epoch(), newCertified(view).electorate()), func(m ledger.Monitor) bool { return m.Node == "n0" }) {
				want = append(want, "node.up "+n.Name)
			}
		}
		if len(want) == 0 || len(want) == 7 {
			t.Fatalf("n0 watches %d nodes: another seed is wanted", len(want))
		}
		w.reached()
		w.expect("drawn", want, 0, uint64(len(want)), uint64(7-len(want)))
	})
}

// Evidence that an earlier life of the agent said is signed anew; of this life the docket
// says it.
func TestEvidenceIsSignedAnew(t *testing.T) {
	for _, earlier := range []bool{true, false} {
		inVirtualTime(t, func(t *testing.T, w *lagging) {
			var exhibits []*ledger.Statement
			for _, of := range []string{"n1", "n2"} {
				exhibits = append(exhibits, w.parsed(w.ledger.Envelope("n3", ledger.TypeObserve, 5, ledger.Observe{Counter: 6, Kind: ledger.LinkUp, Subject: of})))
			}
			proof := equivocation(t, exhibits...)
			w.gone = true
			w.a.docket.open(proof)
			if !w.a.out.accuse(proof) {
				t.Fatal("it is not said")
			}
			if earlier {
				w.start()
			}
			w.pass(2)
			w.reached()
			if earlier {
				w.expect("of an earlier life", []string{ledger.TypeEvidence}, 0, 1, 0)
			} else {
				w.expect("the docket's", nil, 0, 0, 1)
			}
		})
	}
}

// What the ledger has as our last word stands against signing an older one anew if that
// would take it back, or is the same.
func TestOurLastWordStands(t *testing.T) {
	for name, c := range map[string]struct {
		kind     string
		from, to uint64 // of what is to be signed anew
		said     fsm.Word
		stands   bool
	}{
		"the same, of a link":              {ledger.LinkUp, 5, 5, fsm.Word{From: 5, To: 5}, true},
		"the same, of a node":              {ledger.NodeDown, 4, 5, fsm.Word{From: 4, To: 5, Down: true}, true},
		"of a link, later, of one mind":    {ledger.LinkUp, 5, 5, fsm.Word{From: 9, To: 9}, false},
		"of a link, later, otherwise":      {ledger.LinkUp, 5, 5, fsm.Word{From: 8, To: 9, Down: true}, true},
		"of a link, earlier, otherwise":    {ledger.LinkUp, 5, 5, fsm.Word{From: 3, To: 4, Down: true}, false},
		"of a node, later":                 {ledger.NodeDown, 4, 5, fsm.Word{From: 8, To: 9, Down: true}, true},
		"of a node, earlier":               {ledger.NodeUp, 5, 5, fsm.Word{From: 3, To: 4, Down: true}, false},
		"up, of the last tick of the fall": {ledger.NodeUp, 5, 5, fsm.Word{From: 3, To: 5, Down: true}, false},
		"down, and up in its last tick":    {ledger.NodeDown, 3, 5, fsm.Word{From: 5, To: 5}, true},
	} {
		if got := revises(&c.said, &ledger.Observe{Kind: c.kind, Subject: "n1", From: c.from, To: c.to}); got != c.stands {
			t.Errorf("%s: it stands: %t", name, got)
		}
	}
}
