package audit

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// A cosignature binds the genesis hash, so honest replicas that serve another
// ledger under the same origin and keys certify nothing here. If a majority
// lies and signs its heads for this ledger too, entry 0 of the tree tells them
// apart.
func TestAnotherLedgerOfTheSameReplicasIsFound(t *testing.T) {
	w := newWorld(t)
	w.seal()
	ours := w.history()

	g, _, err := ledger.ParseGenesis(w.entries[0])
	must(t, err)
	g.Policy.EpochMillis++ // not in the authority, which is the same therefore
	entry, err := g.Entry()
	must(t, err)
	other := newWorld(t)
	other.entries = [][]byte{entry}
	other.state, err = fsm.New(entry)
	must(t, err)
	other.record("alice", "said on the other ledger")
	other.seal()

	theirs := other.history()
	m := theirs.source(t)
	m.files["authority/0"] = ours.source(t).files["authority/0"]
	dir := filepath.Join(t.TempDir(), "export")
	if _, err = Export(t.Context(), m, dir, ExportOptions{Genesis: ours.genesis}); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("a head of the other ledger gave %v", err)
	}

	theirs.genesis = ours.genesis // what they sign for
	m = theirs.source(t)
	m.files["authority/0"] = ours.source(t).files["authority/0"]
	_, err = Export(t.Context(), m, dir, ExportOptions{Genesis: ours.genesis})
	must(t, err)
	bad := verifyBad(t, dir, ours.genesis)
	if bad.Step != StepEntry || !bad.HasSeq || bad.Seq != 0 || !strings.Contains(bad.Error(), "genesis") {
		t.Errorf("blamed is %v, want entry 0", bad)
	}
}
