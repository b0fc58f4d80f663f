package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/keys"
)

// keysWorld is a ledger on which keys change in every way, with the statements that
// tests speak of.
type keysWorld struct {
	*world
	said    map[string][]byte // by what they are
	changed []uint64          // seqs of the statements by which keys changed
}

func (w *keysWorld) nextEpoch() {
	w.t.Helper()
	w.now += w.state.Policy().EpochMillis
	w.apply(ledger.CommandTick)
}

func (w *keysWorld) untilEpoch(epoch uint64) {
	w.t.Helper()
	for w.state.Epoch() < epoch {
		w.nextEpoch()
	}
}

// say submits a statement and remembers it.
func (w *keysWorld) say(what, author string) {
	w.t.Helper()
	w.said[what] = w.sign(author, ledger.TypeRecord, ledger.Record{Text: what})
	w.submit(w.said[what])
}

// change submits what changes a key.
func (w *keysWorld) change(envelopes ...[]byte) {
	w.t.Helper()
	for i := range envelopes {
		w.changed = append(w.changed, w.state.Next()+uint64(i))
	}
	w.submit(envelopes...)
}

// decideKey is decide with its statements noted.
func (w *keysWorld) decideKey(action string, args any, authors ...string) {
	w.t.Helper()
	at := w.state.Next()
	w.decide(action, args, authors...)
	for i := range authors {
		w.changed = append(w.changed, at+uint64(i))
	}
}

// rotation is the key.rotate by which name announces the key of another name.
func (w *keysWorld) rotation(name, to string) []byte {
	w.t.Helper()
	next := keyOf(to)
	body := ledger.Rotate{Public: next.Public().Bytes()}
	peer := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(to[:1]), 32))
	if _, isNode := w.state.Node(name); isNode {
		body.Peer = peer.Public().(ed25519.PublicKey)
	} else {
		body.Cosigner, body.TLSPin = next.Cosigner44().Public(), sha256.Sum256([]byte("pin of "+to))
	}
	branch := w.state.Authority().Branch()
	message := ledger.RotationMessage(branch, ledger.Hash(w.keyOf(name).ID()), name, body)
	body.Proof = next.Sign(message)
	if body.Peer != nil {
		body.PeerProof = ed25519.Sign(peer, message)
	}
	return w.sign(name, ledger.TypeRotate, body)
}

func newKeysWorld(t testing.TB) *keysWorld {
	t.Helper()
	rules := ledger.DefaultKeys()
	rules.RotateEpochs, rules.ReplicaKeyEpochs, rules.LateEpochs = 4, 2, 1
	w := &keysWorld{world: newWorld(t, func(g *ledger.Genesis) {
		g.Policy.KeyEpochs, g.Policy.Keys = 8, &rules
		for i := range g.Council {
			g.Council[i].Recipient = "age1pq1 of " + g.Council[i].Name
		}
		g.Recovery = &ledger.Recovery{Threshold: 2, Holders: []ledger.Holder{
			{Name: "rita", Public: keyOf("rita").Public().Bytes()}, {Name: "rosa", Public: keyOf("rosa").Public().Bytes()}}}
	}), said: map[string][]byte{}}
	w.admit("edge-1", "edge-2", "edge-3")
	w.untilEpoch(5)
	for _, name := range []string{"edge-1", "edge-2"} {
		w.change(w.rotation(name, name+" second"))
	}
	w.say("the last word of the first key", "edge-1")
	w.change(w.rotation("r1", "r1 second"))
	w.speaks["r1"] = "r1 second"
	w.untilEpoch(7)
	w.speaks["edge-1"], w.speaks["edge-2"] = "edge-1 second", "edge-2 second"
	w.say("edge-2 in epoch 7", "edge-2")
	w.say("edge-1 in epoch 7", "edge-1")
	w.untilEpoch(8)
	w.say("edge-2 in epoch 8", "edge-2")
	w.say("edge-2 again in epoch 8", "edge-2")

	// edge-1's second key is backed up, its backup opened, its first key destroyed.
	backup := ledger.Backup{Ciphertext: sha256.Sum256([]byte("ciphertext")), Key: ledger.Hash(keyOf("edge-1 second").ID()), Set: make([]byte, 16), Threshold: 2}
	for _, name := range []string{"alice", "bob", "carol"} {
		backup.Shares = append(backup.Shares, ledger.BackupShare{
			Holder: name, Recipient: keys.RecipientHash("age1pq1 of " + name), Share: sha256.Sum256([]byte("share of " + name))})
	}
	w.change(w.sign("edge-1", ledger.TypeBackup, backup))
	w.change(w.sign("edge-1", ledger.TypeRestoreTest, ledger.RestoreTest{
		Ciphertext: backup.Ciphertext, Holders: []string{"alice", "carol"}, Key: backup.Key, Outcome: ledger.RestoreOpened, Purpose: ledger.RestoreForTest}))
	w.change(w.sign("edge-1", ledger.TypeDestroy, ledger.Destroy{Key: ledger.Hash(keyOf("edge-1").ID()), Reason: "rotated out"}))

	// edge-2's second key was stolen in epoch 8; edge-3 lost its own.
	stolen := ledger.Hash(keyOf("edge-2 second").ID())
	w.decideKey(ledger.ActionRevoke, map[string]any{"from": 8, "key": stolen, "reason": "stolen"}, "alice", "bob")
	w.speaks["edge-3"] = "edge-3 another"
	peer := sha256.Sum256([]byte("another peer of edge-3"))
	join := w.sign("edge-3", ledger.TypeJoin, ledger.Join{Name: "edge-3", Operator: "dune", Peer: peer[:], Public: keyOf("edge-3 another").Public().Bytes()})
	w.change(join)
	w.decideKey("node.rekey", map[string]any{"join": idOf(t, join)}, "alice", "bob")
	delete(w.seqs, "edge-3")
	w.say("edge-3 under another key", "edge-3")

	other := replica("r4", "acme")
	other.Public, other.Cosigner = keyOf("r4 another").Public().Bytes(), keyOf("r4 another").Cosigner44().Public()
	other.TLSPin = sha256.Sum256([]byte("another pin of r4"))
	w.decideKey("replica.rekey", map[string]any{"replica": other}, "alice", "carol")
	w.speaks["r4"] = "r4 another"
	root := sha256.Sum256([]byte("some root"))
	w.submit(w.sign("r4", ledger.TypeReady, ledger.Ready{Format: ledger.Format, Root: root, Size: w.state.Next()}))
	again := member("carol", "core")
	again.Public = keyOf("carol another").Public().Bytes()
	w.decideKey("council.change", map[string]any{"add": []ledger.Member{again}, "remove": []string{"carol"}}, "alice", "bob")
	w.speaks["carol"] = "carol another"
	w.record("carol", "seated again")
	w.seal()

	// The recovery holders replace the council.
	w.decideKey("council.reseat", map[string]any{"council": []ledger.Member{member("xia", "core"), member("yann", "bolt"), member("zoe", "acme")}}, "rita", "rosa")
	w.now += w.state.Policy().Rules["council.reseat"].DelayMillis + 1
	w.apply(ledger.CommandTick)
	w.seal()
	w.record("zoe", "in the new council")
	w.seal()
	return w
}

