package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

func refusedStatements(t testing.TB, w *world) []statementVector {
	k := testKey("alice")
	id := k.ID()
	const typ = "quorate/approve.v1"
	payload := func(change string) string {
		ledger, err := canon.Marshal(w.hash)
		w.must(err)
		proposal, err := canon.Marshal(Hash(sha256.Sum256([]byte("a proposal"))))
		w.must(err)
		s := `{"author":"alice","body":{"proposal":` + string(proposal) + `},"generation":0,"ledger":` + string(ledger) + `,"type":"approve"}`
		if change == "" {
			return s
		}
		from, to, _ := strings.Cut(change, " => ")
		if !strings.Contains(s, from) {
			t.Fatalf("%q is not in %s", from, s)
		}
		return strings.Replace(s, from, to, 1)
	}
	good := payload("")
	alg, kid, typLabel := []byte{1, 0x38, 0x30}, append([]byte{4}, appendBytes(nil, id[:])...), append([]byte{16}, text(typ)...)
	mapOf := func(n byte, items ...[]byte) []byte { return protectedMap(append([][]byte{{0xa0 | n}}, items...)...) }
	var cases []statementVector
	refuse := func(name string, envelope []byte) {
		_, err := ParseStatement(envelope)
		e, ok := err.(*StatementError)
		if !ok {
			t.Fatalf("%s is accepted: %v", name, err)
		}
		cases = append(cases, statementVector{Name: name, Envelope: envelope, Error: e.Code, Path: e.Path})
	}
	with := func(p parts) []byte { return envelopeOf(k, typ, good, p) }
	whole := with(parts{})

	refuse("empty", nil)
	refuse("cut by one byte", whole[:len(whole)-1])
	refuse("a byte after it", append(bytes.Clone(whole), 0))
	refuse("another statement after it", append(bytes.Clone(whole), whole...))
	refuse("no tag", with(parts{lead: []byte{0x84}}))
	refuse("tag of COSE_Mac0", with(parts{lead: []byte{0xd1, 0x84}}))
	refuse("tag twice", with(parts{lead: []byte{0xd2, 0xd2, 0x84}}))
	refuse("tag in two bytes", with(parts{lead: []byte{0xd8, 18, 0x84}}))
	refuse("tag of CBOR before it", with(parts{lead: []byte{0xd9, 0xd9, 0xf7, 0xd2, 0x84}}))
	refuse("array of 4 in two bytes", with(parts{lead: []byte{0xd2, 0x98, 4}}))
	refuse("indefinite array", with(parts{lead: []byte{0xd2, 0x9f}, tail: []byte{0xff}}))
	refuse("array of 5", with(parts{lead: []byte{0xd2, 0x85}, tail: []byte{0x40}}))
	refuse("unprotected header has a kid", with(parts{unprotected: protectedMap([]byte{0xa1}, kid)}))
	refuse("unprotected header has anything", with(parts{unprotected: []byte{0xa1, 0x18, 99, 0}}))
	refuse("unprotected header is null", with(parts{unprotected: []byte{0xf6}}))
	refuse("unprotected header with a long length", with(parts{unprotected: []byte{0xb8, 0}}))
	refuse("indefinite unprotected header", with(parts{unprotected: []byte{0xbf, 0xff}}))
	refuse("payload with a longer length", with(parts{payloadHead: []byte{0x5a, 0, 0, 0, byte(len(good))}}))
	refuse("indefinite payload", with(parts{payloadHead: append([]byte{0x5f}, appendHead(nil, 2, uint64(len(good)))...), signatureHead: []byte{0xff, 0x59, 0x0c, 0xed}}))
	refuse("payload is text", with(parts{payloadHead: appendHead(nil, 3, uint64(len(good)))}))
	refuse("payload is detached", slices.Concat([]byte{0xd2, 0x84}, appendBytes(nil, mapOf(3, alg, kid, typLabel)), []byte{0xa0, 0xf6}, appendBytes(nil, make([]byte, 3309))))
	refuse("payload is empty", envelopeOf(k, typ, "", parts{}))
	refuse("payload above 32,768 bytes", envelopeOf(k, typ, payload(`"type":"approve"`+" => "+`"type":"approve`+strings.Repeat(" ", 32768)+`"`), parts{}))
	refuse("signature with a longer length", with(parts{signatureHead: []byte{0x5a, 0, 0, 0x0c, 0xed}}))
	refuse("signature of ML-DSA-44", slices.Concat([]byte{0xd2, 0x84}, appendBytes(nil, mapOf(3, alg, kid, typLabel)), []byte{0xa0}, appendBytes(nil, []byte(good)), appendBytes(nil, make([]byte, 2420))))

	refuse("protected labels unsorted", with(parts{protected: mapOf(3, kid, alg, typLabel)}))
	refuse("protected label twice", with(parts{protected: mapOf(4, alg, alg, kid, typLabel)}))
	refuse("a further protected label", with(parts{protected: mapOf(4, alg, kid, typLabel, []byte{0x18, 99, 0})}))
	refuse("crit", with(parts{protected: mapOf(4, alg, []byte{2, 0x80}, kid, typLabel)}))
	refuse("protected map with a long length", with(parts{protected: protectedMap([]byte{0xb8, 3}, alg, kid, typLabel)}))
	refuse("indefinite protected map", with(parts{protected: protectedMap([]byte{0xbf}, alg, kid, typLabel, []byte{0xff})}))
	refuse("bytes after the protected map", with(parts{protected: mapOf(3, alg, kid, typLabel, []byte{0})}))
	refuse("label with a long form", with(parts{protected: mapOf(3, []byte{0x18, 1, 0x38, 0x30}, kid, typLabel)}))
	refuse("alg in a longer form", with(parts{protected: mapOf(3, []byte{1, 0x39, 0, 0x30}, kid, typLabel)}))
	refuse("empty protected header", with(parts{protected: []byte{}}))
	refuse("no alg", with(parts{protected: mapOf(2, kid, typLabel)}))
	refuse("no kid", with(parts{protected: mapOf(2, alg, typLabel)}))
	refuse("no typ", with(parts{protected: mapOf(2, alg, kid)}))
	refuse("alg is ML-DSA-44", with(parts{protected: mapOf(3, []byte{1, 0x38, 0x2f}, kid, typLabel)}))
	refuse("alg is ML-DSA-87", with(parts{protected: mapOf(3, []byte{1, 0x38, 0x31}, kid, typLabel)}))
	refuse("alg is EdDSA", with(parts{protected: mapOf(3, []byte{1, 0x27}, kid, typLabel)}))
	refuse("kid of 31 bytes", with(parts{protected: mapOf(3, alg, append([]byte{4}, appendBytes(nil, id[1:])...), typLabel)}))
	for _, typ := range []string{"quorate/reject.v1", "quorate/approve.v2", "quorate/approve", "other/approve.v1", "quorate/Approve.v1", "quorate/approve.v1 ", "approve.v1", ""} {
		refuse(fmt.Sprintf("typ %q", typ), with(parts{protected: mapOf(3, alg, kid, append([]byte{16}, text(typ)...))}))
	}
	refuse("typ is a number", with(parts{protected: mapOf(3, alg, kid, []byte{16, 60})}))

	for _, change := range []string{
		`{"author" => {"alien":1,"author"`, `"generation":0, => `, `"generation":0 => "generation":0,"generation":0`, `"generation":0 => "generation":0.0`,
		`"generation":0 => "generation":null`, `"generation":0 => "generation":9007199254740992`, `"generation":0 => "generation":-1`, `"generation":0 => "generation":"0"`,
		`"author":"alice" => "author": "alice"`, `"author":"alice" => "author":"\u0061lice"`, `"author":"alice" => "author":"Alice"`, `"author":"alice" => "author":"-alice"`,
		`"author":"alice" => "author":""`, `"type":"approve" => "type":"reject"`, `"type":"approve"} => "type":"approve"} `,
		`"generation":0 => "expires":1700003600000,"generation":0`, `"ledger":" => "ledger":"A`, `"type":"approve"} => "seq":1,"type":"approve"}`,
		`"generation":0 => "epoch":0,"generation":0`, `"generation":0 => "expires":0,"generation":0`, `"body":{ => "body":[{`,
	} {
		refuse("payload: "+change, envelopeOf(k, typ, payload(change), parts{}))
	}
	refuse("payload: body is a list", envelopeOf(k, typ, `{"author":"alice","body":[],"generation":0,"ledger":"`+strings.Repeat("A", 43)+`","type":"approve"}`, parts{}))
	refuse("payload: body is null", envelopeOf(k, typ, `{"author":"alice","body":null,"generation":0,"ledger":"`+strings.Repeat("A", 43)+`","type":"approve"}`, parts{}))
	refuse("payload: unused bits in base64", envelopeOf(k, typ, `{"author":"alice","body":{},"generation":0,"ledger":"`+strings.Repeat("A", 42)+`B","type":"approve"}`, parts{}))
	refuse("payload: padded base64", envelopeOf(k, typ, `{"author":"alice","body":{},"generation":0,"ledger":"`+strings.Repeat("A", 43)+`=","type":"approve"}`, parts{}))

	form := func(name, typ string, change func(p *Payload)) {
		p := Payload{Author: "alice", Ledger: w.hash, Type: typ, Body: canon.Raw(`{}`)}
		change(&p)
		b, err := canon.Marshal(p)
		w.must(err)
		refuse(name, envelopeOf(k, "quorate/"+typ+".v1", string(b), parts{}))
	}
	one := uint64(1)
	nonce := make([]byte, 16)
	form("an approval with a nonce", TypeApprove, func(p *Payload) { p.Nonce, p.Expires = nonce, 1 })
	form("a proposal without a nonce", TypePropose, func(p *Payload) {})
	form("a proposal with epoch and seq", TypePropose, func(p *Payload) { p.Epoch, p.Seq = &one, &one })
	form("a proposal with both forms", TypePropose, func(p *Payload) { p.Epoch, p.Seq, p.Nonce, p.Expires = &one, &one, nonce, 1 })
	form("a nonce of 15 bytes", TypePropose, func(p *Payload) { p.Nonce, p.Expires = nonce[1:], 1 })
	form("a nonce without expires", TypePropose, func(p *Payload) { p.Nonce = nonce })
	form("expires without a nonce", TypePropose, func(p *Payload) { p.Expires = 1 })
	form("an epoch without a seq", TypeReady, func(p *Payload) { p.Epoch = &one })
	form("a seq without an epoch", TypeReady, func(p *Payload) { p.Seq = &one })
	form("a ready with a nonce", TypeReady, func(p *Payload) { p.Nonce, p.Expires = nonce, 1 })
	form("a record with neither form", TypeRecord, func(p *Payload) {})
	form("a record with both forms", TypeRecord, func(p *Payload) { p.Epoch, p.Seq, p.Nonce, p.Expires = &one, &one, nonce, 1 })
	form("an unknown type", "praise", func(p *Payload) {})
	return cases
}

