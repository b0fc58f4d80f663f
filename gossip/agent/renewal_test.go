package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/memorytest"
)

// lagging is a ledger in memory, its one replica, and an agent of node n0 whose view
// follows when the test says so.
type lagging struct {
	t       *testing.T
	ledger  *memorytest.Ledger
	entries [][]byte
	key     *keys.PrivateKey
	disk    *crashDisk
	a       *Agent
	saved   *View                          // what the next life begins with
	shown   int                            // entries that the agent has
	said    []*ledger.Entry                // statements of n0 on the ledger
	sent    map[[2]uint64]ledger.Hash      // by epoch and seq: what anybody heard of n0
	first   map[ledger.Observe]ledger.Hash // by what it said
	mute    bool                           // the replica takes what comes and its answers are lost
	gone    bool                           // the replica is not reached
}

func newLagging(t *testing.T) *lagging {
	t.Helper()
	return newLaggingOf(t, func(*ledger.Policy) {})
}

// newLaggingOf is newLagging under another policy.
func newLaggingOf(t *testing.T, change func(*ledger.Policy)) *lagging {
	t.Helper()
	w := &lagging{t: t, key: keys.FromSeed([keys.SeedSize]byte{7}), disk: newCrashDisk(1), sent: map[[2]uint64]ledger.Hash{}, first: map[ledger.Observe]ledger.Hash{}}
	var err error
	w.ledger, err = memorytest.Found(memorytest.Founding{
		Seed: "lagging", Council: []memorytest.Seat{{Name: "a", Operator: "op-a"}, {Name: "b", Operator: "op-b"}, {Name: "c", Operator: "op-c"}},
		Nodes: 8, Operators: 8, NodeName: "n%d",
		NodeKey: func(name string) *keys.PublicKey {
			if name != "n0" {
				return nil
			}
			return w.key.Public()
		},
		Change: func(g *ledger.Genesis) {
			p := ledger.DefaultProtection()
			p.Monitors, p.WindowTicks, p.AgeEpochs, p.StartReputation = 3, 60, 0, p.VoteReputation
			g.Policy.EpochMillis, g.Policy.TickMillis, g.Policy.Protection = 6_000, 1_000, &p
			change(&g.Policy)
		},
		Note: func(raw []byte) { w.note(raw) },
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.UnixMilli(int64(w.ledger.Now)))) // of a bubble, which costs nothing
	w.start()
	return w
}

// shortLived has keys end after some epochs, and be rotated at once.
func shortLived(p *ledger.Policy) {
	p.KeyEpochs, p.GraceEpochs = 16, 1
	k := ledger.DefaultKeys()
	k.RotateEpochs, k.LateEpochs = 15, 11
	p.Keys = &k
}