func keysExport(t *testing.T, h history) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export")
	_, err := Export(t.Context(), h.source(t), path, ExportOptions{Genesis: h.genesis})
	must(t, err)
	return path
}

// TestKeysLife: an export on which keys change in every way verifies, and tells what
// is disputed; with any one of the statements by which they changed altered, it does
// not, and that entry is named: in the tree, and in a history that every replica
// certified all the same.
func TestKeysLife(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	dir := keysExport(t, h)
	report, err := Verify(t.Context(), dir, Options{Genesis: h.genesis})
	if err != nil || !report.OK {
		t.Fatalf("%v", err)
	}
	if report.Statements[ledger.TypeRotate] != 3 || report.Links < 6 {
		t.Errorf("the story lacks something: %v, %d links", report.Statements, report.Links)
	}
	i := slices.IndexFunc(report.Disputed, func(d DisputedKey) bool { return d.Holder == "edge-2" })
	if i < 0 || report.Disputed[i].From != 8 || report.Disputed[i].Statements != 2 || len(report.Disputed[i].Entries) != 2 {
		t.Errorf("disputed: %+v", report.Disputed)
	}
	if text := report.Text(); !strings.Contains(text, "2 statements of edge-2 under key ") || !strings.Contains(text, "revoked from epoch 8 on") {
		t.Errorf("text:\n%s", text)
	}

	size := uint64(len(h.entries))
	if len(w.changed) < 17 {
		t.Fatalf("only %d statements change keys", len(w.changed))
	}
	types := map[string]bool{}
	for _, seq := range w.changed {
		e, err := ledger.ParseEntry(h.entries[seq])
		must(t, err)
		st, err := ledger.ParseStatement(e.Content)
		must(t, err)
		types[st.Payload.Type] = true
		at := 0
		for _, raw := range h.entries[seq/archive.TileWidth*archive.TileWidth : seq] {
			at += 2 + len(raw)
		}
		file := archive.BundlePath(seq/archive.TileWidth, bundleWidth(seq/archive.TileWidth, size))
		change(t, dir, file, flip(at+2+len(h.entries[seq])/2), func() {
			if bad := verifyBad(t, dir, h.genesis); bad.Step != StepTree || !bad.HasSeq || bad.Seq != seq {
				t.Errorf("%s at %d altered in the tree: %v", st.Payload.Type, seq, bad)
			}
		})
	}
	for _, typ := range []string{ledger.TypeRotate, ledger.TypeBackup, ledger.TypeRestoreTest, ledger.TypeDestroy, ledger.TypeJoin, ledger.TypePropose, ledger.TypeApprove} {
		if !types[typ] {
			t.Errorf("no %s was altered", typ)
		}
	}
}

