package gossip

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

func bare(key byte, epoch, seq uint64, id uint64) *ledger.Statement {
	return &ledger.Statement{
		KeyID: ledger.Hash{key}, ID: ledger.Hash{key, byte(epoch), byte(seq), byte(seq >> 8), byte(id)}, Envelope: make([]byte, 4_000),
		Payload: ledger.Payload{Epoch: &epoch, Seq: &seq, Type: ledger.TypeObserve},
	}
}

// The window says what one says that forgets nothing, but that it may call old
// what it has dropped; what it calls fresh is fresh, and what is the newest of its
// author's 1,024 it never calls old.
func TestWindowIsItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type slot struct {
			key        byte
			epoch, seq uint64
		}
		w, twin, top := NewWindow(5), map[slot]ledger.Hash{}, map[slot]uint64{}
		epoch := uint64(5)
		for range rapid.IntRange(1, 200).Draw(t, "statements") {
			if rapid.IntRange(0, 30).Draw(t, "time") == 0 {
				epoch++
				w.Advance(epoch)
			}
			s := slot{byte(rapid.IntRange(0, 2).Draw(t, "key")), epoch + rapid.Uint64Range(0, 3).Draw(t, "epoch") - 2, rapid.Uint64Range(0, 1_500).Draw(t, "seq")}
			st := bare(s.key, s.epoch, s.seq, rapid.Uint64Range(0, 1).Draw(t, "id"))
			got, first := w.Take(st, 1_400)
			old, there := twin[s]
			row := slot{key: s.key, epoch: s.epoch}
			want := Fresh
			switch {
			case s.epoch != epoch && s.epoch+1 != epoch:
				want = WrongEpoch
			case s.seq >= 1_400:
				want = OverQuota
			case there && old == st.ID:
				want = Replay
			case there:
				want = Equivocation
			}
			if got == TooOld && (want == Fresh || want == Replay || want == Equivocation) && s.seq+ledger.SeqWindow <= max(top[row], s.seq) {
				continue
			}
			if got != want {
				t.Fatalf("epoch %d, %+v: %d, want %d", epoch, s, got, want)
			}
			if (got == Replay || got == Equivocation) && first != old {
				t.Fatalf("the first is %s, not %s", first, old)
			}
			if got == Fresh {
				twin[s] = st.ID
				top[row] = max(top[row], s.seq)
			}
		}
	})
}

// However much 5,000 authors say, the window stays within its bounds, and
// nothing that it dropped is fresh again.
func TestWindowIsBounded(t *testing.T) {
	w := NewWindow(1)
	const authors, each = 5_000, 40
	id := uint64(0)
	say := func(author int, seq uint64) Sighting {
		st := &ledger.Statement{KeyID: ledger.Hash{byte(author), byte(author >> 8)}, Envelope: make([]byte, 3_500)}
		st.ID = ledger.Hash{byte(author), byte(author >> 8), byte(seq), byte(seq >> 8)}
		epoch := uint64(1)
		st.Payload = ledger.Payload{Epoch: &epoch, Seq: &seq, Type: ledger.TypeObserve}
		s, _ := w.Take(st, 1<<32)
		id++
		return s
	}
	for seq := range uint64(2_000) { // one is louder than all others
		say(0, seq)
	}
	for seq := range uint64(each) {
		for author := 1; author < authors; author++ {
			if s := say(author, seq); s != Fresh {
				t.Fatalf("author %d, seq %d: %d", author, seq, s)
			}
		}
	}
	held := 0
	for _, r := range w.rows {
		held += len(r.seen)
	}
	if held != w.seqs || held > 2*MaxWindowSeqs || len(w.rows) > MaxWindowRows || w.kept.bytes > MaxKeptBytes || len(w.kept.byID) != len(w.kept.order)-w.kept.next {
		t.Errorf("%d seqs (counted %d) in %d rows, %d bytes of envelopes", held, w.seqs, len(w.rows), w.kept.bytes)
	}
	for author := range authors {
		for seq := range uint64(each) {
			if s := say(author, seq); s != Replay && s != TooOld {
				t.Fatalf("author %d, seq %d again: %d", author, seq, s)
			}
		}
	}
	if n := len(w.Newest(ledger.Hash{byte(4_999 & 0xff), byte(4_999 >> 8)})); n != 1 {
		t.Errorf("of the newest there are %d", n)
	}
	w.Advance(3)
	if w.seqs != 0 || len(w.rows) != 0 {
		t.Errorf("%d seqs in %d rows outlive their epochs", w.seqs, len(w.rows))
	}
}
