package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/keys"
)

// The vectors of FORMAT.md section 19, and of the authority links that replicas'
// own rotations make.

type keysVectors struct {
	About     string           `json:"about"`
	Rotations []rotationVector `json:"rotations"`
	Shares    []shareVector    `json:"shares"`
	Combined  []combinedVector `json:"combined"`
}

type rotationVector struct {
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Envelope hexBytes `json:"envelope"`
	Message  hexBytes `json:"message,omitempty"` // that the proofs sign
	Holds    bool     `json:"holds"`
}

type shareVector struct {
	Name  string   `json:"name"`
	Set   hexBytes `json:"set"`
	Index byte     `json:"index"`
	Value hexBytes `json:"value"`
	Hash  hexBytes `json:"hash"`
}

type combinedVector struct {
	Name      string        `json:"name"`
	Threshold int           `json:"threshold"`
	Shares    []shareVector `json:"shares"`
	FileKey   hexBytes      `json:"file_key,omitempty"` // none: they give no file key
}

// rotation is a key.rotate to be made; its zero value is a good one of r01.
type rotation struct {
	name, why string // of a case
	author    string // "" for r01
	signer    string // of the statement; "" for the author
	to        string // whose test key the next one is; "" for "AUTHOR:new"
	prover    string // who makes the proof; "" for to
	old       string // the key that the proof names as the one before; "" for the signer
	holder    string // whom the proof names; "" for the author
	branch    Hash   // that the proof is for; zero for the ledger's own
	change    func(*Rotate)
	record    func(*Authority)
	more      func(*world) []uint64 // further statements
	before    func(*world)
}

func (r rotation) names() rotation {
	or := func(s *string, other string) {
		if *s == "" {
			*s = other
		}
	}
	or(&r.author, "r01")
	or(&r.signer, r.author)
	or(&r.to, r.author+":new")
	or(&r.prover, r.to)
	or(&r.old, r.signer)
	or(&r.holder, r.author)
	return r
}

// body is a replica's rotation.
func (r rotation) body(branch Hash) Rotate {
	r = r.names()
	if !r.branch.IsZero() {
		branch = r.branch
	}
	k := testKey(r.to)
	b := Rotate{Cosigner: k.Cosigner44().Public(), Public: k.Public().Bytes(), TLSPin: sha256.Sum256([]byte("pin " + r.to))}
	b.Proof = testKey(r.prover).Sign(RotationMessage(branch, Hash(testKey(r.old).ID()), r.holder, b))
	if r.change != nil {
		r.change(&b)
	}
	return b
}

// make puts it on the ledger and hands over.
func (r rotation) make(w *world) *Link {
	if r.before != nil {
		r.before(w)
	}
	r = r.names()
	body := r.body(w.now.Branch())
	seq, _ := w.sayBy(testKey(r.signer), w.payload(r.author, TypeRotate), body)
	causes := []uint64{seq}
	if r.more != nil {
		causes = append(causes, r.more(w)...)
	}
	return w.handover(causes, func(a *Authority) {
		for i := range a.Replicas {
			if a.Replicas[i].Name == r.author {
				a.Replicas[i].Public, a.Replicas[i].Cosigner = body.Public, body.Cosigner
			}
		}
		if r.record != nil {
			r.record(a)
		}
	}, "r02", "r03", "r04")
}

