package ledger

import (
	"bytes"
	"errors"
	"testing"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	mproof "github.com/transparency-dev/merkle/proof"
)

// These tests hold our notes, keys, policies and proofs against the code of
// others: golang.org/x/mod and transparency-dev/formats, as third parties run
// it.

// certifiedNote is a head of four replicas, cosigned by three, with the log's
// lines.
func certifiedNote(t testing.TB) (*world, *Checkpoint) {
	w := newWorld(t, 4)
	w.say("alice", TypeRecord, Record{Text: "noted"})
	h := w.seal(0)
	c := w.sign(h, "r01", "r02", "r03")
	c.LogLines = w.log.Sign(h, 1_700_000_000)
	return w, c
}

func TestLogLinesVerifyElsewhere(t *testing.T) {
	w, c := certifiedNote(t)
	vkey := LogVKey(worldOrigin, w.log.Keys())
	plain, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := fnote.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	mldsa, err := fnote.NewMLDSAVerifier(LogMLDSA44VKey(worldOrigin, w.log.Keys()))
	if err != nil {
		t.Fatal(err)
	}
	made, err := note.NewEd25519VerifierKey(worldOrigin, w.log.Keys().Ed25519)
	if err != nil || made != vkey {
		t.Errorf("x/mod makes the verifier key %q, we %q: %v", made, vkey, err)
	}
	for _, v := range []note.Verifier{plain, theirs, mldsa} {
		n, err := note.Open(c.Note(), note.VerifierList(v))
		if err != nil || len(n.Sigs) != 1 {
			t.Errorf("key %08x: %v", v.KeyHash(), err)
		}
	}
	head, rest, n, err := log.ParseCheckpoint(c.Note(), worldOrigin, plain, mldsa)
	if err != nil {
		t.Fatal(err)
	}
	if head.Origin != worldOrigin || head.Size != c.Head.Size || !bytes.Equal(head.Hash, c.Head.Root[:]) || len(rest) != 0 {
		t.Errorf("they read %+v and %q", head, rest)
	}
	if want := 2 + 2*3; len(n.Sigs)+len(n.UnverifiedSigs) != want {
		t.Errorf("they see %d lines, want %d", len(n.Sigs)+len(n.UnverifiedSigs), want)
	}
	if !bytes.Equal(log.Checkpoint{Origin: worldOrigin, Size: c.Head.Size, Hash: c.Head.Root[:]}.Marshal(), c.Head.Body()) {
		t.Error("they write another body")
	}
}

func TestCosignaturesVerifyElsewhere(t *testing.T) {
	w, c := certifiedNote(t)
	for i, r := range w.now.Active() {
		v, err := fnote.NewVerifier(CosignerVKey(worldOrigin, r))
		if err != nil {
			t.Fatal(err)
		}
		n, err := note.Open(c.Note(), note.VerifierList(v))
		if signed := i < 3; signed != (err == nil && len(n.Sigs) == 1) {
			t.Errorf("%s: signed %t, they say %v", r.Name, signed, err)
			continue
		}
		if err != nil {
			continue
		}
		at, err := fnote.CoSigV1Timestamp(n.Sigs[0])
		if err != nil || uint64(at.Unix()) != c.Cosignatures[i].Time {
			t.Errorf("%s: they read time %v, want %d: %v", r.Name, at, c.Cosignatures[i].Time, err)
		}
	}
	c.Cosignatures[0].Time++
	v, err := fnote.NewVerifier(CosignerVKey(worldOrigin, w.now.Replicas[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(c.Note(), note.VerifierList(v)); err == nil {
		t.Error("they accept another time than was signed")
	}
}

func TestPolicyCountsOurQuorumElsewhere(t *testing.T) {
	w, _ := certifiedNote(t)
	w.now.Replicas = append(w.now.Replicas, authorityReplica(testReplica("r05", "dune", "r05"), true))
	policy, err := witness.ParsePolicy(TLogPolicy(w.now))
	if err != nil {
		t.Fatal(err)
	}
	if policy.N != 3 || len(policy.Components) != 4 {
		t.Errorf("they read %d of %d", policy.N, len(policy.Components))
	}
	h := w.head()
	for _, signers := range [][]string{{"r01", "r02", "r03"}, {"r01", "r02", "r04"}, {"r01", "r02", "r03", "r04"}, {"r01", "r02"}, {"r01", "r02", "r05"}, {"r01", "r02", "r03:other"}, nil} {
		c := w.sign(h, signers...)
		c.LogLines = w.log.Sign(h, 1_700_000_000)
		_, err := w.now.Certifies(c)
		if theirs := policy.Satisfied(c.Note()); theirs != (err == nil) {
			t.Errorf("signed by %v: they say %t, we %v", signers, theirs, err)
		}
	}
}

func TestProofFileParsesElsewhere(t *testing.T) {
	p := newProofWorld(t)
	ours := p.entry(1, p.early, 1, "r01")
	file, err := ours.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var theirs proof.TLogProof
	if err := theirs.Unmarshal(file); err != nil {
		t.Fatal(err)
	}
	if theirs.Index != 1 || !bytes.Equal(theirs.Checkpoint, ours.Checkpoint) || len(theirs.Hashes) != len(ours.Proof) {
		t.Errorf("they read index %d, %d hashes", theirs.Index, len(theirs.Hashes))
	}
	if !bytes.Equal(theirs.Marshal(), file) {
		t.Error("they write the file in other bytes")
	}
	// Their inclusion proof of what they read holds under the root that they
	// read from the checkpoint, signed by the log.
	v, err := note.NewVerifier(LogVKey(worldOrigin, p.log.Keys()))
	if err != nil {
		t.Fatal(err)
	}
	head, _, _, err := log.ParseCheckpoint(theirs.Checkpoint, worldOrigin, v)
	if err != nil {
		t.Fatal(err)
	}
	var hashes [][]byte
	for _, h := range theirs.Hashes {
		hashes = append(hashes, h[:])
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(ours.Entry)
	if err := mproof.VerifyInclusion(rfc6962.DefaultHasher, theirs.Index, head.Size, leaf, hashes, head.Hash); err != nil {
		t.Error(err)
	}

	// Their scanner takes lines of at most 64 KiB, so a file with a longer chain
	// is only read without its chain. FORMAT.md section 11 says so.
	longer := p.entry(1, p.late, 3, "r01", "r02")
	file, err = longer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Unmarshal(file); err == nil {
		t.Error("they read lines above 64 KiB now, so FORMAT.md need not warn")
	}
	longer.Authority = nil
	if file, err = longer.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Unmarshal(file); err != nil {
		t.Error(err)
	}
}

// TestTheyRefuseWhatWeRefuse checks that a note that is invalid to us because a
// log line is wrong is invalid to them.
func TestTheyRefuseWhatWeRefuse(t *testing.T) {
	w, c := certifiedNote(t)
	other := c.Head
	other.Root[0] ^= 1
	c.LogLines = w.log.Sign(other, 1_700_000_000)
	v, err := note.NewVerifier(LogVKey(worldOrigin, w.log.Keys()))
	if err != nil {
		t.Fatal(err)
	}
	var invalid *note.InvalidSignatureError
	if _, err := note.Open(c.Note(), note.VerifierList(v)); !errors.As(err, &invalid) {
		t.Errorf("they say %v", err)
	}
	var bad *BadSignatureError
	if _, err := w.now.Certifies(c); !errors.As(err, &bad) {
		t.Errorf("we say %v", err)
	}
}
