package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// vectorMakers make the vector files that -update finds missing.
var vectorMakers = map[string]func(testing.TB) any{
	"canon.json":                      func(t testing.TB) any { return makeCanon(t) },
	"keys-with-test-keys.json":        func(t testing.TB) any { return makeKeys() },
	"statements-with-test-keys.json":  func(t testing.TB) any { return makeStatements(t) },
	"entries-with-test-keys.json":     func(t testing.TB) any { return makeEntries(t) },
	"commands-with-test-keys.json":    func(t testing.TB) any { return makeCommands(t) },
	"trie.json":                       func(t testing.TB) any { return makeTrie(t) },
	"checkpoints-with-test-keys.json": func(t testing.TB) any { return makeCheckpoints(t) },
	"authority-with-test-keys.json":   func(t testing.TB) any { return makeAuthority(t) },
	"proofs-with-test-keys.json":      func(t testing.TB) any { return makeProofs(t) },
}

func makeCanon(t testing.TB) canonVectors {
	v := canonVectors{About: "Canonical JSON (FORMAT.md section 1), without a schema. bytes is what is read; error is the code of what is wrong with it, none if it is valid."}
	valid := []string{
		`{}`, `[]`, `0`, `1`, `9007199254740991`, `""`, `true`, `false`,
		`{"a":1,"b":[1,2,{"c":"d"}]}`, `{"A":1,"a":2,"b":3}`, `{"":1}`, `{" ":1,"!":2,"~":3}`, `{"a":1,"aa":2,"ab":3}`,
		`"é€😀"`, "\"\u007f\u0080\u2028\u2029\"", `"\"\\/"`, `"\b\t\n\f\r\u0000\u0001\u001f"`, `{"body":{"text":"line\nline"},"seq":0}`,
		strings.Repeat("[", 32) + strings.Repeat("]", 32),
	}
	for _, text := range valid {
		v.Cases = append(v.Cases, canonVector{Name: "valid " + short(text), Bytes: []byte(text)})
	}
	for _, c := range [][2]string{
		{"empty", ""}, {"space before", " {}"}, {"space after", "{} "}, {"line feed after", "{}\n"}, {"space inside", `{"a": 1}`},
		{"space after comma", `[1, 2]`}, {"second value", `{}{}`}, {"zero byte after", "{}\x00"}, {"byte order mark", "\ufeff{}"},
		{"unsorted keys", `{"b":1,"a":2}`}, {"duplicate keys", `{"a":1,"a":1}`}, {"duplicate not adjacent", `{"a":1,"b":1,"a":1}`},
		{"key that is not ASCII", `{"é":1}`}, {"key with escape", `{"\u0061":1}`}, {"key with quote", `{"\"":1}`},
		{"null", `null`}, {"null in object", `{"a":null}`}, {"null in array", `[null]`},
		{"fraction", `1.0`}, {"exponent", `1e3`}, {"capital exponent", `1E3`}, {"fraction in object", `{"a":0.5}`},
		{"leading zero", `01`}, {"plus", `+1`}, {"minus zero", `-0`}, {"negative", `-1`}, {"2^53", `9007199254740992`}, {"20 digits", `18446744073709551616`},
		{"Infinity", `Infinity`}, {"NaN", `NaN`}, {"hexadecimal", `0x10`},
		{"unescaped control", "\"\n\""}, {"unescaped zero", "\"\x00\""}, {"short escape written long", `"\u000a"`}, {"slash escaped", `"\/"`},
		{"upper case escape", `"\u001F"`}, {"needless escape", `"\u0041"`}, {"surrogates escaped", `"\ud83d\ude00"`}, {"lone surrogate", `"\ud800"`},
		{"invalid UTF-8", "\"\xff\""}, {"overlong UTF-8", "\"\xc0\x80\""}, {"surrogate in UTF-8", "\"\xed\xa0\x80\""}, {"cut UTF-8", "\"\xe2\x82\""},
		{"unknown escape", `"\x41"`}, {"cut string", `"abc`}, {"cut object", `{"a":1`}, {"cut array", `[1`}, {"trailing comma", `[1,]`},
		{"trailing comma in object", `{"a":1,}`}, {"missing colon", `{"a"1}`}, {"missing comma", `[1 2]`}, {"single quotes", `{'a':1}`}, {"bare key", `{a:1}`},
		{"comment", `{}//`}, {"True", `True`}, {"cut literal", `tru`}, {"33 arrays deep", strings.Repeat("[", 33) + strings.Repeat("]", 33)},
	} {
		var e *canon.Error
		if err := canon.Valid([]byte(c[1])); err == nil || !asError(err, &e) {
			t.Fatalf("%s is accepted: %v", c[0], err)
		}
		v.Cases = append(v.Cases, canonVector{Name: c[0], Bytes: []byte(c[1]), Error: e.Code})
	}
	return v
}

