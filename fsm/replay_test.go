package fsm

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

// A window knows exactly which of the last 1,024 seqs were used.
func TestWindowAgainstSet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &WindowRecord{Bits: make([]byte, windowBytes)}
		used, top := map[uint64]bool{}, uint64(0)
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			seq := rapid.OneOf(
				rapid.Uint64Range(top, top+40),
				rapid.Uint64Range(top-min(top, 1023), top),
				rapid.Uint64Range(top, top+2000),
			).Draw(rt, "seq")
			if used[seq] || top-min(top, seq) >= ledger.SeqWindow {
				continue
			}
			before := string(w.Bits)
			next := *w
			next.use(seq)
			if string(w.Bits) != before {
				rt.Fatal("the window that was shared has changed")
			}
			w = &next
			used[seq], top = true, max(top, seq)
			if w.Top != top || w.Count != uint64(len(used)) {
				rt.Fatalf("top %d count %d, want %d %d", w.Top, w.Count, top, len(used))
			}
			for back := range uint64(ledger.SeqWindow) {
				if want := back <= top && used[top-back]; w.has(back) != want {
					rt.Fatalf("seq %d is used: %v, the window says %v", top-back, want, w.has(back))
				}
			}
		}
	})
}
