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

// inVirtualTime tells a story of a lagging.
func inVirtualTime(t *testing.T, story func(t *testing.T, w *lagging)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { story(t, newLagging(t)) })
}

// reached has the replica answer again, and the agent follow and its sender run twice: what
// is signed anew is taken in between.
func (w *lagging) reached() {
	w.gone, w.mute = false, false
	for range 2 {
		w.show()
		w.run(time.Second)
	}
}

// parsed is a statement that was just made.
func (w *lagging) parsed(envelope []byte, err error) *ledger.Statement {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// accepted has the ledger take a statement that was just made.
func (w *lagging) accepted(envelope []byte, err error) *ledger.Statement {
	w.t.Helper()
	st := w.parsed(envelope, err)
	if err := w.ledger.Apply(ledger.CommandStatements, envelope); err != nil {
		w.t.Fatal(err)
	}
	return st
}

// rekeyed gives a node another key by decision, by a join that names a peer key.
func (w *lagging) rekeyed(name string, key *keys.PrivateKey, peer []byte) {
	w.t.Helper()
	me, _ := w.ledger.State.Node(name)
	w.ledger.IDs[name] = key.ID()
	join := w.accepted(w.ledger.Say(name, ledger.TypeJoin, ledger.Join{Name: name, Operator: me.Operator, Peer: peer, Public: key.Public().Bytes()}))
	if err := w.ledger.Decide("node.rekey", map[string]any{"join": join.ID}); err != nil {
		w.t.Fatal(err)
	}
}

// equivocation proves what two statements of one author do.
func equivocation(t *testing.T, exhibits ...*ledger.Statement) *gossip.Proof {
	t.Helper()
	proof, err := gossip.Prove(ledger.EvidenceEquivocation, 0, exhibits...)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}