func asError(err error, e **canon.Error) bool {
	found, ok := err.(*canon.Error)
	*e = found
	return ok
}

func short(s string) string {
	if len(s) > 24 {
		return fmt.Sprintf("%q and so on", s[:12])
	}
	return s
}

func makeKeys() keyVectors {
	v := keyVectors{About: "Keys (FORMAT.md section 2). The seed of the test key NAME is H(\"quorate test key NAME\"). cosigner is the derived ML-DSA-44 public key. words are those of the first 16 of 32 bytes."}
	for _, name := range []string{"alice", "bob", "carol", "r01", "r02", "edge-1"} {
		k := testKey(name)
		seed, id := k.Seed(), k.ID()
		v.Keys = append(v.Keys, keyVector{Name: name, Seed: seed[:], Public: k.Public().Bytes(), ID: id[:], Words: id.Words(), Cosigner: k.Cosigner44().Public()})
	}
	for _, b := range []Hash{{}, Hash(bytes.Repeat([]byte{0xff}, 32)), Hash(bytes.Repeat([]byte{0x7f}, 32)), sha256.Sum256([]byte("words"))} {
		v.Words = append(v.Words, wordsVector{Bytes: b[:], Words: keys.Words([16]byte(b[:16]))})
	}
	return v
}

// parts are the parts of an envelope, so that vectors can put them together
// wrongly. Nil parts are as they should be.
type parts struct {
	lead, protected, unprotected, payload, signatureHead, tail []byte
	payloadHead                                                []byte
}

func text(s string) []byte {
	return append(appendHead(nil, 3, uint64(len(s))), s...)
}

// protectedMap is the protected header's map of these items, verbatim.
func protectedMap(items ...[]byte) []byte { return bytes.Join(items, nil) }

func envelopeOf(k *keys.PrivateKey, typ, payload string, p parts) []byte {
	id := k.ID()
	if p.protected == nil {
		p.protected = protectedMap([]byte{0xa3, 1, 0x38, 0x30, 4}, appendBytes(nil, id[:]), []byte{16}, text(typ))
	}
	or := func(b, otherwise []byte) []byte {
		if b == nil {
			return otherwise
		}
		return b
	}
	signed := append([]byte{0x84, 0x6a}, "Signature1"...)
	signed = append(appendBytes(signed, p.protected), 0x40)
	signed = appendBytes(signed, []byte(payload))
	signature := k.Sign(signed)
	return bytes.Join([][]byte{
		or(p.lead, []byte{0xd2, 0x84}), appendBytes(nil, p.protected), or(p.unprotected, []byte{0xa0}),
		or(p.payloadHead, appendHead(nil, 2, uint64(len(payload)))), []byte(payload),
		or(p.signatureHead, []byte{0x59, 0x0c, 0xed}), signature, p.tail,
	}, nil)
}