// hostileRotations are refused after link 1, which adds r05, joining.
var hostileRotations = []rotation{
	{name: "the proof is another key's", why: "proof does not verify", prover: "r02"},
	{name: "the proof is for the next generation", why: "proof does not verify", branch: Branch(LeafHash([]byte("other")), 1)},
	{name: "the proof is for another ledger", why: "proof does not verify", branch: LeafHash([]byte("other"))},
	{name: "the proof names another key before", why: "proof does not verify", old: "r02"},
	{name: "the proof names another holder", why: "proof does not verify", holder: "r02"},
	{name: "the proof is for another TLS pin", why: "proof does not verify", change: func(b *Rotate) { b.TLSPin[0] ^= 1 }},
	{name: "it is signed by another replica", why: "no active replica", signer: "r02"},
	{name: "it is signed by the new key", why: "no active replica", signer: "r01:new"},
	{name: "a replica that is joining", why: "no active replica", author: "r05"},
	{name: "somebody who is no replica", why: "no active replica", author: "alice"},
	{name: "without a cosigning key", why: "cosigner", change: func(b *Rotate) { b.Cosigner = nil }},
	{name: "a node's rotation", why: "body.", change: func(b *Rotate) { b.Peer, b.PeerProof = make([]byte, 32), make([]byte, 64) }},
	{name: "to another replica's key", why: "", to: "r02"},
	{name: "the record changes more than the keys", why: "record", record: func(a *Authority) { a.Replicas[1].Operator = "dune" }},
	{name: "the record keeps the cosigning key", why: "record", record: func(a *Authority) { a.Replicas[0].Cosigner = testKey("r01").Cosigner44().Public() }},
	{name: "with an approval beside it", why: "alone", more: func(w *world) []uint64 {
		seq, _ := w.say("alice", TypeRecord, Record{Text: "beside it"})
		return []uint64{seq}
	}},
}

// rotatingWorld has four replicas, and a fifth that is joining.
func rotatingWorld(t testing.TB) (*world, []*Link) {
	w := newWorld(t, 4)
	fifth := testReplica("r05", "dune", "r05")
	causes := w.decide("replica.add", map[string]any{"replica": fifth}, "alice", "bob")
	link := w.handover(causes, func(a *Authority) { a.Replicas = append(a.Replicas, authorityReplica(fifth, true)) }, "r01", "r02", "r03")
	return w, []*Link{GenesisLink(w.entries[0]), link}
}

func TestReplicaRotationLinks(t *testing.T) {
	w, links := rotatingWorld(t)
	links = append(links, rotation{}.make(w))
	chain, err := WalkChain(w.hash, links)
	if err != nil {
		t.Fatal(err)
	}
	after := w.seal(0)
	if _, err := chain.VerifyCheckpoint(w.sign(after, "r01:new", "r02", "r03").Note()); err != nil {
		t.Errorf("by the new key and two others: %v", err)
	}
	if _, err := chain.VerifyCheckpoint(w.sign(after, "r01", "r02", "r03").Note()); err == nil {
		t.Error("the key before still certifies")
	}
	for _, c := range hostileRotations {
		w, links := rotatingWorld(t)
		_, err := WalkChain(w.hash, append(links, c.make(w)))
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: want %q in: %v", c.name, c.why, err)
		}
	}
}

// A ledger of an earlier format knows no rotation.
func TestReplicaRotationBeforeItsFormat(t *testing.T) {
	w, _ := rotatingWorld(t)
	prev := w.now
	prev.Format = KeysFormat - 1
	_, s := w.sayBy(testKey("r01"), w.payload("r01", TypeRotate), rotation{}.body(w.now.Branch()))
	if _, err := prev.successor(w.hash, []*Statement{s}, []uint64{w.size() - 1}); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("accepted: %v", err)
	}
}

