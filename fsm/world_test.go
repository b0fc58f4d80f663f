package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// failer is what tests and rapid's checks have in common.
type failer interface {
	Helper()
	Fatal(values ...any)
	Fatalf(format string, values ...any)
}

// world is a ledger for tests. Every key follows from a name, so that tests are
// the same each time; nothing of it is a secret.
type world struct {
	t       failer
	genesis *ledger.Genesis
	entry0  []byte
	state   *State
	entries [][]byte // after entry 0
	history []moment // every command
	now     uint64
	verify  Verifier
	nonces  uint64
	seqs    map[string]uint64
}

// moment is a command that was applied, and the state after it.
type moment struct {
	command *ledger.Command
	after   *State
	sealed  bool
}

const created = 1_700_000_000_000

var (
	keyring = map[string]*keys.PrivateKey{}
	owners  = map[string]*keys.PrivateKey{} // by public key
)

// keyNamed gives the test key of a name.
func keyNamed(name string) *keys.PrivateKey {
	k := keyring[name]
	if k == nil {
		k = keys.FromSeed(sha256.Sum256([]byte("quorate test key " + name)))
		keyring[name] = k
		owners[string(k.Public().Bytes())] = k
	}
	return k
}

func publicOf(name string) []byte { return keyNamed(name).Public().Bytes() }