func (w *lagging) note(raw []byte) {
	w.entries = append(w.entries, raw)
	e, err := ledger.ParseEntry(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	if e.Kind != ledger.KindStatement {
		return
	}
	if st, err := ledger.ParseStatement(e.Content); err == nil && st.Payload.Author == "n0" && st.Payload.Seq != nil {
		w.said = append(w.said, e)
	}
}

// start begins a life of the agent on its disk, with the state that the one before had.
func (w *lagging) start() {
	w.t.Helper()
	before := w.a
	id := ledger.Hash(w.key.ID())
	a := &Agent{
		config: &Config{Name: "n0", MaxHeadAge: time.Hour}, genesis: w.ledger.State.Meta().Ledger, logger: slog.New(slog.DiscardHandler),
		changed: newBroadcast(), wantHead: make(chan struct{}, 1), verify: fsm.NewDirectVerifier(unpackedKeys),
	}
	a.metrics = newMetrics(a, nil)
	a.view.Store(&View{})
	if before != nil {
		a.view.Store(w.saved)
		w.shown = int(w.saved.Size)
	}
	seqs, err := openSeqs(w.disk, "seqs", id, "this machine")
	if err != nil {
		w.t.Fatal(err)
	}
	if before == nil {
		seqs = newSeqs(w.disk, "seqs", id, "this machine")
	}
	a.identity.Store(&identity{active: id, line: map[ledger.Hash]bool{id: true}, held: map[ledger.Hash]*keys.PrivateKey{id: w.key}, seqs: seqs})
	a.docket, a.early, a.judge, a.watch = newDocket(a), newEarly(), newJudge(a), newWatcher(a)
	kept, err := openOutbox(w.disk, "outbox")
	if err != nil {
		w.t.Fatal(err)
	}
	a.out = senderOf(a, kept)
	a.out.replicas = w
	a.out.publish = func(_ context.Context, _ mesh.Topic, b []byte) error { w.heard(b); return nil }
	w.a = a
	if before == nil {
		w.show()
		w.saved = a.view.Load()
	}
}

// heard checks that no two statements that left the node share epoch and seq.
func (w *lagging) heard(envelope []byte) *ledger.Statement {
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	at := [2]uint64{*st.Payload.Epoch, *st.Payload.Seq}
	if id, ok := w.sent[at]; ok && id != st.ID {
		w.t.Fatalf("two statements under epoch %d and seq %d", at[0], at[1])
	}
	w.sent[at] = st.ID
	if body, err := ledger.DecodeBody[ledger.Observe](st); err == nil {
		body.Counter = 0
		first, again := w.first[body]
		if !again {
			w.first[body] = st.ID
		} else if first != st.ID {
			kept, err := openOutbox(&crashDisk{files: maps.Clone(w.disk.files), steps: -1}, "outbox")
			if err != nil || !slices.Contains(idsOf(kept.Waiting()), st.ID) || slices.Contains(idsOf(kept.Waiting()), first) {
				w.t.Errorf("what is signed anew is heard before the disk has it in the place of the one before: %v", err)
			}
		}
	}
	return st
}

// Submit implements bringer: the replica's ledger is the newest.
func (w *lagging) Submit(_ context.Context, envelopes [][]byte, _ client.Wait) (*client.SubmitAnswer, error) {
	if w.gone {
		return nil, errors.New("nobody answers")
	}
	st := w.heard(envelopes[0])
	next, result := fsm.Apply(w.ledger.State, &ledger.Command{Kind: ledger.CommandStatements, Stamp: uint64(time.Now().UnixMilli()), Statements: envelopes}, memorytest.Trusting{})
	w.ledger.State = next
	for _, raw := range result.Entries {
		w.note(raw)
	}
	v := result.Verdicts[0]
	switch {
	case w.mute:
		return nil, errors.New("the answer is lost")
	case v.Code != fsm.OK:
		return nil, &client.Problem{Status: http.StatusConflict, Code: v.Code.String()}
	}
	return &client.SubmitAnswer{Statements: []client.StatementResult{{ID: st.ID.String(), Verdict: "ok"}}}, nil
}

// pass lets epochs go by on the ledger, of which the agent hears nothing.
func (w *lagging) pass(epochs int) {
	w.t.Helper()
	for target := w.ledger.State.Epoch() + uint64(epochs); w.ledger.State.Epoch() < target; {
		time.Sleep(time.Second)
		w.ledger.Now = uint64(time.Now().UnixMilli())
		if err := w.ledger.Apply(ledger.CommandTick); err != nil {
			w.t.Fatal(err)
		}
	}
}

// show has the agent follow, as offerHead does.
func (w *lagging) show() {
	for ; w.shown < len(w.entries); w.shown++ {
		if e, err := ledger.ParseEntry(w.entries[w.shown]); err == nil && e.Kind == ledger.KindStatement {
			w.a.out.came(e.Seq, e.Content)
		}
	}
	w.a.out.certified(uint64(w.shown))
	w.see()
}

// jump has the agent take the state whole.
func (w *lagging) jump() {
	w.shown = len(w.entries)
	w.a.out.jumped(w.ledger.State)
	w.see()
}

func (w *lagging) see() {
	v := &View{State: w.ledger.State, Size: w.ledger.State.Next(), Signed: time.Now()}
	v.certified = newCertified(v)
	w.a.view.Store(v)
	w.a.changed.tell()
	w.a.out.fresh()
}

// save saves the state, as saveNow does, unless the disk is gone.
func (w *lagging) save() {
	w.a.out.sweep(w.a.view.Load().State, time.Now())
	if w.disk.steps != 0 {
		w.saved = w.a.view.Load()
	}
}

// run has the sender run for a while.
func (w *lagging) run(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	if err := w.a.out.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		w.t.Fatal(err)
	}
}

