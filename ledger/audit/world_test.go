package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// world is a ledger that its own rules made: commands through fsm.Apply, a head
// at every handover. Every key follows from a name, so that tests are the same
// each time; nothing of it is a secret.
type world struct {
	t         testing.TB
	logs      []*ledger.LogSigner // one after another
	state     *fsm.State
	verify    fsm.Verifier
	entries   [][]byte
	now       uint64 // milliseconds
	nonces    uint64
	seqs      map[string]uint64
	speaks    map[string]string // under whose key of the keyring a name signs, if not under its own
	handovers []handover
}

// handover is what a link shows besides entries.
type handover struct {
	seal   uint64 // seq
	before ledger.Authority
	record ledger.Authority
	proof  *ledger.StateProof
}

const worldOrigin = "ledger.example/audit"

var (
	keyringMu sync.Mutex
	keyring   = map[string]*keys.PrivateKey{}
)

func seedOf(name string) [32]byte { return sha256.Sum256([]byte("quorate test key " + name)) }

// keyOfPublic finds a private key of the keyring.
func keyOfPublic(t testing.TB, public []byte) *keys.PrivateKey {
	t.Helper()
	keyringMu.Lock()
	defer keyringMu.Unlock()
	for _, k := range keyring {
		if bytes.Equal(k.Public().Bytes(), public) {
			return k
		}
	}
	t.Fatal("nobody's key")
	return nil
}

func keyOf(name string) *keys.PrivateKey {
	keyringMu.Lock()
	defer keyringMu.Unlock()
	if keyring[name] == nil {
		keyring[name] = keys.FromSeed(seedOf(name))
	}
	return keyring[name]
}

func member(name, operator string) ledger.Member {
	return ledger.Member{Name: name, Operator: operator, Public: keyOf(name).Public().Bytes()}
}

func replica(name, operator string) ledger.Replica {
	k := keyOf(name)
	return ledger.Replica{
		Cosigner: k.Cosigner44().Public(), Name: name, Operator: operator, Peer: name + ".example:7000",
		Public: k.Public().Bytes(), TLSPin: sha256.Sum256([]byte("pin of " + name)),
	}
}

// newWorld has three governors of three operators and four replicas.
func newWorld(t testing.TB, change ...func(*ledger.Genesis)) *world {
	t.Helper()
	log := ledger.NewLogSigner(worldOrigin, seedOf("log ed25519"), seedOf("log mldsa44"))
	g := &ledger.Genesis{
		Council:   []ledger.Member{member("alice", "acme"), member("bob", "bolt"), member("carol", "core")},
		Created:   1_700_000_000_000,
		Format:    ledger.Format,
		Log:       log.Keys(),
		Operators: []ledger.Operator{{Name: "acme"}, {Name: "bolt"}, {Name: "core"}, {Name: "dune", Sponsor: "acme"}},
		Origin:    worldOrigin,
		Policy:    ledger.DefaultPolicy(3),
		Replicas:  []ledger.Replica{replica("r1", "acme"), replica("r2", "bolt"), replica("r3", "core"), replica("r4", "acme")},
	}
	for _, f := range change {
		f(g)
	}
	entry, err := g.Entry()
	must(t, err)
	state, err := fsm.New(entry)
	must(t, err)
	return &world{
		t: t, logs: []*ledger.LogSigner{log}, state: state, verify: fsm.NewDirectVerifier(256), entries: [][]byte{entry},
		now: g.Created, seqs: map[string]uint64{}, speaks: map[string]string{},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) apply(kind ledger.CommandKind, envelopes ...[]byte) {
	w.t.Helper()
	before := w.state.Authority()
	next, result := fsm.Apply(w.state, &ledger.Command{Kind: kind, Stamp: w.now, Statements: envelopes}, w.verify)
	for _, v := range result.Verdicts {
		if v.Code != fsm.OK && v.Code != fsm.BundleRejected {
			w.t.Fatalf("refused at entry %d: %s at %s: %s", w.state.Next(), v.Code, v.Path, v.Detail)
		}
	}
	w.state = next
	w.entries = append(w.entries, result.Entries...)
	if result.Sealed != nil && result.Sealed.Reason == ledger.SealHandover {
		proof, err := next.Prove(ledger.AuthorityKey)
		must(w.t, err)
		proof.Value = nil
		w.handovers = append(w.handovers, handover{seal: result.SealSeq, before: before, record: next.Authority(), proof: proof})
	}
	w.now += 7
}

// submit applies a bundle and, as a leader would, seals at once what is urgent.
func (w *world) submit(envelopes ...[]byte) {
	w.t.Helper()
	w.apply(ledger.CommandStatements, envelopes...)
	if _, urgent := w.state.SealWanted(); urgent {
		w.seal()
	}
}

func (w *world) seal() { w.t.Helper(); w.apply(ledger.CommandSeal) }

// sign makes a statement in the replay form that its author needs.
func (w *world) sign(author, typ string, body any) []byte {
	w.t.Helper()
	p := ledger.Payload{Author: author, Generation: w.state.Meta().Generation, Ledger: w.state.Meta().Ledger, Type: typ}
	form, _ := ledger.ReplayForm(typ)
	_, isReplica := w.state.Replica(author)
	_, isNode := w.state.Node(author)
	switch {
	case form == ledger.ReplayEpochSeq, form == ledger.ReplayEither && (isReplica || isNode):
		epoch, seq := w.state.Epoch(), w.seqs[author]
		w.seqs[author]++
		p.Epoch, p.Seq = &epoch, &seq
	case form != ledger.ReplayNone:
		w.nonces++
		p.Nonce = binary.BigEndian.AppendUint64(make([]byte, 8, 16), w.nonces)
		p.Expires = w.now + 3_600_000
	}
	envelope, err := ledger.Sign(w.keyOf(author), p, body)
	must(w.t, err)
	return envelope
}

// keyOf is the key that speaks for a name.
func (w *world) keyOf(name string) *keys.PrivateKey {
	if other, ok := w.speaks[name]; ok {
		name = other
	}
	return keyOf(name)
}

func (w *world) propose(author, action string, args any) []byte {
	w.t.Helper()
	raw, err := canon.Marshal(args)
	must(w.t, err)
	base, err := w.state.BaseFor(action, raw)
	must(w.t, err)
	return w.sign(author, ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base})
}

