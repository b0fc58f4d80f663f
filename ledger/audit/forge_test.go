package audit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// lastOf finds the last entry that fits, after the last handover.
func lastOf(t *testing.T, h history, fits func(e *ledger.Entry, st *ledger.Statement, effect string) bool) uint64 {
	t.Helper()
	for seq := len(h.entries) - 1; seq > int(h.handovers[3].seal); seq-- {
		c := checked{raw: h.entries[seq]}
		must(t, c.parse(uint64(seq), nil))
		if fits(c.entry, c.statement, c.effect) {
			return uint64(seq)
		}
	}
	t.Fatal("no entry fits")
	return 0
}

func resign(t *testing.T, signer string, change func(*ledger.Payload)) func(e *ledger.Entry) {
	return func(e *ledger.Entry) {
		st, err := ledger.ParseStatement(e.Content)
		must(t, err)
		p := st.Payload
		var body any = p.Body
		if change != nil {
			change(&p)
			body = p.Body
		}
		e.Content, err = ledger.Sign(keyOf(signer), p, body)
		must(t, err)
	}
}

// A majority of the replicas that lies can certify any tree. It cannot make
// the rules derive it: what is forged is named all the same.
func TestCertifiedForgeriesAreFound(t *testing.T) {
	h := told(t)
	record := lastOf(t, h, func(_ *ledger.Entry, st *ledger.Statement, _ string) bool {
		return st != nil && st.Payload.Type == ledger.TypeRecord && st.Payload.Author == "carol"
	})
	executed := lastOf(t, h, func(_ *ledger.Entry, _ *ledger.Statement, effect string) bool { return effect == "executed" })
	decision := lastOf(t, h, func(_ *ledger.Entry, _ *ledger.Statement, effect string) bool { return effect == "decision" })
	approve := lastOf(t, h, func(_ *ledger.Entry, st *ledger.Statement, _ string) bool {
		return st != nil && st.Payload.Type == ledger.TypeApprove
	})
	seal := lastOf(t, h, func(e *ledger.Entry, _ *ledger.Statement, _ string) bool {
		return e.Kind == ledger.KindSeal && e.Seq < uint64(len(h.entries)-1)
	})
	at := func(seq uint64, change func(e *ledger.Entry)) func([]*ledger.Entry) []*ledger.Entry {
		return func(e []*ledger.Entry) []*ledger.Entry { change(e[seq]); return e }
	}
	drop := func(seq uint64) func([]*ledger.Entry) []*ledger.Entry {
		return func(e []*ledger.Entry) []*ledger.Entry { return slices.Delete(e, int(seq), int(seq)+1) }
	}
	early := uint64(2) // bob's first record, long before any handover
	for _, c := range []struct {
		name   string
		change func([]*ledger.Entry) []*ledger.Entry
		step   string
		seq    uint64
		why    string
	}{
		{"signed by another governor", at(record, resign(t, "bob", nil)), StepReplay, record, "wrong_key"},
		{"signed by a stranger", at(record, resign(t, "mallory", nil)), StepReplay, record, "wrong_key"},
		{"signed by a stranger, early", at(early, resign(t, "mallory", nil)), StepReplay, early, "wrong_key"},
		{"signature of nobody", at(record, func(e *ledger.Entry) { e.Content[len(e.Content)-9] ^= 1 }), StepSignature, record, "bad_signature"},
		{"another ledger", at(record, resign(t, "carol", func(p *ledger.Payload) { p.Ledger[3] ^= 1 })), StepReplay, record, "wrong_ledger"},
		{"another generation", at(record, resign(t, "carol", func(p *ledger.Payload) { p.Generation++ })), StepReplay, record, "wrong_generation"},
		{"expired", at(record, resign(t, "carol", func(p *ledger.Payload) { p.Expires = 5 })), StepReplay, record, "expired"},
		{"said otherwise", at(record, resign(t, "carol", func(p *ledger.Payload) { p.Body = canon.Raw(`{"text":"not what she said"}`) })), StepReplay, record + 1, "digest"},
		{"an effect omitted", drop(executed), StepReplay, executed, "the rules give"},
		{"a decision omitted", drop(decision), StepReplay, decision, ""},
		{"an approval omitted", drop(approve), StepReplay, approve, "nothing before it causes"},
		{"an effect invented", func(e []*ledger.Entry) []*ledger.Entry {
			forged := *e[executed]
			forged.Stamp = e[record].Stamp
			return slices.Insert(e, int(record), &forged)
		}, StepReplay, record, "the rules give"},
		{"a statement repeated", func(e []*ledger.Entry) []*ledger.Entry {
			again := *e[record]
			return slices.Insert(e, int(record)+1, &again)
		}, StepReplay, record + 1, "already"},
		{"a seal's digest", at(seal, func(e *ledger.Entry) {
			e.Content = []byte(strings.Replace(string(e.Content), `"digest":"`, `"digest":"A`, 1))
			e.Content = append(e.Content[:len(`{"digest":"`)+42], e.Content[len(`{"digest":"`)+43:]...)
		}), "", seal, ""},
		{"a seal omitted", drop(seal), StepReplay, 0, ""},
		{"a stamp that falls", at(record, func(e *ledger.Entry) { e.Stamp = 1_700_000_000_000 }), StepEntry, record, "before the last one's"},
		{"a stamp later than the rules", at(executed, func(e *ledger.Entry) { e.Stamp++ }), StepReplay, executed, "stamp"},
		{"an unknown kind of content", at(record, func(e *ledger.Entry) { e.Content = []byte("{}") }), StepEntry, record, ""},
		{"genesis again", at(record, func(e *ledger.Entry) { e.Kind = ledger.KindGenesis }), StepReplay, record, "a genesis can't stand here"},
		{"an end before its effects", func(e []*ledger.Entry) []*ledger.Entry { return e[:approve+1] }, StepReplay, approve, "ends before what entry"},
		{"an end that is no seal", func(e []*ledger.Entry) []*ledger.Entry { return e[:len(e)-1] }, StepReplay, uint64(len(h.entries) - 2), "not in a seal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			forged := h.forge(t, c.change)
			m := forged.source(t)
			dir := filepath.Join(t.TempDir(), "export")
			// Export copies what is certified and can be read; only Verify replays.
			_, err := Export(t.Context(), m, dir, ExportOptions{Genesis: h.genesis})
			if c.step == StepEntry && c.why == "" {
				var bad *BadError
				if !errors.As(err, &bad) || bad.Step != c.step || !bad.HasSeq || bad.Seq != c.seq {
					t.Errorf("export: %v, want entry %d", err, c.seq)
				}
				return
			}
			must(t, err)
			bad := verifyBad(t, dir, h.genesis)
			if c.step != "" && bad.Step != c.step || !bad.HasSeq || c.seq > 0 && bad.Seq != c.seq || !strings.Contains(bad.Reason.Error(), c.why) {
				t.Errorf("blamed is %v, want %s of entry %d: %s", bad, c.step, c.seq, c.why)
			}
		})
	}
}