func (w *lagging) say(kind, subject string) {
	w.t.Helper()
	tick := uint64(time.Now().UnixMilli()) / 1_000
	err := w.a.out.say(ledger.TypeObserve, func(seq uint64) any {
		return ledger.Observe{Counter: seq + 1, Kind: kind, Subject: subject, From: tick, To: tick}
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// words are what the ledger has of n0, without what a seq decides.
func (w *lagging) words() (list []string) {
	for _, e := range w.said {
		st, _ := ledger.ParseStatement(e.Content)
		body, err := ledger.DecodeBody[ledger.Observe](st)
		if err != nil {
			list = append(list, st.Payload.Type)
			continue
		}
		if body.Counter != *st.Payload.Seq+1 {
			w.t.Errorf("counter %d under seq %d", body.Counter, *st.Payload.Seq)
		}
		list = append(list, fmt.Sprintf("%s %s", body.Kind, body.Subject))
	}
	return list
}

func (w *lagging) expect(what string, words []string, waiting int, renewed, given uint64) {
	w.t.Helper()
	s := w.a.out
	if got := w.words(); !slices.Equal(got, words) {
		w.t.Errorf("%s: the ledger has %q, want %q", what, got, words)
	}
	if s.waiting() != waiting || len(s.kept.Waiting()) != waiting || s.renewed.Load() != renewed || s.given.Load() != given {
		w.t.Errorf("%s: %d wait and %d on disk, %d were signed anew, %d given up; want %d, %d, %d", what, s.waiting(), len(s.kept.Waiting()),
			s.renewed.Load(), s.given.Load(), waiting, renewed, given)
	}
}

// gave fails unless a statement was given up for a reason.
func (w *lagging) gave(typ, why string) {
	w.t.Helper()
	of := func(m *metrics) *prometheus.CounterVec { return m.givenUp }
	if got := counted([]*member{{Agent: w.a}}, of, fmt.Sprintf("%q", why)); got != 1 {
		w.t.Errorf("%d statements of type %s were given up as %s", got, typ, why)
	}
}

// An agent whose view is two epochs late signs for an epoch that is over. What it said
// waits until it sees so itself, is signed anew, and is on the ledger once.
func TestWhatCameTooLateIsSignedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
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
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
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
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		w.mute = true
		w.say(ledger.LinkUp, "n1")
		w.run(time.Second)
		w.expect("taken", []string{"link.up n1"}, 1, 0, 0)
		w.mute = false
		w.pass(4)
		w.show()
		w.run(time.Minute)
		w.expect("seen", []string{"link.up n1"}, 0, 0, 0)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		w.mute = true
		w.say(ledger.LinkUp, "n1")
		w.run(time.Second)
		w.mute = false
		w.pass(4)
		w.jump() // and nobody knows what became of it
		w.run(time.Minute)
		w.expect("passed over", []string{"link.up n1"}, 0, 0, 1)
		w.gave(ledger.TypeObserve, givenDoubt)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		w.mute = true
		w.say(ledger.LinkUp, "n1")
		w.run(time.Second)
		w.mute = false
		w.pass(1)
		w.jump() // the state's own window tells
		w.pass(3)
		w.show()
		w.run(time.Minute)
		w.expect("in the window", []string{"link.up n1"}, 0, 0, 0)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		w.mute = true
		w.say(ledger.LinkUp, "n1")
		w.run(time.Second)
		w.mute = false
		w.a.out.forgotten() // and what came is shown again
		w.pass(4)
		w.show()
		w.run(time.Minute)
		w.expect("shown twice", []string{"link.up n1"}, 0, 0, 0)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
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
		synctest.Test(t, func(t *testing.T) {
			w := newLagging(t)
			w.gone = true
			c.say(w)
			w.run(time.Second)
			w.pass(c.pass)
			w.gone = false
			w.show()
			w.run(time.Second)
			w.show()
			w.run(time.Second)
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
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
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
		w.gone = false
		w.show()
		w.run(time.Second)
		w.show()
		w.run(time.Second)
		w.expect("drawn", want, 0, uint64(len(want)), uint64(7-len(want)))
	})
}

// Wherever it crashes while it signs anew, what a node said is on the ledger once in the
// end, and no seq is used twice.
func TestSigningAnewSurvivesEveryCrash(t *testing.T) {
	crashed := 0
	for steps := 1; ; steps++ {
		ended := false
		for seed := range uint64(8) {
			synctest.Test(t, func(t *testing.T) {
				w := newLagging(t)
				w.disk.rand = newCrashDisk(seed).rand
				w.gone = true
				w.say(ledger.LinkUp, "n1")
				w.say(ledger.LinkUp, "n2")
				w.run(time.Second)
				w.pass(2)
				w.gone = false
				w.disk.steps = steps
				w.show()
				w.run(time.Second)
				if ended = w.disk.steps != 0; !ended {
					crashed++
				}
				for range 4 {
					w.save()
					w.disk = w.disk.again()
					w.start()
					w.show()
					w.run(time.Second)
					w.pass(1)
				}
				if got := w.words(); len(got) != 2 || got[0] == got[1] {
					t.Errorf("crash at step %d, seed %d: the ledger has %q", steps, seed, got)
				}
			})
		}
		if ended {
			break
		}
	}
	if crashed == 0 {
		t.Error("it never crashed")
	}
	t.Logf("%d crashes", crashed)
}

// A life that begins with a state in which the epoch of what waits is over knows of the one
// before that the ledger has it not.
func TestALaterLifeSignsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		w.gone = true
		w.say(ledger.LinkUp, "n1")
		w.pass(2)
		w.a.lag.behind(true, 1, 2, time.Hour) // what would be signed now came too late again
		w.show()
		w.run(time.Second)
		w.save()
		w.expect("before", nil, 1, 0, 0)
		w.gone = false
		w.start()
		w.run(time.Second)
		w.show()
		w.run(time.Second)
		w.expect("after", []string{"link.up n1"}, 0, 1, 0)
	})
}

