package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"golang.org/x/mod/sumdb/tlog"
)

// A world is a small ledger made by hand, without the rules of fsm: whatever a
// test wants to be on it, is. All keys come from their names, so that every
// byte is the same each time.
type world struct {
	t       testing.TB
	genesis *Genesis
	hash    Hash // genesis hash
	log     *LogSigner

	entries [][]byte
	tree    storedHashes
	stamp   uint64
	records map[string][]byte
	trie    Trie
	now     Authority
	nonce   uint64
}

const worldOrigin = "ledger.test/fleet"

// testSeed is the seed of the test key of a name, as test/vectors/README.md
// says.
func testSeed(name string) [32]byte { return sha256.Sum256([]byte("quorate test key " + name)) }

var testKeys = map[string]*keys.PrivateKey{}

func testKey(name string) *keys.PrivateKey {
	if testKeys[name] == nil {
		testKeys[name] = keys.FromSeed(testSeed(name))
	}
	return testKeys[name]
}

func testMember(name, operator string) Member {
	return Member{Name: name, Operator: operator, Public: testKey(name).Public().Bytes()}
}

// testReplica is a replica of a name whose keys come from seed.
func testReplica(name, operator, seed string) Replica {
	k := testKey(seed)
	return Replica{
		Cosigner: k.Cosigner44().Public(), Name: name, Operator: operator, Peer: name + ".test:7000",
		Public: k.Public().Bytes(), TLSPin: sha256.Sum256([]byte("certificate of " + seed)),
	}
}