func makeStatements(t testing.TB) statementVectors {
	v := statementVectors{About: "Statements (FORMAT.md section 3). error is the code of what is wrong with the envelope or its payload, path the field; else public is the author's key and signature says whether it verifies. signed is the Sig_structure, whose hash is the id."}
	w := newWorld(t, 3)
	valid := func(name, author string, envelope []byte, public *keys.PublicKey, signature string) {
		s, err := ParseStatement(envelope)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v.Cases = append(v.Cases, statementVector{
			Name: name, Envelope: envelope, Public: public.Bytes(), Signature: signature, ID: s.ID[:], KeyID: s.KeyID[:],
			Signed: keys.SigStructure(keys.ID(s.KeyID), "quorate/"+s.Payload.Type+".v1", s.parsed.Payload), Payload: string(s.parsed.Payload),
		})
	}
	var last []byte
	say := func(name, author, typ string, body any) {
		seq, _ := w.say(author, typ, body)
		e, err := ParseEntry(w.entries[seq])
		w.must(err)
		valid(name, author, e.Content, testKey(author).Public(), "valid")
		last = e.Content
	}
	id := Hash(sha256.Sum256([]byte("a proposal")))
	say("propose", "alice", TypePropose, Propose{Action: "node.quarantine", Args: canon.Raw(`{"name":"edge-1","reason":"port scan"}`), Base: map[string]uint64{"node/edge-1": 3}, Memo: "see ticket 7"})
	say("approve", "bob", TypeApprove, Ballot{Proposal: id})
	say("reject with memo", "carol", TypeReject, Ballot{Memo: "é€😀 \"quoted\"\n", Proposal: id})
	say("withdraw", "alice", TypeWithdraw, Ballot{Proposal: id})
	say("veto", "alice", TypeVeto, Ballot{Proposal: id})
	say("record of a text", "alice", TypeRecord, Record{Text: "noted"})
	say("record of a digest", "bob", TypeRecord, Record{Digest: hash([]byte("x")), Media: "text/plain", Name: "x.txt"})
	say("ready", "r01", TypeReady, Ready{Format: 1, Root: id, Size: 7})
	say("join", "edge-1", TypeJoin, Join{Name: "edge-1", Operator: "acme", Peer: hash([]byte("peer")), Public: testKey("edge-1").Public().Bytes()})
	epoch, zero := uint64(0), uint64(0)
	node, err := Sign(testKey("edge-1"), Payload{Author: "edge-1", Epoch: &epoch, Ledger: w.hash, Seq: &zero, Type: TypeRecord}, Record{Text: "from a node"})
	w.must(err)
	valid("record by a node, epoch 0, seq 0", "edge-1", node, testKey("edge-1").Public(), "valid")

	valid("verified with another key", "edge-1", last, testKey("edge-2").Public(), "invalid")
	for _, at := range []int{1, 1654, 3308} {
		flipped := bytes.Clone(last)
		flipped[len(flipped)-1-at] ^= 1
		valid(fmt.Sprintf("signature bit flipped, %d bytes from the end", at), "edge-1", flipped, testKey("edge-1").Public(), "invalid")
	}
	changed := bytes.Replace(last, []byte(`"operator":"acme"`), []byte(`"operator":"bolt"`), 1)
	valid("payload changed after signing", "edge-1", changed, testKey("edge-1").Public(), "invalid")
	v.Cases = append(v.Cases, refusedStatements(t, w)...)
	return v
}

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

