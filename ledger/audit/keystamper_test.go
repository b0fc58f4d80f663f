package audit

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/verifiertest"
)

// TestKeysLife: an export on which keys change in every way verifies, and tells what
// is disputed.
func TestKeysLife(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	report, err := Verify(t.Context(), keysExport(t, h), Options{Genesis: h.genesis})
	if err != nil || !report.OK {
		t.Fatalf("%v", err)
	}
	if report.Statements[ledger.TypeRotate] != 3 || report.Links != 7 {
		t.Errorf("the story lacks something: %v, %d links", report.Statements, report.Links)
	}
	for holder, n := range map[string]int{"edge-2": 2, "r4": 1} {
		i := slices.IndexFunc(report.Disputed, func(d DisputedKey) bool { return d.Holder == holder })
		if i < 0 || report.Disputed[i].From != 8 || report.Disputed[i].Statements != n || len(report.Disputed[i].Entries) != n {
			t.Errorf("disputed of %s, want %d: %+v", holder, n, report.Disputed)
		}
	}
	if text := report.Text(); !strings.Contains(text, "2 statements of edge-2 under key ") || !strings.Contains(text, "revoked from epoch 8 on") {
		t.Errorf("text:\n%s", text)
	}
}

// TestAlteredKeysLife: with any one of the statements by which keys changed altered in
// its file, that entry is named.
func TestAlteredKeysLife(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	dir := keysExport(t, h)
	for _, c := range w.changed {
		file, at := h.place(c.seq)
		for _, from := range []int{len(h.entries[c.seq]) / 4, len(h.entries[c.seq]) - 9} { // payload, signature
			change(t, dir, file, flip(at+from), func() {
				if bad := verifyBad(t, dir, h.genesis); bad.Step != StepTree || !bad.HasSeq || bad.Seq != c.seq {
					t.Errorf("%s, byte %d of entry %d altered: %v", c.way, from, c.seq, bad)
				}
			})
		}
	}
}

// place is the file that an entry of a history lies in, and where.
func (h history) place(seq uint64) (file string, at int) {
	first := seq / archive.TileWidth * archive.TileWidth
	for _, raw := range h.entries[first:seq] {
		at += 2 + len(raw)
	}
	return archive.BundlePath(seq/archive.TileWidth, bundleWidth(seq/archive.TileWidth, uint64(len(h.entries)))), at + 2
}

// cut is the history up to the first seal after an entry, without a link for that seal
// if it hands over: whoever certifies a false history shows no link that betrays it.
func (h history) cut(t testing.TB, seq uint64) history {
	t.Helper()
	cut := h.until(t, seq)
	for size := seq + 1; ; size++ {
		e, err := ledger.ParseEntry(h.entries[size-1])
		must(t, err)
		if e.Kind == ledger.KindSeal {
			cut.entries = h.entries[:size]
			return cut
		}
	}
}

// alterations are what may be done to one statement of a history that every replica
// then certifies all the same. Where the statement itself is there, it is named; where
// it is not, the first thing that does not follow without it is, up to the next seal.
var alterations = []struct {
	name  string
	named bool
	alter func(t *testing.T, e []*ledger.Entry, seq uint64) []*ledger.Entry
}{
	{"its payload", true, func(t *testing.T, e []*ledger.Entry, seq uint64) []*ledger.Entry {
		had, err := keys.ParseEnvelope(e[seq].Content)
		must(t, err)
		has, err := keys.ParseEnvelope(another(t, e[seq].Content))
		must(t, err)
		has.Signature = had.Signature
		e[seq].Content = has.Bytes()
		return e
	}},
	{"its signature", true, func(_ *testing.T, e []*ledger.Entry, seq uint64) []*ledger.Entry {
		e[seq].Content[len(e[seq].Content)-9] ^= 1
		return e
	}},
	{"removed", false, func(_ *testing.T, e []*ledger.Entry, seq uint64) []*ledger.Entry {
		return slices.Delete(e, int(seq), int(seq)+1)
	}},
	{"later by one", false, func(_ *testing.T, e []*ledger.Entry, seq uint64) []*ledger.Entry {
		e[seq].Stamp, e[seq+1].Stamp = e[seq+1].Stamp, e[seq].Stamp
		e[seq], e[seq+1] = e[seq+1], e[seq]
		return e
	}},
	{"another in its place", false, func(t *testing.T, e []*ledger.Entry, seq uint64) []*ledger.Entry {
		e[seq].Content = another(t, e[seq].Content)
		return e
	}},
}

// TestForgedKeysLife: what every replica certified, the rules still do not derive.
func TestForgedKeysLife(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	for _, c := range w.changed {
		cut := h.cut(t, c.seq)
		for _, a := range alterations {
			forged := cut.forge(t, func(e []*ledger.Entry) []*ledger.Entry { return a.alter(t, e, c.seq) })
			bad := verifyBad(t, forged.source(t).write(t, forged), h.genesis)
			last := uint64(len(cut.entries)) - 1
			if a.named {
				last = c.seq
			}
			if !bad.HasSeq || bad.Seq < c.seq || bad.Seq > last {
				t.Errorf("%s at %d, %s: %v, want one of entries %d to %d", c.way, c.seq, a.name, bad, c.seq, last)
			}
		}
	}
}

