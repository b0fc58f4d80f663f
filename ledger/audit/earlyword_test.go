package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// A thief of a replica's key rotates to one of its own, and says something under that of
// the epoch before, which the rules take. No epoch from which it is revoked reaches that
// statement: all the same it is nobody's word, by the export, by a proof and by itself.
func TestAThiefsWordOfTheEpochBeforeItsKey(t *testing.T) {
	rules := ledger.DefaultKeys()
	rules.ReplicaKeyEpochs = 2
	w := &keysWorld{world: newWorld(t, func(g *ledger.Genesis) { g.Policy.Keys = &rules }), said: map[string][]byte{}}
	w.untilEpoch(4)
	w.change("key.rotate of a replica", w.rotation("r4", "r4 of the thief"))
	w.speaks["r4"] = "r4 of the thief"
	w.seal()
	epoch, seq := uint64(3), uint64(500)
	said, err := ledger.Sign(keyOf("r4 of the thief"), ledger.Payload{
		Author: "r4", Epoch: &epoch, Seq: &seq, Ledger: w.state.Meta().Ledger, Type: ledger.TypeRecord}, ledger.Record{Text: "of the thief"})
	must(t, err)
	w.submit(said)
	other := replica("r4", "acme")
	other.Public, other.Cosigner = keyOf("r4 another").Public().Bytes(), keyOf("r4 another").Cosigner44().Public()
	w.decideKey("replica.rekey", map[string]any{"from": 2, "replica": other}, "alice", "carol")
	w.seal()

	h := w.history()
	dir := keysExport(t, h)
	report, err := Verify(t.Context(), dir, Options{Genesis: h.genesis})
	must(t, err)
	id := ledger.Hash(keyOf("r4 of the thief").ID()).String()
	found := false
	for _, d := range report.Disputed {
		found = found || d.KeyHex == id && d.Statements == 1 && d.Early == 1 && strings.HasSuffix(d.text(), "1 of them of an epoch before the key's first, 4")
	}
	if !found {
		t.Errorf("the export disputes %+v", report.Disputed)
	}
	const reason = "signed in epoch 3 under a key that is valid from epoch 4 on"
	at, file := w.proofWithKey(h, said, keyRecordOf("r4 of the thief"))
	must(t, os.MkdirAll(filepath.Join(dir, "proofs"), 0o755))
	proof, caught := filepath.Join(dir, "proofs", itoa(at)+".tlog-proof"), filepath.Join(t.TempDir(), "caught.cose")
	must(t, os.WriteFile(proof, file, 0o644))
	must(t, os.WriteFile(caught, said, 0o644))
	for what, path := range map[string]string{"a proof": proof, "by itself": caught} {
		opts := FileOptions{Genesis: h.genesis}
		if path == caught {
			opts.Export = keysExport(t, h)
		}
		report, err := VerifyFile(t.Context(), path, opts)
		if report == nil || report.OK || !strings.Contains(report.Reason, reason) {
			t.Errorf("%s: %v, %+v", what, err, report)
		}
	}
	if out, ok := javaScript(t).Export(t, dir, h.genesis); ok || !strings.Contains(out, reason) {
		t.Errorf("the second verifier: %s", out)
	}
}