func makeEntries(t testing.TB) entryVectors {
	v := entryVectors{About: "Entries (FORMAT.md sections 5 and 6). leaf is the RFC 6962 leaf hash, which is the prev of the next entry; that of a genesis is the genesis hash. An entry is refused for its own form or for that of its content (genesis, effect, seal)."}
	w := newWorld(t, 3)
	w.say("alice", TypeRecord, Record{Text: "noted"})
	effect, err := canon.Marshal(Effect{Body: canon.Raw(`{"tick":7}`), Causes: []uint64{1}, Type: "tick"})
	w.must(err)
	w.append(KindEffect, effect)
	w.seal(0)
	w.seal(1)
	for i, b := range w.entries {
		e, err := ParseEntry(b)
		w.must(err)
		leaf := LeafHash(b)
		v.Cases = append(v.Cases, entryVector{Name: fmt.Sprintf("%s %d", e.Kind, i), Entry: b, Seq: e.Seq, Stamp: e.Stamp, Prev: e.Prev[:],
			Kind: e.Kind.String(), Content: e.Content, Leaf: leaf[:], Genesis: e.Kind == KindGenesis})
	}
	v.Cases = append(v.Cases, refusedEntries(t, w)...)
	return v
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

func makeCommands(t testing.TB) commandVectors {
	v := commandVectors{About: "Raft commands (FORMAT.md section 13). The statements are only framed here, not looked into."}
	for _, c := range []Command{
		{Kind: CommandStatements, Stamp: 1_700_000_000_000, Statements: [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{7}, 300)}},
		{Kind: CommandTick, Stamp: 0}, {Kind: CommandSeal, Stamp: canon.MaxInt},
	} {
		made := commandVector{Name: fmt.Sprintf("kind %d", c.Kind), Command: c.Encode(), Kind: uint8(c.Kind), Stamp: c.Stamp}
		for _, s := range c.Statements {
			made.Statements = append(made.Statements, s)
		}
		v.Cases = append(v.Cases, made)
	}
	refuse := func(name string, b []byte) {
		v.Cases = append(v.Cases, commandVector{Name: name, Command: b, Error: true})
	}
	refuse("empty", nil)
	refuse("version 2", []byte{0x84, 2, 2, 0, 0x80})
	refuse("array of 3", []byte{0x83, 1, 2, 0})
	refuse("kind 0", []byte{0x84, 1, 0, 0, 0x80})
	refuse("kind 4", []byte{0x84, 1, 4, 0, 0x80})
	refuse("a byte after it", []byte{0x84, 1, 2, 0, 0x80, 0})
	refuse("statements without one", []byte{0x84, 1, 1, 0, 0x80})
	refuse("tick with a statement", []byte{0x84, 1, 2, 0, 0x81, 0x41, 1})
	refuse("stamp not in shortest form", []byte{0x84, 1, 2, 0x18, 0, 0x80})
	refuse("513 statements", append([]byte{0x84, 1, 1, 0, 0x99, 2, 1}, bytes.Repeat([]byte{0x41, 1}, 513)...))
	refuse("indefinite list", []byte{0x84, 1, 1, 0, 0x9f, 0x41, 1, 0xff})
	refuse("cut", []byte{0x84, 1, 1, 0, 0x82, 0x41, 1})
	return v
}

func makeTrie(t testing.TB) trieVectors {
	v := trieVectors{About: "State digests and proofs (FORMAT.md section 8). A digest does not depend on the order of the records. proof is canonical JSON; it is of a record if it has a value, else of its absence."}
	records := func(n int) (list []trieRecord, trie Trie) {
		for i := range n {
			r := trieRecord{Key: fmt.Sprintf("node/edge-%d", i), Value: fmt.Sprintf(`{"name":"edge-%d","version":%d}`, i, i*i)}
			list = append(list, r)
			trie = trie.Put(r.Key, []byte(r.Value))
		}
		return list, trie
	}
	for _, n := range []int{0, 1, 2, 3, 16, 100} {
		list, trie := records(n)
		root := trie.Root()
		v.Digests = append(v.Digests, digestVector{Name: fmt.Sprintf("%d records", n), Records: append([]trieRecord{}, list...), Digest: root[:]})
	}
	deep := deepKeys(4)
	list := []trieRecord{{Key: deep[0], Value: `{}`}, {Key: deep[1], Value: `{}`}}
	deepTrie := Trie{}.Put(deep[0], []byte(`{}`)).Put(deep[1], []byte(`{}`))
	root := deepTrie.Root()
	v.Digests = append(v.Digests, digestVector{Name: "two records whose paths share 4 nibbles", Records: list, Digest: root[:]})

	add := func(name string, trie Trie, p *StateProof, holds bool) {
		b, err := canon.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		root := trie.Root()
		if err := p.Verify(root); (err == nil) != holds {
			t.Fatalf("%s: %v", name, err)
		}
		v.Proofs = append(v.Proofs, trieProofVector{Name: name, Digest: root[:], Proof: string(b), Holds: holds})
	}
	for _, n := range []int{0, 1, 2, 100} {
		list, trie := records(n)
		for i := 0; i < n; i += max(1, n/4) {
			add(fmt.Sprintf("record %d of %d", i, n), trie, trie.Prove(list[i].Key).With(canon.Raw(list[i].Value)), true)
		}
		for i := range 8 {
			add(fmt.Sprintf("absence %d from %d", i, n), trie, trie.Prove(fmt.Sprintf("node/none-%d", i)).With(nil), true)
		}
	}
	add("deep record", deepTrie, deepTrie.Prove(deep[0]).With(canon.Raw(`{}`)), true)
	add("deep absence", deepTrie, deepTrie.Prove(deep[2]).With(nil), true)
	for _, tampered := range tamperedProofs(t) {
		add(tampered.name, tampered.trie, tampered.proof, false)
	}
	return v
}

