package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// fake is a Backend in memory: the real rules and archive, one process that
// plays every replica, and hooks for what goes wrong.
type fake struct {
	t       testing.TB
	world   *world
	archive *archive.Archive

	mu        sync.Mutex
	state     *fsm.State // applied
	certified *View
	links     [][]byte
	changed   chan struct{}
	seen      int // submissions that reached the backend

	hold   bool          // do not seal nor certify
	fail   error         // what Submit fails with
	block  chan struct{} // Submit waits for it to close
	status client.Status
}

// world is who there is on the fake's ledger. Keys are of fixed seeds.
type world struct {
	genesis   []byte
	hash      ledger.Hash
	governors map[string]*keys.PrivateKey
	replicas  map[string]*keys.PrivateKey
	log       *ledger.LogSigner
	nonce     uint64
}

func seeded(name string) *keys.PrivateKey { return keys.FromSeed(sha256.Sum256([]byte(name))) }

const testOrigin = "log.example/quorate"

func newWorld(t testing.TB, change ...func(*ledger.Genesis)) *world {
	t.Helper()
	w := &world{governors: map[string]*keys.PrivateKey{}, replicas: map[string]*keys.PrivateKey{}}
	w.log = ledger.NewLogSigner(testOrigin, sha256.Sum256([]byte("log ed25519")), sha256.Sum256([]byte("log mldsa44")))
	g := &ledger.Genesis{
		Created: uint64(time.Now().Add(-time.Minute).UnixMilli()), Format: ledger.Format, Origin: testOrigin,
		Log: w.log.Keys(), Policy: ledger.DefaultPolicy(3),
	}
	for i, name := range []string{"alice", "bob", "carol"} {
		operator := []string{"acme", "blue", "core"}[i]
		k := seeded(name)
		w.governors[name] = k
		g.Operators = append(g.Operators, ledger.Operator{Name: operator})
		g.Council = append(g.Council, ledger.Member{Name: name, Operator: operator, Public: k.Public().Bytes()})
	}
	for i, name := range []string{"r1", "r2", "r3", "r4"} {
		k := seeded(name)
		w.replicas[name] = k
		g.Replicas = append(g.Replicas, ledger.Replica{
			Name: name, Operator: g.Operators[i%3].Name, Public: k.Public().Bytes(), Cosigner: k.Cosigner44().Public(),
			Peer: fmt.Sprintf("127.0.0.1:%d", 9000+i), TLSPin: sha256.Sum256([]byte("tls " + name)),
		})
	}
	for _, f := range change {
		f(g)
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	w.genesis, w.hash = entry, ledger.LeafHash(entry)
	return w
}

func newFake(t testing.TB, change ...func(*ledger.Genesis)) *fake {
	t.Helper()
	return fakeOf(t, newWorld(t, change...))
}

// fakeOf starts a ledger of the world; two of one world are two branches.
func fakeOf(t testing.TB, w *world) *fake {
	t.Helper()
	a, err := archive.Open(t.TempDir(), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	f := &fake{t: t, world: w, archive: a, changed: make(chan struct{})}
	if f.state, err = fsm.New(w.genesis); err != nil {
		t.Fatal(err)
	}
	f.append(w.genesis)
	link, err := (&ledger.Link{Genesis: w.genesis}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	f.links = [][]byte{link}
	f.status = client.Status{Name: "r1", Role: "leader", Leader: "r1", Term: 1, Ready: true, Ledger: w.hash.String(), Origin: testOrigin}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seal()
	return f
}

func (f *fake) append(entries ...[]byte) {
	for _, e := range entries {
		if err := f.archive.Append(f.archive.Size(), e); err != nil {
			f.t.Errorf("append: %v", err)
		}
	}
	if _, err := f.archive.Sync(); err != nil {
		f.t.Errorf("sync: %v", err)
	}
}

type directVerifier struct{}

func (directVerifier) Verify(st *ledger.Statement, public []byte) bool {
	k, err := keys.ParsePublicKey(public)
	return err == nil && st.Verify(k)
}

// apply applies a command. f.mu is held.
func (f *fake) apply(c *ledger.Command) fsm.Result {
	c.Stamp = uint64(time.Now().UnixMilli())
	next, result := fsm.Apply(f.state, c, directVerifier{})
	f.state = next
	f.append(result.Entries...)
	return result
}

// seal seals and certifies what is there. f.mu is held.
func (f *fake) seal() {
	before := f.state.Authority()
	result := f.apply(&ledger.Command{Kind: ledger.CommandSeal})
	if result.Sealed == nil {
		f.t.Error("nothing was sealed")
		return
	}
	f.certify(time.Now())
	if result.Sealed.Handover != 0 {
		f.handOver(before, result.SealSeq)
	}
	f.fire()
}

// certify has every replica cosign the applied head. f.mu is held.
func (f *fake) certify(at time.Time) {
	size := f.state.Next()
	root, err := f.archive.TreeHash(size)
	if err != nil {
		f.t.Errorf("certify: %v", err)
	}
	note := f.world.signOn(f.state.Authority().Branch(), ledger.Head{Origin: testOrigin, Size: size, Root: ledger.Hash(root)}, at, "r1", "r2", "r3", "r4")
	f.certified = &View{State: f.state, Size: size, Checkpoint: note, Certified: true, Signed: uint64(at.Unix()) * 1000}
}

// sign makes a checkpoint that the named replicas cosigned.
func (w *world) sign(h ledger.Head, at time.Time, replicas ...string) []byte {
	return w.signOn(w.hash, h, at, replicas...)
}

func (w *world) signOn(branch ledger.Hash, h ledger.Head, at time.Time, replicas ...string) []byte {
	c := &ledger.Checkpoint{Head: h, LogLines: w.log.Sign(h, uint64(at.Unix()))}
	for _, name := range replicas {
		k := w.replicas[name]
		c.Add(ledger.Cosign(branch, k, k.Cosigner44(), name, h, uint64(at.Unix())))
	}
	return c.Note()
}

// handOver adds the link of a handover seal. f.mu is held.
func (f *fake) handOver(_ ledger.Authority, sealSeq uint64) {
	authority := f.state.Authority()
	proof, err := f.state.Prove("authority")
	if err != nil {
		f.t.Errorf("prove authority: %v", err)
		return
	}
	proof.Value = nil
	seal, _ := f.archive.Entry(sealSeq)
	l := &ledger.Link{
		Index: authority.Index, Checkpoint: string(f.certified.Checkpoint), Record: &authority, RecordProof: proof,
		Seal: seal, SealProof: f.prove(sealSeq, sealSeq+1),
	}
	for _, seq := range authority.Causes {
		entry, _ := f.archive.Entry(seq)
		l.Statements = append(l.Statements, ledger.LinkStatement{Entry: entry, Proof: f.prove(seq, sealSeq+1), Seq: seq})
	}
	encoded, err := l.Encode()
	if err != nil {
		f.t.Errorf("encode link: %v", err)
	}
	f.links = append(f.links, encoded)
}

func (f *fake) prove(seq, size uint64) []ledger.Hash {
	proof, err := f.archive.ProveInclusion(seq, size)
	if err != nil {
		f.t.Errorf("prove %d in %d: %v", seq, size, err)
	}
	hashes := make([]ledger.Hash, len(proof))
	for i, h := range proof {
		hashes[i] = ledger.Hash(h)
	}
	return hashes
}

// fire tells the waiters. f.mu is held.
func (f *fake) fire() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) Submit(ctx context.Context, statements []*ledger.Statement, wait client.Wait) (*Receipt, error) {
	envelopes := make([][]byte, len(statements))
	for i, st := range statements {
		envelopes[i] = st.Envelope
	}
	f.mu.Lock()
	f.seen++
	block, fail := f.block, f.fail
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	result := f.apply(&ledger.Command{Kind: ledger.CommandStatements, Statements: envelopes})
	receipt := &Receipt{Verdicts: result.Verdicts, Level: client.WaitCommitted, First: ^uint64(0), Stamp: f.state.Stamp()}
	for _, v := range result.Verdicts {
		if v.Code != fsm.OK {
			return nil, &RejectedError{Verdicts: result.Verdicts}
		}
		receipt.First, receipt.Last = min(receipt.First, v.Seq), max(receipt.Last, v.Seq)
	}
	if f.hold {
		f.fire()
		return receipt, nil
	}
	f.seal()
	if wait == client.WaitCertified {
		receipt.Level, receipt.Checkpoint = client.WaitCertified, f.certified.Size
	}
	return receipt, nil
}

func (f *fake) View(_ context.Context, consistency string) (*View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if consistency == client.Certified {
		if f.certified == nil {
			return nil, ErrNotReady
		}
		return f.certified, nil
	}
	v := *f.certified
	v.State, v.Size, v.Certified = f.state, f.state.Next(), false
	return &v, nil
}

func (f *fake) Checkpoint() ([]byte, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.certified == nil {
		return nil, 0
	}
	return f.certified.Checkpoint, f.certified.Size
}

func (f *fake) Archive() *archive.Archive { return f.archive }

func (f *fake) AuthorityLink(n uint64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n >= uint64(len(f.links)) {
		return nil, ErrNotFound
	}
	return f.links[n], nil
}

func (f *fake) AuthorityIndex() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.links) - 1)
}