func filler(name string, size int) []byte {
	b := []byte{}
	for i := byte(0); len(b) < size; i++ {
		sum := sha256.Sum256(append([]byte(name), i))
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// parseSeat reads NAME@OPERATOR or NAME@OPERATOR#KEY.
func parseSeat(text string) (name, operator, key string) {
	name, operator, _ = strings.Cut(text, "@")
	operator, key, found := strings.Cut(operator, "#")
	if !found {
		key = name
	}
	return name, operator, key
}

func memberOf(text string) ledger.Member {
	name, operator, key := parseSeat(text)
	return ledger.Member{Name: name, Operator: operator, Public: publicOf(key)}
}

func replicaOf(text string) ledger.Replica {
	name, operator, key := parseSeat(text)
	return ledger.Replica{
		API:      "https://" + name + ".example:8443",
		Cosigner: keyNamed(key).Cosigner44().Public(),
		Name:     name,
		Operator: operator,
		Peer:     name + ".example:7000",
		Public:   publicOf(key),
		TLSPin:   sha256.Sum256([]byte("pin " + key)),
	}
}

// defaultGenesis is three governors of three operators, four replicas, three
// recovery holders.
func defaultGenesis() *ledger.Genesis {
	g := &ledger.Genesis{
		Council:   []ledger.Member{memberOf("alice@alpha"), memberOf("bob@beta"), memberOf("carol@gamma")},
		Created:   created,
		Format:    1,
		Log:       ledger.LogKeys{Ed25519: filler("log", 32), MLDSA44: filler("log", 1312)},
		Operators: []ledger.Operator{{Name: "alpha"}, {Name: "beta"}, {Name: "gamma"}},
		Origin:    "ledger.example/test",
		Policy:    ledger.DefaultPolicy(3),
		Replicas:  []ledger.Replica{replicaOf("r1@alpha"), replicaOf("r2@beta"), replicaOf("r3@gamma"), replicaOf("r4@alpha")},
		Recovery: &ledger.Recovery{
			Holders:   []ledger.Holder{{Name: "rita", Public: publicOf("rita")}, {Name: "rosa", Public: publicOf("rosa")}, {Name: "ruth", Public: publicOf("ruth")}},
			Threshold: 2,
		},
	}
	// The stories' draws follow from the hash of genesis, so it stays.
	g.Policy.KeyEpochs = 432
	return g
}

func newWorld(t failer, g *ledger.Genesis) *world {
	t.Helper()
	entry, err := g.Entry()
	if err != nil {
		t.Fatalf("genesis: %v", err)
	}
	s, err := New(entry)
	if err != nil {
		t.Fatalf("new state: %v", err)
	}
	return &world{t: t, genesis: g, entry0: entry, state: s, now: g.Created, verify: NewDirectVerifier(256), seqs: map[string]uint64{}}
}

// saying is one statement to be made.
type saying struct {
	author, typ string
	body        any
	key         string // the signing key's name; "" is the author's
	change      func(*ledger.Payload)
	seen        func(envelope []byte) // called once it is signed
}

// payload makes a payload with the replay form that the author's role needs.
func (w *world) payload(author, typ string) ledger.Payload {
	p := ledger.Payload{Author: author, Generation: w.state.Meta().Generation, Ledger: w.state.Meta().Ledger, Type: typ}
	form, _ := ledger.ReplayForm(typ)
	_, replica := w.state.Replica(author)
	_, node := w.state.Node(author)
	switch {
	case form == ledger.ReplayEpochSeq, form == ledger.ReplayEither && (replica || node):
		epoch, seq := w.state.Epoch(), w.seqs[author]
		w.seqs[author]++
		p.Epoch, p.Seq = &epoch, &seq
	case form != ledger.ReplayNone:
		w.nonces++
		p.Nonce = binary.BigEndian.AppendUint64(make([]byte, 8, 16), w.nonces)
		p.Expires = w.now + 3_600_000
	}
	return p
}

func (w *world) sign(s saying) []byte {
	w.t.Helper()
	key := s.key
	if key == "" {
		key = s.author
	}
	p := w.payload(s.author, s.typ)
	if s.change != nil {
		s.change(&p)
	}
	envelope, err := ledger.Sign(keyNamed(key), p, s.body)
	if err != nil {
		w.t.Fatalf("sign %s of %s: %v", s.typ, s.author, err)
	}
	if s.seen != nil {
		s.seen(envelope)
	}
	return envelope
}

// apply applies a command at the world's time.
func (w *world) apply(kind ledger.CommandKind, envelopes ...[]byte) Result {
	w.t.Helper()
	before := w.state.Digest()
	command := &ledger.Command{Kind: kind, Stamp: w.now, Statements: envelopes}
	next, result := Apply(w.state, command, w.verify)
	if admitted := Admit(w.state, command, struct{ Verifier }{w.verify}); !slices.Equal(admitted, result.Verdicts) {
		w.t.Fatalf("Admit answers %v, Apply %v", admitted, result.Verdicts)
	}
	if w.state.Digest() != before {
		w.t.Fatalf("Apply changed the state that it was given")
	}
	if len(result.Entries) == 0 && next != w.state {
		w.t.Fatalf("a command that appended nothing made another state")
	}
	w.state = next
	w.history = append(w.history, moment{command, next, result.Sealed != nil})
	w.entries = append(w.entries, result.Entries...)
	return result
}

// submit applies a bundle that must be accepted.
func (w *world) submit(envelopes ...[]byte) Result {
	w.t.Helper()
	r := w.apply(ledger.CommandStatements, envelopes...)
	for _, v := range r.Verdicts {
		if v.Code != OK {
			w.t.Fatalf("refused: %s at %s: %s", v.Code, v.Path, v.Detail)
		}
	}
	return r
}

func (w *world) propose(author, action string, args any) []byte {
	w.t.Helper()
	raw, err := canon.Marshal(args)
	if err != nil {
		w.t.Fatalf("args: %v", err)
	}
	base, err := w.state.BaseFor(action, raw)
	if err != nil {
		w.t.Fatalf("base of %s: %v", action, err)
	}
	return w.sign(saying{author: author, typ: ledger.TypePropose, body: ledger.Propose{Action: action, Args: raw, Base: base}})
}

func (w *world) ballot(author, typ string, proposal []byte) []byte {
	return w.sign(saying{author: author, typ: typ, body: ledger.Ballot{Proposal: idOf(proposal)}})
}

func idOf(envelope []byte) ledger.Hash {
	st, err := ledger.ParseStatement(envelope)
	if st == nil {
		panic(fmt.Sprintf("not a statement: %v", err))
	}
	return st.ID
}

// checkState checks what must hold of every state.
func checkState(t failer, s *State) {
	t.Helper()
	drawn := s.drawAuthority()
	if changed := string(encode(&drawn)) != string(encode(s.authority)); changed != s.pending {
		t.Fatalf("pending handover is %v, the authority changed: %v", s.pending, changed)
	}
	var trie ledger.Trie
	s.Walk("", func(key string, value []byte) bool {
		record, err := decodeRecord(key, value)
		if err != nil {
			t.Fatalf("record %s does not decode: %v", key, err)
		}
		if string(encode(record)) != string(value) {
			t.Fatalf("record %s encodes to other bytes", key)
		}
		trie = trie.Put(key, value)
		return true
	})
	if trie.Root() != s.Digest() {
		t.Fatalf("the digest is not that of the records")
	}
}

// dump collects the records of a state.
func dump(t failer, s *State) ([]string, map[string][]byte) {
	t.Helper()
	names, values := []string{}, map[string][]byte{}
	if err := s.Dump(func(key string, value []byte) error {
		names = append(names, key)
		values[key] = value
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names, values
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