// deepKeys gives three keys whose paths share n nibbles.
func deepKeys(n int) []string {
	found := map[string][]string{}
	for i := 0; ; i++ {
		key := fmt.Sprintf("deep/%d", i)
		path := sha256.Sum256([]byte(key))
		prefix := fmt.Sprintf("%x", path)[:n]
		found[prefix] = append(found[prefix], key)
		if len(found[prefix]) == 3 {
			return found[prefix]
		}
	}
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

func makeCheckpoints(t testing.TB) checkpointVectors {
	v := checkpointVectors{About: "Checkpoints (FORMAT.md section 9). authority is the record of section 10 under which the notes are checked: 4 active replicas, threshold 3, and a joining one. result is certified, short (too few cosigners), bad_signature (a known key's line does not verify), other_origin, or malformed."}
	w := newWorld(t, 4)
	joining := testReplica("r05", "dune", "r05")
	w.now.Replicas = append(w.now.Replicas, authorityReplica(joining, true))
	w.say("alice", TypeRecord, Record{Text: "noted"})
	h := w.seal(0)
	record, err := w.now.Encode()
	w.must(err)
	v.Authority, v.Policy = string(record), string(TLogPolicy(w.now))
	v.VKeys = []string{LogVKey(worldOrigin, w.log.Keys()), LogMLDSA44VKey(worldOrigin, w.log.Keys())}
	for _, r := range w.now.Active() {
		v.VKeys = append(v.VKeys, CosignerVKey(worldOrigin, r))
	}
	for i, at := range []Head{h, {Origin: "a", Size: 1, Root: Hash{}}, {Origin: strings.Repeat("o", 128), Size: canon.MaxInt, Root: h.Root}} {
		replica, seconds := fmt.Sprintf("r%02d", i+1), []uint64{1_700_000_000, 1, canon.MaxInt}[i]
		name := CosignerName(at.Origin, replica)
		k := testKey(replica)
		lines := strings.Split(string((&Checkpoint{Head: at, Cosignatures: []Cosignature{Cosign(k, k.Cosigner44(), replica, at, seconds)}}).Note()), "\n")
		v.Messages = append(v.Messages, messageVector{Replica: replica, Origin: at.Origin, Size: at.Size, Root: at.Root[:], Time: seconds,
			Message44: at.message44(name, seconds), Message65: at.message65(name, seconds), Line44: lines[4], Line65: lines[5]})
	}
	for _, c := range checkpointCases(w, h) {
		made := checkpointVector{Name: c.name, Note: string(c.note), Result: c.result}
		if c.result == "certified" {
			checkpoint, err := ParseCheckpoint(c.note)
			w.must(err)
			if made.Cosigners, err = w.now.Certifies(checkpoint); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			made.Size, made.Root, made.Signed = checkpoint.Head.Size, checkpoint.Head.Root[:], checkpoint.Signed(w.now)
		}
		if got := certify(w.now, made); got != c.result {
			t.Fatalf("%s: %s, want %s", c.name, got, c.result)
		}
		v.Cases = append(v.Cases, made)
	}
	return v
}

type checkpointCase struct {
	name, result string
	note         []byte
}

// checkpointCases are notes of h, judged under w.now: four active replicas,
// threshold 3, and r05 joining.
func checkpointCases(w *world, h Head) []checkpointCase {
	var cases []checkpointCase
	add := func(name, result string, note []byte) { cases = append(cases, checkpointCase{name, result, note}) }
	signed := func(signers ...string) *Checkpoint { return w.sign(h, signers...) }
	withLog := signed("r01", "r02", "r03")
	withLog.LogLines = w.log.Sign(h, 1_700_000_005)
	whole := string(withLog.Note())
	add("three of four, with the log's lines", "certified", withLog.Note())
	add("all four", "certified", signed("r01", "r02", "r03", "r04").Note())
	slim := signed("r01", "r02", "r04")
	for i := range slim.Cosignatures {
		slim.Cosignatures[i] = slim.Cosignatures[i].WithoutMLDSA44()
	}
	add("ML-DSA-65 lines alone", "certified", slim.Note())
	add("with a witness's line", "certified", append(slim.Note(), (noteLine("witness.test/w", [4]byte{1, 2, 3, 4}, make([]byte, 72))+"\n")...))
	add("with a line of an unknown key of the log", "certified", []byte(strings.Replace(string(slim.Note()), "\n\n", "\n\n"+noteLine(worldOrigin, [4]byte{1}, make([]byte, 64))+"\n", 1)))
	add("two of four", "short", signed("r01", "r02").Note())
	add("no line at all", "short", signed().Note())
	add("the joining replica does not count", "short", signed("r01", "r02", "r05").Note())
	add("a key that is not the replica's does not count", "short", signed("r01", "r02", "r03:other").Note())
	add("a replica with two keys counts once", "short", signed("r01", "r01:other", "r02").Note())
	add("a stranger does not count", "short", signed("r01", "r02", "stranger").Note())

	moved := signed("r01", "r02", "r03")
	moved.Head.Root[0] ^= 1
	add("lines of another root", "bad_signature", moved.Note())
	moved = signed("r01", "r02", "r03")
	moved.Head.Size++
	add("lines of another size", "bad_signature", moved.Note())
	late := signed("r01", "r02", "r03", "r04")
	late.Cosignatures[3].Time++
	add("another time than was signed", "bad_signature", late.Note())
	swapped := signed("r01", "r02", "r03", "r04")
	swapped.Cosignatures[0].MLDSA65, swapped.Cosignatures[1].MLDSA65 = swapped.Cosignatures[1].MLDSA65, swapped.Cosignatures[0].MLDSA65
	add("signatures of two replicas swapped", "bad_signature", swapped.Note())
	bad44 := signed("r01", "r02", "r03", "r04")
	bad44.Cosignatures[3].MLDSA44[9] ^= 1
	add("one wrong ML-DSA-44 line among four", "bad_signature", bad44.Note())
	badLog := signed("r01", "r02", "r03")
	other := Head{Origin: h.Origin, Size: h.Size, Root: Hash{1}}
	badLog.LogLines = w.log.Sign(other, 1_700_000_005)[:1]
	add("the log's Ed25519 line of another head", "bad_signature", badLog.Note())
	badLog.LogLines = w.log.Sign(other, 1_700_000_005)[1:]
	add("the log's ML-DSA-44 line of another head", "bad_signature", badLog.Note())
	wrongPurpose := signed("r01", "r02", "r03")
	name := CosignerName(h.Origin, "r03")
	wrongPurpose.Cosignatures[2].MLDSA65 = testKey("r03").Sign(h.message44(name, wrongPurpose.Cosignatures[2].Time))
	add("ML-DSA-65 signature of the message for ML-DSA-44", "bad_signature", wrongPurpose.Note())

	elsewhere := Head{Origin: "ledger.test/other", Size: h.Size, Root: h.Root}
	add("another origin", "other_origin", w.sign(elsewhere, "r01", "r02", "r03").Note())

	lines := strings.SplitAfter(whole, "\n") // 3 of text, 1 empty, 2 of the log, 6 of replicas
	join := func(order ...int) []byte {
		var b strings.Builder
		for _, i := range order {
			b.WriteString(lines[i])
		}
		return []byte(b.String())
	}
	add("a cosignature twice", "malformed", join(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9))
	add("a cosignature twice, apart", "malformed", join(0, 1, 2, 3, 6, 7, 8, 9, 6, 7))
	add("replicas out of order", "malformed", join(0, 1, 2, 3, 8, 9, 6, 7, 10, 11))
	add("the log's lines last", "malformed", join(0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 4, 5))
	add("ML-DSA-65 before ML-DSA-44", "malformed", join(0, 1, 2, 3, 7, 6, 8, 9, 10, 11))
	add("an ML-DSA-44 line alone", "malformed", join(0, 1, 2, 3, 6, 7, 8, 9, 10))
	add("the ML-DSA-44 line of another replica", "malformed", join(0, 1, 2, 3, 6, 9, 10, 11))
	add("an extension line", "malformed", join(0, 1, 2, 2, 3, 6, 7, 8, 9, 10, 11))
	add("no root", "malformed", join(0, 1, 3, 6, 7))
	add("empty", "malformed", nil)
	add("no line feed at the end", "malformed", []byte(strings.TrimSuffix(whole, "\n")))
	add("an empty line at the end", "malformed", []byte(whole+"\n"))
	replace := func(name, old, new string) {
		add(name, "malformed", []byte(strings.Replace(whole, old, new, 1)))
	}
	replace("size with a leading zero", "\n3\n", "\n03\n")
	replace("size with a plus", "\n3\n", "\n+3\n")
	replace("size 0", "\n3\n", "\n0\n")
	replace("size 2^53", "\n3\n", "\n9007199254740992\n")
	replace("carriage returns", "\n3\n", "\r\n3\r\n")
	replace("a hyphen for the em dash", "— ", "- ")
	replace("two spaces", "— ", "—  ")
	replace("root in base64url", lines[2], strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(lines[2]))
	replace("a name with a space", "/replica/r01", "/replica/r 01")
	replace("a replica's name in capitals", "/replica/r01", "/replica/R01")
	zeroTime := signed("r01", "r02", "r03")
	zeroTime.Cosignatures[0].Time = 0
	add("time 0", "malformed", zeroTime.Note())
	twoTimes := signed("r01")
	k := testKey("r01")
	second := Cosign(k, k.Cosigner44(), "r01", h, 1_800_000_000)
	note := twoTimes.Head.Body()
	note = fmt.Appendf(note, "\n%s\n%s\n", noteLine(name, second.ID44, timedSignature(second.Time, second.MLDSA44)),
		noteLine(name, twoTimes.Cosignatures[0].ID65, timedSignature(twoTimes.Cosignatures[0].Time, twoTimes.Cosignatures[0].MLDSA65)))
	add("the two lines of a replica have different times", "malformed", note)
	cut := signed("r01")
	cut.Cosignatures[0].MLDSA65 = cut.Cosignatures[0].MLDSA65[1:]
	add("a signature of 3,308 bytes", "malformed", cut.Note())
	tooMany := signed()
	for i := range 129 {
		tooMany.OtherLines = append(tooMany.OtherLines, noteLine("witness.test/w", [4]byte(binary.BigEndian.AppendUint32(nil, uint32(i))), make([]byte, 72)))
	}
	add("129 lines", "malformed", tooMany.Note())
	return cases
}