// TestForgedKeysLife: what every replica certified, the rules still do not derive.
func TestForgedKeysLife(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	for _, seq := range w.changed {
		forged := h.forge(t, func(e []*ledger.Entry) []*ledger.Entry {
			e[seq].Content[len(e[seq].Content)-9] ^= 1 // of its signature
			return e
		})
		if slices.ContainsFunc(h.handovers, func(x handover) bool { return slices.Contains(x.record.Causes, seq) }) {
			continue // a link shows it, which no client follows then
		}
		dir := forged.source(t).write(t, forged)
		if bad := verifyBad(t, dir, h.genesis); bad.Step != StepSignature && bad.Step != StepReplay || !bad.HasSeq || bad.Seq != seq {
			t.Errorf("the signature of entry %d altered: %v", seq, bad)
		}
	}
}

// TestForgedPossession: a rotation to a key that its author does not have, under a
// signature that verifies.
func TestForgedPossession(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	for _, field := range []func(*ledger.Rotate) []byte{
		func(b *ledger.Rotate) []byte { return b.Proof },
		func(b *ledger.Rotate) []byte { return b.PeerProof },
	} {
		seq := w.changed[0]
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

// TestStatementsByThemselves: a statement that was caught anywhere is judged by its
// signature and by how its key stands at the end of an export.
func TestStatementsByThemselves(t *testing.T) {
	w := newKeysWorld(t)
	h := w.history()
	dir := keysExport(t, h)
	sign := func(key, author string, epoch, seq uint64) []byte {
		envelope, err := ledger.Sign(keyOf(key), ledger.Payload{Author: author, Epoch: &epoch, Seq: &seq, Ledger: h.genesis, Type: ledger.TypeRecord}, ledger.Record{Text: "caught"})
		must(t, err)
		return envelope
	}
	altered := bytes.Clone(w.said["edge-1 in epoch 7"])
	altered[len(altered)-9] ^= 1
	for _, c := range []struct {
		name     string
		envelope []byte
		word     fsm.KeyWord
		reason   string // "": it holds
		entry    bool
	}{
		{"before a rotation", w.said["the last word of the first key"], fsm.WordHolds, "", true},
		{"after it", w.said["edge-1 in epoch 7"], fsm.WordHolds, "", true},
		{"before the revocation's epoch", w.said["edge-2 in epoch 7"], fsm.WordHolds, "", true},
		{"in it", w.said["edge-2 in epoch 8"], fsm.WordDisputed, "signed in epoch 8 under a key that is revoked from epoch 8 on", true},
		{"after it, by the thief", sign("edge-2 second", "edge-2", 9, 900), fsm.WordDisputed, "signed in epoch 9 under a key that is revoked from epoch 8 on", false},
		{"dated back, by the thief", sign("edge-2 second", "edge-2", 7, 901), fsm.WordHolds, "", false},
		{"of the key after it, too early", sign("edge-1 second", "edge-1", 6, 902), fsm.WordNotYet, "signed in epoch 6 under a key that is valid from epoch 7 on", false},
		{"of a key rotated out", sign("edge-1", "edge-1", 7, 903), fsm.WordExpired, "signed in epoch 7, after the last one of its key", false},
		{"after the key's end", sign("edge-1 second", "edge-1", 40_000, 904), fsm.WordExpired, "signed in epoch 40000, after the last one of its key", false},
		{"of a stranger", sign("mallory", "edge-1", 7, 905), "", "had no role on this ledger", false},
		{"under another's name", sign("edge-3 another", "edge-1", 8, 906), fsm.WordHolds, "its key is edge-3's", false},
		{"altered", altered, fsm.WordHolds, "the signature of edge-1 does not verify", false},
	} {
		path := filepath.Join(t.TempDir(), "caught.cose")
		must(t, os.WriteFile(path, c.envelope, 0o644))
		report, err := VerifyFile(t.Context(), path, FileOptions{Genesis: h.genesis, Export: dir})
		if report == nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if report.Kind != FileStatement || report.OK != (c.reason == "") || !strings.Contains(report.Reason, c.reason) {
			t.Errorf("%s: %+v", c.name, report)
		}
		if c.word != "" && (report.Signed == nil || report.Signed.Word != string(c.word)) {
			t.Errorf("%s: %+v, want %s", c.name, report.Signed, c.word)
		}
		if report.OK && (report.Seq != nil) != c.entry {
			t.Errorf("%s: entry %v", c.name, report.Seq)
		}
	}
	path := filepath.Join(t.TempDir(), "caught.cose")
	must(t, os.WriteFile(path, w.said["edge-1 in epoch 7"], 0o644))
	if _, err := VerifyFile(t.Context(), path, FileOptions{Genesis: h.genesis}); !errors.Is(err, ErrNoExport) {
		t.Errorf("without an export: %v", err)
	}
}
