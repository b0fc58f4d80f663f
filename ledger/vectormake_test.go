package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// vectorMakers make the vector files that -update finds missing.
var vectorMakers = map[string]func(testing.TB) any{
	"canon.json":                       func(t testing.TB) any { return makeCanon(t) },
	"keys-with-test-keys.json":         func(t testing.TB) any { return makeKeys() },
	"statements-with-test-keys.json":   func(t testing.TB) any { return makeStatements(t) },
	"entries-with-test-keys.json":      func(t testing.TB) any { return makeEntries(t) },
	"commands-with-test-keys.json":     func(t testing.TB) any { return makeCommands(t) },
	"trie.json":                        func(t testing.TB) any { return makeTrie(t) },
	"checkpoints-with-test-keys.json":  func(t testing.TB) any { return makeCheckpoints(t) },
	"authority-with-test-keys.json":    func(t testing.TB) any { return makeAuthority(t) },
	"proofs-with-test-keys.json":       func(t testing.TB) any { return makeProofs(t) },
	"recover-with-test-keys.json":      func(t testing.TB) any { return makeRecover(t) },
	"recoveruntil-with-test-keys.json": func(t testing.TB) any { return makeRecoverUntil(t) },
	"protection-with-test-keys.json":   func(t testing.TB) any { return makeProtection(t) },
	"forks-with-test-keys.json":        func(t testing.TB) any { return makeForks(t) },
	"joinpacks-with-test-keys.json":    func(t testing.TB) any { return makePacks(t) },
	"keyslife-with-test-keys.json":     func(t testing.TB) any { return makeKeysLife(t) },
	"rotation-with-test-keys.json":     func(t testing.TB) any { return makeReplicaRotation(t) },
	"backups-with-test-keys.json":      func(t testing.TB) any { return makeBackups(t) },
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
	lead, protected, unprotected, signatureHead, tail []byte
	payloadHead                                       []byte
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
			Signed: keys.SigStructure(keys.ID(s.KeyID), "quorate/"+s.Payload.Type+".v1", s.PayloadBytes()), Payload: string(s.PayloadBytes()),
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
		lines := strings.Split(string((&Checkpoint{Head: at, Cosignatures: []Cosignature{Cosign(w.hash, k, k.Cosigner44(), replica, at, seconds)}}).Note()), "\n")
		v.Messages = append(v.Messages, messageVector{Ledger: w.hash[:], Replica: replica, Origin: at.Origin, Size: at.Size, Root: at.Root[:], Time: seconds,
			Message44: at.message44(name, seconds), Message65: at.message65(w.hash, name, seconds), Line44: lines[4], Line65: lines[5]})
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