func makeReplicaRotation(t testing.TB) authorityVectors {
	v := authorityVectors{About: "Replicas' own rotations (FORMAT.md sections 10 and 19): r05 is added, r01 rotates its keys, and once more, r02 is re-keyed from an epoch on. Each of refused is sealed and certified."}
	w, links := rotatingWorld(t)
	v.Genesis = w.hash[:]
	add := func(l *Link) {
		v.Links = append(v.Links, linkText(t, l))
		v.Certifiers = append(v.Certifiers, strings.Join(w.replicas(), " "))
	}
	add(links[0])
	add(links[1])
	add(rotation{}.make(w))
	add(rotation{signer: "r01:new", to: "r01:third"}.make(w))
	again, from := testReplica("r02", "bolt", "r02:new"), uint64(0)
	causes := w.decide("replica.rekey", map[string]any{"from": from, "replica": again}, "alice", "bob")
	add(w.handover(causes, func(a *Authority) { a.Replicas[1] = authorityReplica(again, true) }, "r01:third", "r02", "r03", "r04"))
	last := w.seal(0)
	note := func(name string, ok bool, signers ...string) {
		v.Checkpoints = append(v.Checkpoints, noteVector{Name: name, Note: string(w.sign(last, signers...).Note()), OK: ok})
	}
	note("by the third key of r01 and another", true, "r01:third", "r03")
	note("by the first key of r01 and another", false, "r01", "r03")
	note("by the second key of r01 and another", false, "r01:new", "r03")
	for _, c := range hostileRotations {
		w, _ := rotatingWorld(t)
		v.Refused = append(v.Refused, refusedLink{Name: c.name, After: 1, Link: linkText(t, c.make(w))})
	}
	var texts []*string
	for i := range v.Links {
		texts = append(texts, &v.Links[i])
	}
	for i := range v.Refused {
		texts = append(texts, &v.Refused[i].Link)
	}
	for i := range v.Checkpoints {
		texts = append(texts, &v.Checkpoints[i].Note)
	}
	v.Strings = shorten(texts...)
	return v
}

// possessed says whether the proofs of a rotation verify, for the branch that its
// statement names.
func possessed(s *Statement, replica bool) ([]byte, bool) {
	body, err := DecodeBody[Rotate](s)
	if err != nil || body.Check(replica) != nil {
		return nil, false
	}
	m := RotationMessage(Branch(s.Payload.Ledger, s.Payload.Generation), s.KeyID, s.Payload.Author, body)
	key, err := keys.ParsePublicKey(body.Public)
	return m, err == nil && key.Verify(m, body.Proof) && (replica || ed25519.Verify(body.Peer, m, body.PeerProof))
}

func makeKeysLife(t testing.TB) keysVectors {
	v := keysVectors{About: "Keys (FORMAT.md section 19). The proofs in the key.rotate envelope hold, or not, for a holder of this role; message is what they sign. A share has hash. The shares give file_key, or none if they do not fit together."}
	w := newWorld(t, 1)
	envelope := func(author string, body Rotate) *Statement {
		_, s := w.sayBy(testKey(author), w.payload(author, TypeRotate), body)
		return s
	}
	add := func(name, role string, s *Statement) {
		m, holds := possessed(s, role == "replica")
		c := rotationVector{Name: name, Role: role, Envelope: s.Envelope, Holds: holds}
		if holds {
			c.Message = m
		}
		v.Rotations = append(v.Rotations, c)
	}
	for _, c := range append([]rotation{{name: "good"}}, hostileRotations[:6]...) {
		add("a replica's: "+c.name, "replica", envelope("r01", c.body(w.hash)))
	}
	node := func(change func(*Rotate, ed25519.PrivateKey)) *Statement {
		seed := sha256.Sum256([]byte("quorate test peer edge-1:new"))
		peer, next := ed25519.NewKeyFromSeed(seed[:]), testKey("edge-1:new")
		b := Rotate{Peer: peer.Public().(ed25519.PublicKey), Public: next.Public().Bytes()}
		m := RotationMessage(w.hash, Hash(testKey("edge-1").ID()), "edge-1", b)
		b.Proof, b.PeerProof = next.Sign(m), ed25519.Sign(peer, m)
		if change != nil {
			change(&b, peer)
		}
		return envelope("edge-1", b)
	}
	add("a node's: good", "node", node(nil))
	add("a node's, of a replica", "replica", node(nil))
	add("a node's: the peer key's proof is changed", "node", node(func(b *Rotate, _ ed25519.PrivateKey) { b.PeerProof[5] ^= 1 }))
	add("a node's: the peer key signs another message", "node", node(func(b *Rotate, k ed25519.PrivateKey) { b.PeerProof = ed25519.Sign(k, []byte("another")) }))
	add("a node's: another peer key than is proven", "node", node(func(b *Rotate, _ ed25519.PrivateKey) { b.Peer = make([]byte, 32); b.Peer[0] = 9 }))
	shares, fileKey := splitForVectors(3, 6)
	v.Shares = shares
	for a := range shares {
		for b := a + 1; b < len(shares); b++ {
			for c := b + 1; c < len(shares); c++ {
				v.Combined = append(v.Combined, combinedVector{Name: fmt.Sprintf("shares %d, %d and %d of 6", c+1, a+1, b+1), Threshold: 3,
					Shares: []shareVector{shares[c], shares[a], shares[b]}, FileKey: fileKey})
			}
		}
	}
	wrong := shares[2]
	wrong.Value = append(hexBytes(nil), wrong.Value...)
	wrong.Value[20] ^= 1
	return withUnfit(v, combinedVector{Name: "one is changed", Threshold: 3, Shares: []shareVector{shares[0], shares[1], wrong}},
		combinedVector{Name: "all are there", Threshold: 3, Shares: shares, FileKey: fileKey},
		combinedVector{Name: "all are there, one is changed", Threshold: 3, Shares: []shareVector{shares[0], shares[1], shares[3], wrong}},
		combinedVector{Name: "two of three", Threshold: 3, Shares: shares[:2]},
		combinedVector{Name: "one twice", Threshold: 3, Shares: []shareVector{shares[0], shares[1], shares[1]}})
}