// TestForgedKeysLifeInLinks: a statement by which the authority changed is shown by its
// link too, which names it.
func TestForgedKeysLifeInLinks(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	shown := map[string]bool{}
	for _, c := range w.changed {
		i := slices.IndexFunc(h.handovers, func(x handover) bool { return slices.Contains(x.record.Causes, c.seq) })
		if i < 0 {
			continue
		}
		shown[c.way] = true
		forged := h.forge(t, func(e []*ledger.Entry) []*ledger.Entry { return alterations[1].alter(t, e, c.seq) })
		bad := verifyBad(t, forged.source(t).write(t, forged), h.genesis)
		if bad.Step != StepHead || bad.File != fmt.Sprintf("authority/%d.json", i+1) || !strings.Contains(bad.Error(), fmt.Sprintf("statement %d", c.seq)) {
			t.Errorf("%s, the signature of entry %d altered: %v", c.way, c.seq, bad)
		}
	}
	if len(shown) != 5 {
		t.Errorf("links show %v", shown)
	}
}

// TestForgedPossession: a rotation to a key that its author does not have, under a
// signature that verifies.
func TestForgedPossession(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	seq := w.of("key.rotate of a node")[0]
	for _, field := range []func(*ledger.Rotate) []byte{
		func(b *ledger.Rotate) []byte { return b.Proof },
		func(b *ledger.Rotate) []byte { return b.PeerProof },
	} {
		forged := h.forge(t, func(e []*ledger.Entry) []*ledger.Entry {
			st, err := ledger.ParseStatement(e[seq].Content)
			must(t, err)
			body, err := ledger.DecodeBody[ledger.Rotate](st)
			must(t, err)
			field(&body)[7] ^= 1
			e[seq].Content, err = ledger.Sign(keyOf("edge-1"), st.Payload, body)
			must(t, err)
			return e
		})
		bad := verifyBad(t, forged.source(t).write(t, forged), h.genesis)
		if bad.Step != StepReplay || bad.Seq != seq || !strings.Contains(bad.Error(), "bad_proof") {
			t.Errorf("%v", bad)
		}
	}
}

func javaScript(t *testing.T) verifiertest.Verifier {
	t.Helper()
	return verifiertest.New(t, "../../test/verifier-js")
}

// TestJavaScriptVerifiesKeysLife: the second verifier, which shares no code with ours,
// takes the same export, and names the same entry when one is altered: in its file,
// and in a history that every replica certified.
func TestJavaScriptVerifiesKeysLife(t *testing.T) {
	verifier := javaScript(t)
	w := newKeysWorld(t)
	h := w.history()
	dir := keysExport(t, h)
	if out, ok := verifier.Export(t, dir, h.genesis); !ok {
		t.Fatalf("%s", out)
	}
	refused := func(dir string, c keyChange, how string) {
		if out, ok := verifier.Export(t, dir, h.genesis); ok || !strings.Contains(out, fmt.Sprintf("entry %d: ", c.seq)) {
			t.Errorf("%s, entry %d altered %s: %s", c.way, c.seq, how, out)
		}
	}
	for i, way := range everyWay {
		seqs := w.of(way)
		c := keyChange{way, seqs[len(seqs)-1]}
		if i%4 == 0 {
			file, at := h.place(c.seq)
			change(t, dir, file, flip(at+len(h.entries[c.seq])-9), func() { refused(dir, c, "in its file") })
			continue
		}
		a := alterations[i%2]
		forged := h.cut(t, c.seq).forge(t, func(e []*ledger.Entry) []*ledger.Entry { return a.alter(t, e, c.seq) })
		refused(forged.source(t).write(t, forged), c, a.name)
	}
}

// another is a statement that the author of one could have made instead: it verifies,
// and says something else.
func another(t *testing.T, envelope []byte) []byte {
	t.Helper()
	st, err := ledger.ParseStatement(envelope)
	must(t, err)
	var body any
	switch st.Payload.Type {
	case ledger.TypeRotate:
		to := st.Payload.Author + " elsewhere"
		b := bodyOf[ledger.Rotate](t, st)
		b.Public, b.Proof, b.PeerProof = keyOf(to).Public().Bytes(), nil, nil
		if b.Peer != nil {
			b.Peer = []byte(peerOf(to)[32:])
		}
		body = proven(ledger.Branch(st.Payload.Ledger, st.Payload.Generation), st.KeyID, st.Payload.Author, to, b)
	case ledger.TypeJoin:
		b := bodyOf[ledger.Join](t, st)
		b.Peer[0] ^= 1
		body = b
	case ledger.TypePropose:
		b := bodyOf[ledger.Propose](t, st)
		b.Memo = "another"
		body = b
	case ledger.TypeApprove:
		b := bodyOf[ledger.Ballot](t, st)
		b.Memo = "another"
		body = b
	case ledger.TypeBackup:
		b := bodyOf[ledger.Backup](t, st)
		b.Ciphertext[0] ^= 1
		body = b
	case ledger.TypeRestoreTest:
		b := bodyOf[ledger.RestoreTest](t, st)
		b.Outcome = ledger.RestoreFailed
		body = b
	case ledger.TypeDestroy:
		b := bodyOf[ledger.Destroy](t, st)
		b.Reason = "another"
		body = b
	default:
		t.Fatalf("no other %s", st.Payload.Type)
	}
	made, err := ledger.Sign(keyOfID(t, st.KeyID), st.Payload, body)
	must(t, err)
	return made
}

func bodyOf[B any](t *testing.T, st *ledger.Statement) B {
	t.Helper()
	body, err := ledger.DecodeBody[B](st)
	must(t, err)
	return body
}

// keyOfID finds a private key of the keyring.
func keyOfID(t *testing.T, id ledger.Hash) *keys.PrivateKey {
	t.Helper()
	keyringMu.Lock()
	defer keyringMu.Unlock()
	for _, k := range keyring {
		if ledger.Hash(k.Public().ID()) == id {
			return k
		}
	}
	t.Fatal("nobody's key")
	return nil
}

func keysExport(t *testing.T, h history) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export")
	_, err := Export(t.Context(), h.source(t), path, ExportOptions{Genesis: h.genesis})
	must(t, err)
	return path
}