func refusedEntries(t testing.TB, w *world) []entryVector {
	var cases []entryVector
	refuse := func(name string, b []byte) { cases = append(cases, entryVector{Name: name, Entry: b, Error: true}) }
	zero := appendBytes(nil, make([]byte, 32))
	entry := func(items ...[]byte) []byte { return bytes.Join(items, nil) }
	u := func(n uint64) []byte { return appendHead(nil, 0, n) }
	content := appendBytes(nil, []byte("x"))
	head := []byte{0x86, 1}
	good := entry(head, u(1), u(5), zero, u(1), content)
	refuse("empty", nil)
	refuse("cut", good[:len(good)-1])
	refuse("a byte after it", append(bytes.Clone(good), 0))
	refuse("array of 5", entry([]byte{0x85, 1}, u(1), u(5), zero, u(1)))
	refuse("array of 7", entry([]byte{0x87, 1}, u(1), u(5), zero, u(1), content, u(0)))
	refuse("array length in two bytes", entry([]byte{0x98, 6, 1}, u(1), u(5), zero, u(1), content))
	refuse("indefinite array", entry([]byte{0x9f, 1}, u(1), u(5), zero, u(1), content, []byte{0xff}))
	refuse("version 2", entry([]byte{0x86, 2}, u(1), u(5), zero, u(1), content))
	refuse("seq not in shortest form", entry(head, []byte{0x18, 1}, u(5), zero, u(1), content))
	refuse("stamp not in shortest form", entry(head, u(1), []byte{0x1b, 0, 0, 0, 0, 0, 0, 0, 5}, zero, u(1), content))
	refuse("seq of 2^53", entry(head, u(1<<53), u(5), zero, u(1), content))
	refuse("stamp of 2^53", entry(head, u(1), u(1<<53), zero, u(1), content))
	refuse("negative seq", entry(head, []byte{0x20}, u(5), zero, u(1), content))
	refuse("prev of 31 bytes", entry(head, u(1), u(5), appendBytes(nil, make([]byte, 31)), u(1), content))
	refuse("prev of 33 bytes", entry(head, u(1), u(5), appendBytes(nil, make([]byte, 33)), u(1), content))
	refuse("kind 4", entry(head, u(1), u(5), zero, u(4), content))
	refuse("content is text", entry(head, u(1), u(5), zero, u(1), []byte{0x61, 'x'}))
	refuse("content length not in shortest form", entry(head, u(1), u(5), zero, u(1), []byte{0x58, 1, 'x'}))
	refuse("indefinite content", entry(head, u(1), u(5), zero, u(1), []byte{0x5f, 0x41, 'x', 0xff}))
	refuse("65,536 bytes", entry(head, u(1), u(5), zero, u(1), appendBytes(nil, make([]byte, 65536-41))))

	of := func(kind Kind, s string) []byte {
		b, err := (&Entry{Seq: 1, Stamp: 5, Kind: kind, Content: []byte(s)}).Encode()
		w.must(err)
		return b
	}
	digest := strings.Repeat("A", 43)
	refuse("effect with an unknown field", of(KindEffect, `{"alien":1,"body":{},"causes":[1],"type":"tick"}`))
	refuse("effect without causes", of(KindEffect, `{"body":{},"type":"tick"}`))
	refuse("effect with a space", of(KindEffect, `{"body":{}, "causes":[1],"type":"tick"}`))
	refuse("seal with an unknown reason", of(KindSeal, `{"digest":"`+digest+`","epoch":0,"reason":"bored"}`))
	refuse("seal with a short digest", of(KindSeal, `{"digest":"`+digest[1:]+`","epoch":0,"reason":"routine"}`))
	refuse("seal of a handover without index", of(KindSeal, `{"digest":"`+digest+`","epoch":0,"reason":"handover"}`))
	refuse("routine seal with a handover", of(KindSeal, `{"digest":"`+digest+`","epoch":0,"handover":1,"reason":"routine"}`))
	refuse("seal with handover 0 written", of(KindSeal, `{"digest":"`+digest+`","epoch":0,"handover":0,"reason":"routine"}`))

	genesis := func(name string, change func(g *Genesis)) {
		g := newWorld(t, 3).genesis
		change(g)
		content, err := canon.Marshal(g)
		w.must(err)
		b, err := (&Entry{Stamp: w.genesis.Created, Kind: KindGenesis, Content: content}).Encode()
		w.must(err)
		refuse("genesis: "+name, b)
	}
	genesis("format 2", func(g *Genesis) { g.Format = 2 })
	genesis("another stamp than created", func(g *Genesis) { g.Created++ })
	genesis("council not sorted", func(g *Genesis) { g.Council[0], g.Council[1] = g.Council[1], g.Council[0] })
	genesis("a governor twice", func(g *Genesis) { g.Council[1] = g.Council[0] })
	genesis("a governor's operator is unknown", func(g *Genesis) { g.Council[0].Operator = "nobody" })
	genesis("a key in two seats", func(g *Genesis) { g.Replicas[0].Public = g.Council[0].Public })
	genesis("a name in two seats", func(g *Genesis) { g.Replicas[0].Name = "alice" })
	genesis("no council", func(g *Genesis) { g.Council = nil })
	genesis("no replicas", func(g *Genesis) { g.Replicas = nil })
	genesis("a public key of 1,951 bytes", func(g *Genesis) { g.Council[0].Public = g.Council[0].Public[1:] })
	genesis("a cosigning key of ML-DSA-65's length", func(g *Genesis) { g.Replicas[0].Cosigner = g.Replicas[0].Public })
	genesis("origin with a scheme", func(g *Genesis) { g.Origin = "https://ledger.test" })
	genesis("origin with a space", func(g *Genesis) { g.Origin = "ledger test" })
	genesis("a threshold of 0", func(g *Genesis) { g.Policy.Rules["node.admit"] = Rule{} })
	genesis("a threshold below the majority", func(g *Genesis) { g.Policy.Rules["council.change"] = Rule{Threshold: 1} })
	genesis("a threshold that can't be met", func(g *Genesis) { g.Policy.Rules["council.change"] = Rule{Threshold: 4} })
	genesis("a rule is missing", func(g *Genesis) { delete(g.Policy.Rules, "node.admit") })
	genesis("a rule for an unknown action", func(g *Genesis) { g.Policy.Rules["node.praise"] = Rule{Threshold: 1} })
	genesis("a recovery threshold above its holders", func(g *Genesis) { g.Recovery.Threshold = 4 })
	return cases
}