func (f *fake) LogVKeys() []ledger.LogVKeys {
	f.mu.Lock()
	defer f.mu.Unlock()
	var links []*ledger.Link
	for _, raw := range f.links {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return nil
		}
		links = append(links, link)
	}
	chain, err := ledger.WalkChain(ledger.LeafHash(links[0].Genesis), links)
	if err != nil {
		return nil
	}
	return chain.LogVKeys()
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) Status() client.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Applied, s.Certified = f.state.Next(), f.certified.Size
	return s
}

func (f *fake) Simulate(_ context.Context, action string, args canon.Raw, author string) (fsm.Diff, fsm.Verdict, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	diff, verdict := fsm.Simulate(f.state, action, args, author, uint64(time.Now().UnixMilli()))
	return diff, verdict, nil
}

// The statements of the world's principals.

func (w *world) payload(author, typ string) ledger.Payload {
	p := ledger.Payload{Author: author, Type: typ, Ledger: w.hash}
	if form, _ := ledger.ReplayForm(typ); form != ledger.ReplayNone {
		w.nonce++
		p.Nonce = binary.BigEndian.AppendUint64(make([]byte, 8), w.nonce)
		p.Expires = uint64(time.Now().Add(time.Hour).UnixMilli())
	}
	return p
}

func (w *world) sayAs(t testing.TB, k *keys.PrivateKey, p ledger.Payload, body any) []byte {
	t.Helper()
	envelope, err := ledger.Sign(k, p, body)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func (w *world) say(t testing.TB, author, typ string, body any) []byte {
	t.Helper()
	return w.sayAs(t, w.governors[author], w.payload(author, typ), body)
}

func (w *world) record(t testing.TB, author, text string) []byte {
	t.Helper()
	return w.say(t, author, ledger.TypeRecord, ledger.Record{Text: text})
}

func (f *fake) propose(author, action string, args any) []byte {
	f.t.Helper()
	raw, err := canon.Marshal(args)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	base, err := f.state.BaseFor(action, raw)
	f.mu.Unlock()
	if err != nil {
		f.t.Fatal(err)
	}
	return f.world.say(f.t, author, ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base})
}

func (w *world) ballot(t testing.TB, author, typ string, proposal []byte) []byte {
	t.Helper()
	return w.say(t, author, typ, ledger.Ballot{Proposal: idOf(t, proposal)})
}

func idOf(t testing.TB, envelope []byte) ledger.Hash {
	t.Helper()
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return st.ID
}

// submit puts statements on the fake's ledger, past the API.
func (f *fake) submit(envelopes ...[]byte) *Receipt {
	f.t.Helper()
	statements := make([]*ledger.Statement, len(envelopes))
	for i, envelope := range envelopes {
		var err error
		if statements[i], err = ledger.ParseStatement(envelope); err != nil {
			f.t.Fatal(err)
		}
	}
	r, err := f.Submit(context.Background(), statements, client.WaitCertified)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}