func withUnfit(v keysVectors, more ...combinedVector) keysVectors {
	v.Combined = append(v.Combined, more...)
	return v
}

// splitForVectors is Shamir's scheme once more, with numbers of our choice.
func splitForVectors(k, n int) (shares []shareVector, fileKey []byte) {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	digest := func(text string) []byte { sum := sha256.Sum256([]byte("quorate test split " + text)); return sum[:] }
	number := func(littleEndian []byte) *big.Int {
		b := make([]byte, len(littleEndian))
		for i, x := range littleEndian {
			b[len(b)-1-i] = x
		}
		return new(big.Int).SetBytes(b)
	}
	fileKey = digest("file key")[:16]
	polynomial := []*big.Int{number(fileKey)}
	for i := 1; i < k; i++ {
		polynomial = append(polynomial, new(big.Int).Mod(number(digest(fmt.Sprint("coefficient ", i))), order))
	}
	for x := 1; x <= n; x++ {
		y := new(big.Int)
		for i := len(polynomial) - 1; i >= 0; i-- {
			y.Mod(y.Add(y.Mul(y, big.NewInt(int64(x))), polynomial[i]), order)
		}
		value := make([]byte, 32)
		y.FillBytes(value)
		for i, j := 0, 31; i < j; i, j = i+1, j-1 {
			value[i], value[j] = value[j], value[i]
		}
		set := digest("set")[:16]
		hash := ShareHash([16]byte(set), byte(x), [32]byte(value))
		shares = append(shares, shareVector{Name: fmt.Sprint("share ", x), Set: set, Index: byte(x), Value: value, Hash: hash[:]})
	}
	return shares, fileKey
}

func checkKeysLife(t *testing.T, v keysVectors) {
	if len(v.Rotations) == 0 || len(v.Shares) == 0 || len(v.Combined) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range v.Rotations {
		s, err := ParseStatement(c.Envelope)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		m, holds := possessed(s, c.Role == "replica")
		if holds != c.Holds || holds && string(m) != string(c.Message) {
			t.Errorf("%s: holds %v, message %x", c.Name, holds, m)
		}
	}
	share := func(c shareVector) keys.Share {
		return keys.Share{Set: [16]byte(c.Set), Index: c.Index, Value: [32]byte(c.Value)}
	}
	for _, c := range v.Shares {
		one := share(c)
		if hash := one.Hash(); string(hash[:]) != string(c.Hash) {
			t.Errorf("%s: hash %x", c.Name, hash)
		}
	}
	for _, c := range v.Combined {
		var list []keys.Share
		for _, s := range c.Shares {
			list = append(list, share(s))
		}
		fileKey, err := keys.Combine(c.Threshold, list)
		if (err == nil) != (len(c.FileKey) > 0) || err == nil && string(fileKey[:]) != string(c.FileKey) {
			t.Errorf("%s: %x, %v", c.Name, fileKey, err)
		}
	}
}