type tamperedProof struct {
	name  string
	trie  Trie
	proof *StateProof
}

// tamperedProofs are proofs that do not hold.
func tamperedProofs(t testing.TB) []tamperedProof {
	var trie Trie
	for i := range 100 {
		trie = trie.Put(fmt.Sprintf("node/edge-%d", i), []byte(`{"standing":"active"}`))
	}
	const key = "node/edge-7"
	value := canon.Raw(`{"standing":"active"}`)
	clone := func(p *StateProof) *StateProof {
		b, err := canon.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseStateProof(b)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var cases []tamperedProof
	add := func(name string, change func(p *StateProof)) {
		p := clone(trie.Prove(key).With(value))
		change(p)
		cases = append(cases, tamperedProof{name, trie, p})
	}
	add("another value", func(p *StateProof) { p.Value = canon.Raw(`{"standing":"quarantined"}`) })
	add("another key", func(p *StateProof) { p.Key = "node/edge-8" })
	add("an empty key", func(p *StateProof) { p.Key = "" })
	add("a sibling changed", func(p *StateProof) { p.Siblings[0].Hashes[0][0] ^= 1 })
	add("a sibling left out", func(p *StateProof) { p.Siblings[0].Hashes = p.Siblings[0].Hashes[1:] })
	add("a branch left out", func(p *StateProof) { p.Siblings = p.Siblings[1:] })
	add("a branch added below", func(p *StateProof) { p.Siblings = append(p.Siblings, Siblings{Hashes: []Hash{}}) })
	add("a bitmap shifted", func(p *StateProof) { p.Siblings[0].Bitmap >>= 1 })
	add("the path's own bit set", func(p *StateProof) {
		path := sha256.Sum256([]byte(key))
		p.Siblings[0].Bitmap |= 1 << (15 - nibble(path, 0))
		p.Siblings[0].Hashes = append(p.Siblings[0].Hashes, Hash{1})
	})
	add("a record shown as absent", func(p *StateProof) { p.Value = nil })
	add("a record shown as absent by itself", func(p *StateProof) {
		p.Value, p.Other = nil, &OtherLeaf{Key: key, Value: sha256.Sum256(value)}
	})
	add("a record shown as absent by a key off the path", func(p *StateProof) {
		p.Value, p.Other = nil, &OtherLeaf{Key: "node/edge-8", Value: sha256.Sum256(value)}
	})
	add("value and other at once", func(p *StateProof) { p.Other = &OtherLeaf{Key: "node/edge-8"} })
	add("65 branches", func(p *StateProof) {
		for len(p.Siblings) < 65 {
			p.Siblings = append(p.Siblings, Siblings{Bitmap: 1, Hashes: []Hash{{1}}})
		}
	})
	absent := clone(trie.Prove("node/none").With(nil))
	absent.Value = value
	absent.Other = nil
	cases = append(cases, tamperedProof{"an absent record shown as present", trie, absent})
	alone := Trie{}.Put(key, value)
	cases = append(cases,
		tamperedProof{"the only record shown as absent from an empty state", alone, &StateProof{Key: key, Siblings: []Siblings{}}},
		tamperedProof{"a record of an empty state", Trie{}, &StateProof{Key: key, Siblings: []Siblings{}, Value: value}},
		tamperedProof{"a zero sibling", Trie{}, &StateProof{Key: key, Siblings: []Siblings{{Bitmap: 1, Hashes: []Hash{{}}}}}})
	return cases
}