// A head that too few cosigned, or that others cosigned, is none.
func TestForgedHeadsAreFound(t *testing.T) {
	h := told(t)
	dir := filepath.Join(t.TempDir(), "export")
	_, err := Export(t.Context(), h.source(t), dir, ExportOptions{Genesis: h.genesis})
	must(t, err)
	note := func(change func(*ledger.Checkpoint)) func([]byte) []byte {
		return func(b []byte) []byte {
			c, err := ledger.ParseCheckpoint(b)
			must(t, err)
			change(c)
			return c.Note()
		}
	}
	for _, c := range []struct {
		name, file string
		to         func([]byte) []byte
	}{
		{"too few", "checkpoint", note(func(c *ledger.Checkpoint) { c.Cosignatures = c.Cosignatures[:2] })},
		{"nobody", "checkpoint", note(func(c *ledger.Checkpoint) { c.Cosignatures = nil })},
		{"a replica that was removed", "checkpoint", note(func(c *ledger.Checkpoint) {
			k := keyOf("r2")
			c.Cosignatures = append(c.Cosignatures[:2], ledger.Cosign(h.genesis, k, k.Cosigner44(), "r2", c.Head, 1_800_000_000))
		})},
		{"another root", "checkpoint", note(func(c *ledger.Checkpoint) { c.Head.Root[0] ^= 1 })},
		{"another size", "checkpoint", note(func(c *ledger.Checkpoint) { c.Head.Size-- })},
		{"a link of another index", "authority/2.json", func([]byte) []byte { b, _ := os.ReadFile(filepath.Join(dir, "authority/1.json")); return b }},
	} {
		change(t, dir, c.file, c.to, func() {
			if bad := verifyBad(t, dir, h.genesis); bad.Step != StepHead || bad.File != c.file {
				t.Errorf("%s: %v", c.name, bad)
			}
		})
	}
	for n, want := range []string{"authority/0.json", "authority/2.json", "authority/3.json", "authority/4.json", "checkpoint"} {
		path := filepath.Join(dir, "authority", itoa(uint64(n))+".json")
		must(t, os.Rename(path, path+".aside"))
		if bad := verifyBad(t, dir, h.genesis); bad.Step != StepHead {
			t.Errorf("without link %d: %v, want %s", n, bad, want)
		}
		must(t, os.Rename(path+".aside", path))
	}
}