// newWorld has a council of three governors of three operators, threshold 2,
// a recovery set of two of three, and n replicas.
func newWorld(t testing.TB, n int) *world {
	log := NewLogSigner(worldOrigin, testSeed("log ed25519"), testSeed("log mldsa44"))
	g := &Genesis{
		Council:   []Member{testMember("alice", "acme"), testMember("bob", "bolt"), testMember("carol", "core")},
		Created:   1_700_000_000_000,
		Format:    Format,
		Log:       log.Keys(),
		Operators: []Operator{{Name: "acme"}, {Name: "bolt"}, {Name: "core"}, {Name: "dune", Sponsor: "acme"}},
		Origin:    worldOrigin,
		Policy:    DefaultPolicy(3),
		Recovery:  &Recovery{Threshold: 2},
	}
	for _, name := range []string{"rhea", "rolf", "rosa"} {
		g.Recovery.Holders = append(g.Recovery.Holders, Holder{Name: name, Public: testKey(name).Public().Bytes()})
	}
	operators := []string{"acme", "bolt", "core"}
	for i := range n {
		name := fmt.Sprintf("r%02d", i+1)
		g.Replicas = append(g.Replicas, testReplica(name, operators[i%3], name))
	}
	w := &world{t: t, genesis: g, log: log, stamp: g.Created, records: map[string][]byte{}}
	entry, err := g.Entry()
	w.must(err)
	w.hash = LeafHash(entry)
	w.now = GenesisAuthority(g, w.hash)
	w.push(entry)
	w.put("meta", canon.Raw(`{"epoch":0}`))
	for i := range 20 {
		w.put(fmt.Sprintf("node/edge-%d", i), canon.Raw(fmt.Sprintf(`{"name":"edge-%d","standing":"active"}`, i)))
	}
	w.put(AuthorityKey, w.now)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(key string, value any) {
	w.t.Helper()
	b, err := canon.Marshal(value)
	w.must(err)
	w.records[key] = b
	w.trie = w.trie.Put(key, b)
}

func (w *world) push(entry []byte) {
	hashes, err := tlog.StoredHashes(int64(len(w.entries)), entry, w.tree)
	w.must(err)
	w.tree = append(w.tree, hashes...)
	w.entries = append(w.entries, entry)
}

func (w *world) size() uint64 { return uint64(len(w.entries)) }

// append puts an entry on the ledger and gives its seq.
func (w *world) append(kind Kind, content []byte) uint64 {
	w.t.Helper()
	w.stamp += 10
	e := Entry{Seq: w.size(), Stamp: w.stamp, Prev: LeafHash(w.entries[len(w.entries)-1]), Kind: kind, Content: content}
	b, err := e.Encode()
	w.must(err)
	w.push(b)
	return e.Seq
}

// payload gives a payload by author in the replay form that typ wants.
func (w *world) payload(author, typ string) Payload {
	p := Payload{Author: author, Ledger: w.hash, Type: typ}
	w.nonce++
	switch form, _ := ReplayForm(typ); form {
	case ReplayNonce, ReplayEither:
		p.Nonce = binary.BigEndian.AppendUint64(make([]byte, 8), w.nonce)
		p.Expires = w.stamp + 3_600_000
	case ReplayEpochSeq:
		epoch, seq := uint64(0), w.nonce
		p.Epoch, p.Seq = &epoch, &seq
	}
	return p
}

// say signs a statement by author and puts it on the ledger.
func (w *world) say(author, typ string, body any) (seq uint64, s *Statement) {
	w.t.Helper()
	return w.sayBy(testKey(author), w.payload(author, typ), body)
}

func (w *world) sayBy(k *keys.PrivateKey, p Payload, body any) (uint64, *Statement) {
	w.t.Helper()
	envelope, err := Sign(k, p, body)
	w.must(err)
	s, err := ParseStatement(envelope)
	w.must(err)
	return w.append(KindStatement, envelope), s
}

// decide puts a proposal by the first author and approvals by the others on
// the ledger and gives their seqs.
func (w *world) decide(action string, args any, authors ...string) []uint64 {
	w.t.Helper()
	raw, err := canon.Marshal(args)
	w.must(err)
	seq, proposal := w.say(authors[0], TypePropose, Propose{Action: action, Args: raw, Base: map[string]uint64{}})
	causes := []uint64{seq}
	for _, author := range authors[1:] {
		seq, _ := w.say(author, TypeApprove, Ballot{Proposal: proposal.ID})
		causes = append(causes, seq)
	}
	return causes
}

// seal ends the ledger with a seal, of a handover if that is above 0.
func (w *world) seal(handover uint64) Head {
	w.t.Helper()
	seal := Seal{Digest: w.trie.Root(), Reason: SealRoutine}
	if handover > 0 {
		seal.Handover, seal.Reason = handover, SealHandover
	}
	content, err := canon.Marshal(seal)
	w.must(err)
	w.append(KindSeal, content)
	return w.head()
}

func (w *world) head() Head {
	root, err := tlog.TreeHash(int64(w.size()), w.tree)
	w.must(err)
	return Head{Origin: w.genesis.Origin, Size: w.size(), Root: Hash(root)}
}

// sign gives the checkpoint of h, cosigned with the test keys of these names. A
// replica's name is what stands before a colon: "r01:new" is replica r01 with
// another key.
func (w *world) sign(h Head, signers ...string) *Checkpoint {
	return w.signIn(w.now.Generation, h, signers...)
}

// signIn is sign as replicas of a generation do.
func (w *world) signIn(generation uint64, h Head, signers ...string) *Checkpoint {
	c := &Checkpoint{Head: h}
	for i, signer := range signers {
		name, _, _ := strings.Cut(signer, ":")
		k := testKey(signer)
		c.Add(Cosign(Branch(w.hash, generation), k, k.Cosigner44(), name, h, w.stamp/1000+uint64(i)))
	}
	return c
}

// inclusion proves entry seq in the tree of h's size.
func (w *world) inclusion(seq uint64, h Head) []Hash {
	w.t.Helper()
	proof, err := tlog.ProveRecord(int64(h.Size), int64(seq), w.tree)
	w.must(err)
	hashes := make([]Hash, len(proof))
	for i, p := range proof {
		hashes[i] = Hash(p)
	}
	return hashes
}

// handover changes the authority, seals, and gives the link that shows it.
func (w *world) handover(causes []uint64, change func(a *Authority), signers ...string) *Link {
	w.t.Helper()
	next := w.now.Clone()
	next.Index++
	next.Causes = causes
	change(&next)
	next.CosignThreshold = uint64(CosignThreshold(len(next.Active())))
	return w.enact(next, signers...)
}

// enact is handover with whatever record.
func (w *world) enact(next Authority, signers ...string) *Link {
	w.t.Helper()
	w.now = next
	w.put(AuthorityKey, next)
	h := w.seal(next.Index)
	return w.link(next.Causes, h, signers...)
}

func (w *world) link(causes []uint64, h Head, signers ...string) *Link {
	w.t.Helper()
	c := w.sign(h, signers...)
	for i := range c.Cosignatures {
		c.Cosignatures[i] = c.Cosignatures[i].WithoutMLDSA44()
	}
	record := w.now
	l := &Link{
		Checkpoint:  string(c.Note()),
		Index:       record.Index,
		Record:      &record,
		RecordProof: w.trie.Prove(AuthorityKey).With(nil),
		Seal:        w.entries[h.Size-1],
		SealProof:   w.inclusion(h.Size-1, h),
	}
	for _, seq := range causes {
		l.Statements = append(l.Statements, LinkStatement{Entry: w.entries[seq], Proof: w.inclusion(seq, h), Seq: seq})
	}
	return l
}

// replicas gives the names of the active replicas.
func (w *world) replicas() []string {
	var names []string
	for _, r := range w.now.Active() {
		names = append(names, r.Name)
	}
	return names
}

// storedHashes is a tree in memory.
type storedHashes []tlog.Hash

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = s[index]
	}
	return hashes, nil
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
