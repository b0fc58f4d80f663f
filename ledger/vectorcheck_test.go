package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

func checkCanon(t *testing.T, v canonVectors) {
	sorts := map[string]int{"valid": 0, "invalid": 0}
	for _, c := range v.Cases {
		err := canon.Valid(c.Bytes)
		if c.Error == "" {
			sorts["valid"]++
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			continue
		}
		sorts["invalid"]++
		var e *canon.Error
		if !errors.As(err, &e) || e.Code != c.Error {
			t.Errorf("%s: want %s, got %v", c.Name, c.Error, err)
		}
	}
	wants(t, sorts)
}

func checkKeys(t *testing.T, v keyVectors) {
	for _, c := range v.Keys {
		k := keys.FromSeed([32]byte(c.Seed))
		id := k.ID()
		if !bytes.Equal(k.Public().Bytes(), c.Public) || !bytes.Equal(id[:], c.ID) || id.Words() != c.Words {
			t.Errorf("%s: another public key, id or words", c.Name)
		}
		if !bytes.Equal(k.Cosigner44().Public(), c.Cosigner) {
			t.Errorf("%s: another cosigning key", c.Name)
		}
	}
	for _, c := range v.Words {
		if got := keys.Words([16]byte(c.Bytes)); got != c.Words {
			t.Errorf("words of %x: %q", c.Bytes, got)
		}
	}
	wants(t, map[string]int{"keys": len(v.Keys), "words": len(v.Words)})
}