// Replicas that went over to another history, and its handover to us.
func TestHandoverOfAnotherHistoryIsFound(t *testing.T) {
	h := told(t)
	first := h.handovers[0].seal
	other := h.forge(t, func(e []*ledger.Entry) []*ledger.Entry { e[first-20].Stamp++; return e })
	m, theirs := h.source(t), other.source(t)
	m.files["authority/1"] = theirs.files["authority/1"]
	dir := filepath.Join(t.TempDir(), "export")
	var bad *BadError
	if _, err := Export(t.Context(), m, dir, ExportOptions{Genesis: h.genesis}); !errors.As(err, &bad) || bad.File != "authority/1.json" || !errors.Is(err, ledger.ErrEquivocation) {
		t.Errorf("export: %v", err)
	}
	if bad := verifyBad(t, m.write(t, h), h.genesis); bad.File != "authority/1.json" || !errors.Is(bad, ledger.ErrEquivocation) {
		t.Errorf("verify: %v", bad)
	}
}

func TestAtLeast(t *testing.T) {
	h := told(t)
	size := uint64(len(h.entries))
	dir := filepath.Join(t.TempDir(), "export")
	whole := h.source(t)
	_, err := Export(t.Context(), whole, dir, ExportOptions{Genesis: h.genesis})
	must(t, err)
	old := h.handovers[1].seal + 1
	verify := func(dir string, note []byte) (*Report, error) {
		return Verify(t.Context(), dir, Options{Genesis: h.genesis, AtLeast: note})
	}
	for _, n := range []uint64{old, h.handovers[3].seal + 1, size} {
		report, err := verify(dir, h.until(t, n).source(t).files["checkpoint"])
		if err != nil || report.AtLeast != n {
			t.Errorf("at least %d: %v", n, err)
		}
	}
	earlier := filepath.Join(t.TempDir(), "earlier")
	_, err = Export(t.Context(), h.until(t, old).source(t), earlier, ExportOptions{Genesis: h.genesis})
	must(t, err)
	var bad *BadError
	if _, err := verify(earlier, whole.files["checkpoint"]); !errors.As(err, &bad) || bad.File != "checkpoint" || !strings.Contains(err.Error(), "it is old, or cut") {
		t.Errorf("a cut export: %v", err)
	}
	beside := h.until(t, old).forge(t, func(e []*ledger.Entry) []*ledger.Entry { e[old-3].Stamp++; return e })
	note := beside.source(t).files["checkpoint"]
	if _, err := verify(dir, note); !errors.As(err, &bad) || !errors.Is(err, ledger.ErrEquivocation) {
		t.Errorf("a certified head beside: %v", err)
	}
	uncertified, err := ledger.ParseCheckpoint(note)
	must(t, err)
	uncertified.Cosignatures = uncertified.Cosignatures[:1]
	bad = nil
	for name, note := range map[string][]byte{"uncertified": uncertified.Note(), "no checkpoint": []byte("x"), "another log": []byte(strings.Replace(string(note), worldOrigin, "elsewhere", 1))} {
		if report, err := verify(dir, note); err == nil || errors.As(err, &bad) || report != nil {
			t.Errorf("%s blames the export: %v", name, err)
		}
	}
}

func TestTheGenesisHashIsTheTrust(t *testing.T) {
	dir, h := exported(t)
	other := h.genesis
	other[0] ^= 1
	if bad := verifyBad(t, dir, other); bad.File != "genesis.cbor" || !strings.Contains(bad.Error(), "wrong genesis hash") {
		t.Errorf("%v", bad)
	}
	if report, err := Verify(t.Context(), filepath.Join(dir, "nowhere"), Options{Genesis: h.genesis}); err == nil || report != nil || errors.As(err, new(*BadError)) {
		t.Errorf("a path that is not there: %v", err)
	}
}

// A chain that ends before the last handover, of the council alone: the head is
// certified by the very replicas, and only the replay sees what is missing.
func TestMissingHandoverIsFound(t *testing.T) {
	h := told(t)
	h = h.until(t, h.handovers[2].seal+1)
	m := h.source(t)
	delete(m.files, "authority/3")
	dir := filepath.Join(t.TempDir(), "export")
	_, err := Export(t.Context(), m, dir, ExportOptions{Genesis: h.genesis})
	must(t, err)
	if bad := verifyBad(t, dir, h.genesis); bad.Step != StepReplay || bad.File != "authority/2.json" || !strings.Contains(bad.Error(), "derives authority 3") {
		t.Errorf("%v", bad)
	}
}