// On a disk that can't be written nothing is signed anew: a restart would find the one
// before.
func TestNothingIsSignedAnewOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLagging(t)
		w.gone = true
		w.say(ledger.LinkUp, "n1")
		w.pass(2)
		w.say(ledger.LinkUp, "n2") // reserves seqs of the view's epoch
		w.gone, w.disk.full = false, true
		w.show()
		w.run(3 * time.Second)
		w.expect("full", nil, 2, 0, 0)
		w.disk.full = false
		w.run(time.Minute)
		w.show()
		w.run(time.Second)
		if got := w.words(); len(got) != 2 || got[0] == got[1] || w.a.out.waiting() != 0 {
			t.Errorf("with room again: the ledger has %q, %d wait", got, w.a.out.waiting())
		}
	})
}

// Evidence that an earlier life of the agent said is signed anew; of this life the docket
// says it.
func TestEvidenceIsSignedAnew(t *testing.T) {
	for _, earlier := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newLagging(t)
			liar := "n3"
			var exhibits []*ledger.Statement
			for _, of := range []string{"n1", "n2"} {
				b, err := w.ledger.Envelope(liar, ledger.TypeObserve, 5, ledger.Observe{Counter: 6, Kind: ledger.LinkUp, Subject: of})
				if err != nil {
					t.Fatal(err)
				}
				st, err := ledger.ParseStatement(b)
				if err != nil {
					t.Fatal(err)
				}
				exhibits = append(exhibits, st)
			}
			proof, err := gossip.Prove(ledger.EvidenceEquivocation, 0, exhibits...)
			if err != nil {
				t.Fatal(err)
			}
			w.gone = true
			w.a.docket.open(proof)
			if !w.a.out.accuse(proof) {
				t.Fatal("it is not said")
			}
			if earlier {
				w.start()
			}
			w.pass(2)
			w.gone = false
			w.show()
			w.run(time.Second)
			w.show()
			w.run(time.Second)
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