func checkStatements(t *testing.T, v statementVectors) {
	sorts := map[string]int{"valid": 0, "invalid": 0, "refused": 0}
	for _, c := range v.Cases {
		s, err := ParseStatement(c.Envelope)
		if c.Error != "" {
			sorts["refused"]++
			var e *StatementError
			if !errors.As(err, &e) || e.Code != c.Error || e.Path != c.Path {
				t.Errorf("%s: want %s at %q, got %v", c.Name, c.Error, c.Path, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		sorts[c.Signature]++
		public, err := keys.ParsePublicKey(c.Public)
		if err != nil {
			t.Fatal(err)
		}
		if s.Verify(public) != (c.Signature == "valid") {
			t.Errorf("%s: its signature should be %s", c.Name, c.Signature)
		}
		signed := keys.SigStructure(keys.ID(s.KeyID), "quorate/"+s.Payload.Type+".v1", []byte(c.Payload))
		if !bytes.Equal(s.ID[:], c.ID) || !bytes.Equal(s.KeyID[:], c.KeyID) || !bytes.Equal(signed, c.Signed) {
			t.Errorf("%s: another id, key id or Sig_structure", c.Name)
		}
	}
	wants(t, sorts)
}

// validSince names the cases that were refused as of a later format, and the
// format that made them valid: files of vectors are never altered.
var validSince = map[string]uint64{"genesis: format 2": 2}

func checkEntries(t *testing.T, v entryVectors) {
	sorts := map[string]int{"valid": 0, "refused": 0, "genesis": 0}
	for _, c := range v.Cases {
		e, err := ParseEntry(c.Entry)
		if err == nil && e.Kind == KindGenesis {
			_, _, err = ParseGenesis(c.Entry)
		}
		if err == nil && e.Kind == KindSeal {
			_, err = e.Seal()
		}
		if err == nil && e.Kind == KindEffect {
			_, err = e.Effect()
		}
		if c.Error {
			sorts["refused"]++
			if since, known := validSince[c.Name]; (err == nil) != (known && Format >= since) {
				t.Errorf("%s: %v", c.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		sorts["valid"]++
		if c.Genesis {
			sorts["genesis"]++
		}
		leaf := LeafHash(c.Entry)
		if e.Seq != c.Seq || e.Stamp != c.Stamp || e.Kind.String() != c.Kind || !bytes.Equal(e.Prev[:], c.Prev) ||
			!bytes.Equal(e.Content, c.Content) || !bytes.Equal(leaf[:], c.Leaf) {
			t.Errorf("%s: parsed as %+v, leaf %s", c.Name, e, leaf)
		}
	}
	wants(t, sorts)
}

func checkCommands(t *testing.T, v commandVectors) {
	sorts := map[string]int{"valid": 0, "refused": 0}
	for _, c := range v.Cases {
		got, err := ParseCommand(c.Command)
		if c.Error {
			sorts["refused"]++
			if err == nil {
				t.Errorf("%s: it is accepted", c.Name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		sorts["valid"]++
		if uint8(got.Kind) != c.Kind || got.Stamp != c.Stamp || len(got.Statements) != len(c.Statements) {
			t.Errorf("%s: parsed as kind %d, stamp %d, %d statements", c.Name, got.Kind, got.Stamp, len(got.Statements))
			continue
		}
		for i := range got.Statements {
			if !bytes.Equal(got.Statements[i], c.Statements[i]) {
				t.Errorf("%s: statement %d differs", c.Name, i)
			}
		}
	}
	wants(t, sorts)
}

func checkTrie(t *testing.T, v trieVectors) {
	for _, c := range v.Digests {
		var forward, backward Trie
		for _, r := range c.Records {
			forward = forward.Put(r.Key, []byte(r.Value))
		}
		for _, r := range slices.Backward(c.Records) {
			backward = backward.Put(r.Key, []byte(r.Value))
		}
		if root := forward.Root(); !bytes.Equal(root[:], c.Digest) || backward.Root() != root {
			t.Errorf("%s: digest %s", c.Name, root)
		}
	}
	sorts := map[string]int{"holds": 0, "fails": 0, "digests": len(v.Digests)}
	for _, c := range v.Proofs {
		p, err := ParseStateProof([]byte(c.Proof))
		if err == nil {
			err = p.Verify(Hash(c.Digest))
		}
		if (err == nil) != c.Holds {
			t.Errorf("%s: want it to hold: %t; got %v", c.Name, c.Holds, err)
		}
		if c.Holds {
			sorts["holds"]++
		} else {
			sorts["fails"]++
		}
	}
	wants(t, sorts)
}

func checkCheckpoints(t *testing.T, v checkpointVectors) {
	var a Authority
	if err := canon.Unmarshal([]byte(v.Authority), &a); err != nil {
		t.Fatal(err)
	}
	if string(TLogPolicy(a)) != v.Policy {
		t.Error("another tlog-policy")
	}
	vkeys := []string{LogVKey(a.Origin, a.Log), LogMLDSA44VKey(a.Origin, a.Log)}
	for _, r := range a.Active() {
		vkeys = append(vkeys, CosignerVKey(a.Origin, r))
	}
	if !slices.Equal(vkeys, v.VKeys) {
		t.Error("other verifier keys")
	}
	for _, c := range v.Messages {
		h := Head{Origin: c.Origin, Size: c.Size, Root: Hash(c.Root)}
		name := CosignerName(c.Origin, c.Replica)
		if !bytes.Equal(h.message44(name, c.Time), c.Message44) || !bytes.Equal(h.message65(Hash(c.Ledger), name, c.Time), c.Message65) {
			t.Errorf("%s: another message", c.Replica)
		}
		k := testKey(c.Replica)
		note := (&Checkpoint{Head: h, Cosignatures: []Cosignature{Cosign(Hash(c.Ledger), k, k.Cosigner44(), c.Replica, h, c.Time)}}).Note()
		if want := string(h.Body()) + "\n" + c.Line44 + "\n" + c.Line65 + "\n"; string(note) != want {
			t.Errorf("%s: other lines", c.Replica)
		}
	}
	sorts := map[string]int{"certified": 0, "short": 0, "bad_signature": 0, "malformed": 0, "other_origin": 0}
	for _, c := range v.Cases {
		sorts[c.Result]++
		if got := certify(a, c); got != c.Result {
			t.Errorf("%s: want %s, got %s", c.Name, c.Result, got)
		}
	}
	wants(t, sorts)
	wants(t, map[string]int{"messages": len(v.Messages)})
}

// certify says what the result of a checkpoint is, and checks what is said of
// it besides.
func certify(a Authority, c checkpointVector) string {
	checkpoint, err := ParseCheckpoint([]byte(c.Note))
	if err != nil {
		return "malformed"
	}
	n, err := a.Certifies(checkpoint)
	var short *NotCertifiedError
	var bad *BadSignatureError
	switch {
	case errors.As(err, &short):
		return "short"
	case errors.As(err, &bad):
		return "bad_signature"
	case err != nil:
		return "other_origin"
	case n != c.Cosigners || checkpoint.Signed(a) != c.Signed || checkpoint.Head.Size != c.Size || !bytes.Equal(checkpoint.Head.Root[:], c.Root):
		return fmt.Sprintf("certified by %d, signed %d, size %d", n, checkpoint.Signed(a), checkpoint.Head.Size)
	}
	return "certified"
}

func checkAuthority(t *testing.T, v authorityVectors) {
	var links []*Link
	for i, text := range v.Links {
		l, err := ParseLink(lengthen(t, text, v.Strings))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
		chain, err := WalkChain(Hash(v.Genesis), links)
		if err != nil {
			t.Fatal(err)
		}
		var active []string
		for _, r := range chain.Latest.Active() {
			active = append(active, r.Name)
		}
		if got := strings.Join(active, " "); got != v.Certifiers[i] {
			t.Errorf("link %d: certifiers are %s", i, got)
		}
	}
	for _, c := range v.Refused {
		l, err := ParseLink(lengthen(t, c.Link, v.Strings))
		if err == nil && c.After < 0 {
			_, err = NewChain(Hash(v.Genesis), l)
		} else if err == nil {
			var chain *Chain
			if chain, err = WalkChain(Hash(v.Genesis), links[:c.After+1]); err != nil {
				t.Fatal(err)
			}
			err = chain.Extend(l)
		}
		if err == nil {
			t.Errorf("%s: it is accepted", c.Name)
		}
	}
	chain, err := WalkChain(Hash(v.Genesis), links)
	if err != nil {
		t.Fatal(err)
	}
	sorts := map[string]int{"refused": len(v.Refused), "certified": 0, "not certified": 0}
	for _, c := range v.Checkpoints {
		_, err := chain.VerifyCheckpoint(lengthen(t, c.Note, v.Strings))
		if (err == nil) != c.OK {
			t.Errorf("checkpoint %s: want ok %t, got %v", c.Name, c.OK, err)
		}
		if c.OK {
			sorts["certified"]++
		} else {
			sorts["not certified"]++
		}
	}
	wants(t, sorts)
}

func checkProofs(t *testing.T, v proofVectors) {
	sorts := map[string]int{"entry": 0, "state": 0, "absence": 0, "refused": 0}
	for _, c := range v.Cases {
		report, err := verifyProofFile(lengthen(t, c.File, v.Strings), Hash(v.Genesis))
		if (err == nil) != c.Holds {
			t.Errorf("%s: want it to hold: %t; got %v", c.Name, c.Holds, err)
			continue
		}
		switch {
		case !c.Holds:
			sorts["refused"]++
			continue
		case report.Entry != nil:
			sorts["entry"]++
			encoded, err := report.Entry.Encode()
			if err != nil || report.Entry.Seq != c.Seq || !bytes.Equal(encoded, c.Entry) {
				t.Errorf("%s: another entry", c.Name)
			}
		case report.Value != nil:
			sorts["state"]++
		default:
			sorts["absence"]++
		}
		if report.Key != c.Key || string(report.Value) != c.Value || report.Head.Size != c.Size {
			t.Errorf("%s: another report: %+v", c.Name, report)
		}
	}
	wants(t, sorts)
}

func verifyProofFile(b []byte, genesis Hash) (*ProofReport, error) {
	if bytes.HasPrefix(b, []byte(tlogProofHeader)) {
		p, err := ParseEntryProof(b)
		if err != nil {
			return nil, err
		}
		return p.Verify(genesis)
	}
	p, err := ParseStateProofFile(b)
	if err != nil {
		return nil, err
	}
	return p.Verify(genesis)
}