func idOf(t testing.TB, envelope []byte) ledger.Hash {
	t.Helper()
	st, err := ledger.ParseStatement(envelope)
	must(t, err)
	return st.ID
}

// decide proposes and approves, in one bundle.
func (w *world) decide(action string, args any, authors ...string) {
	w.t.Helper()
	bundle := [][]byte{w.propose(authors[0], action, args)}
	for _, author := range authors[1:] {
		bundle = append(bundle, w.sign(author, ledger.TypeApprove, ledger.Ballot{Proposal: idOf(w.t, bundle[0])}))
	}
	w.submit(bundle...)
}

func (w *world) record(author, text string) {
	w.t.Helper()
	w.submit(w.sign(author, ledger.TypeRecord, ledger.Record{Text: text}))
}

// admit lets nodes join, and admits them.
func (w *world) admit(names ...string) {
	w.t.Helper()
	args := struct {
		Joins []ledger.Hash `json:"joins"`
	}{}
	for _, name := range names {
		peer := sha256.Sum256([]byte("peer of " + name))
		join := w.sign(name, ledger.TypeJoin, ledger.Join{Name: name, Operator: "dune", Peer: peer[:], Public: keyOf(name).Public().Bytes()})
		w.submit(join)
		args.Joins = append(args.Joins, idOf(w.t, join))
	}
	w.decide("node.admit", args, "alice", "bob")
}

// tell lets a story of every kind happen: more than 600 entries, four
// handovers, and at the end a tail without any.
func (w *world) tell(records int) {
	w.t.Helper()
	for _, author := range []string{"alice", "bob", "carol"} {
		w.record(author, "the first word of "+author)
	}
	w.seal()
	nodes := []string{"edge-1", "edge-2", "edge-3", "edge-4"}
	w.admit(nodes...)
	for i := range records / 2 {
		w.record(nodes[i%4], "measured "+strconv.Itoa(i))
		if i%20 == 19 {
			w.seal()
		}
	}
	w.decide("replica.add", map[string]any{"replica": replica("r5", "bolt")}, "alice", "carol")
	root := sha256.Sum256([]byte("some root"))
	w.submit(w.sign("r5", ledger.TypeReady, ledger.Ready{Format: ledger.Format, Root: root, Size: w.state.Next()}))
	w.decide("council.change", map[string]any{"add": []ledger.Member{member("dave", "dune")}}, "bob", "carol")
	w.decide("node.quarantine", map[string]any{"name": "edge-2", "reason": "it lied"}, "dave", "alice")
	w.decide("replica.remove", map[string]any{"name": "r2"}, "dave", "alice", "carol")

	refused := w.propose("alice", "epoch.advance", struct{}{})
	w.submit(refused)
	for _, author := range []string{"bob", "carol", "dave"} {
		if p, ok := w.state.Proposal(idOf(w.t, refused)); ok && p.Standing == fsm.ProposalOpen {
			w.submit(w.sign(author, ledger.TypeReject, ledger.Ballot{Proposal: p.ID, Memo: "too early"}))
		}
	}
	withdrawn := w.propose("bob", "ledger.freeze", map[string]any{"reason": "by mistake"})
	w.submit(withdrawn)
	w.submit(w.sign("bob", ledger.TypeWithdraw, ledger.Ballot{Proposal: idOf(w.t, withdrawn)}))
	w.now += w.state.Policy().EpochMillis
	w.apply(ledger.CommandTick)
	for i := range records - records/2 {
		w.record([]string{"edge-1", "edge-3", "edge-4", "r1"}[i%4], "later "+strconv.Itoa(i))
		if i%20 == 19 {
			w.seal()
		}
	}
	w.decide("epoch.advance", struct{}{}, "alice", "dave")
	w.record("carol", "the last word")
	w.seal()
}

var theStory struct {
	once    sync.Once
	history history
	export  sync.Once
	dir     string // of an export with proofs
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(theStory.dir); err != nil && code == 0 {
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// told is the history of the whole story, made once.
func told(t testing.TB) history {
	t.Helper()
	theStory.once.Do(func() {
		w := newWorld(t)
		w.tell(560)
		theStory.history = w.history()
	})
	if len(theStory.history.entries) < 600 || len(theStory.history.handovers) != 4 {
		t.Fatalf("the story has %d entries and %d handovers", len(theStory.history.entries), len(theStory.history.handovers))
	}
	return theStory.history
}
