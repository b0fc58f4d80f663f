package fsm

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// Protection against replay, in the two forms of FORMAT.md section 3.

// checkNonce checks the form of governors, recovery holders and joins: a nonce
// that is not live, and an expiry ahead but not far.
func (t *transition) checkNonce(st *ledger.Statement, space string) *problem {
	p := &st.Payload
	if p.Expires <= t.stamp {
		return refuse(Expired, "expires", fmt.Sprintf("expired at %d, it is %d", p.Expires, t.stamp))
	}
	if p.Expires > t.stamp+ledger.MaxNonceTTLMillis {
		return refuse(ExpiresTooFar, "expires", "more than 30 days ahead")
	}
	if _, used := t.records.Get([]byte(nonceOf(space, p.Nonce))); used {
		return refuse(NonceUsed, "nonce", "the author said something else under this nonce")
	}
	if t.count(countNonces(space)) >= ledger.MaxLiveNonces {
		return refuse(TooManyNonces, "nonce", fmt.Sprintf("%d live nonces, at most %d", ledger.MaxLiveNonces, ledger.MaxLiveNonces))
	}
	return nil
}

// useNonce makes the nonce live until the statement expires: a copy of the
// statement is refused as expired from then on.
func (t *transition) useNonce(st *ledger.Statement, space string, seq uint64) {
	p := &st.Payload
	t.put(nonceOf(space, p.Nonce), &NonceRecord{Expires: p.Expires, ID: st.ID, Seq: seq})
}

const windowBytes = ledger.SeqWindow / 8

// checkSeq checks the form of nodes and replicas: an epoch that is current or
// previous, a seq below the quota, inside the window and unused.
func (t *transition) checkSeq(st *ledger.Statement) *problem {
	epoch, seq := *st.Payload.Epoch, *st.Payload.Seq
	if now := t.meta.Epoch; epoch != now && epoch+1 != now {
		return refuse(WrongEpoch, "epoch", fmt.Sprintf("it is epoch %d", now))
	}
	if seq >= t.policy.Quota {
		return refuse(QuotaExceeded, "seq", fmt.Sprintf("at most %d statements an epoch", t.policy.Quota))
	}
	w := t.window(st.Payload.Author).of(epoch)
	if w == nil || w.Count == 0 || seq > w.Top {
		return nil
	}
	if w.Top-seq >= ledger.SeqWindow {
		return refuse(SeqTooOld, "seq", fmt.Sprintf("the window is at %d", w.Top))
	}
	if w.has(w.Top - seq) {
		return refuse(SeqUsed, "seq", "something was said under this epoch and seq")
	}
	return nil
}

// useSeq marks the seq as used.
func (t *transition) useSeq(st *ledger.Statement, entry uint64) {
	epoch, seq := *st.Payload.Epoch, *st.Payload.Seq
	old := t.window(st.Payload.Author)
	w := &WindowRecord{Epoch: max(epoch, t.meta.Epoch)}
	if old != nil && old.Epoch == w.Epoch {
		*w = *old
	} else {
		w.Bits = make([]byte, windowBytes)
		if previous := old.of(w.Epoch - 1); previous != nil && w.Epoch > 0 {
			w.Previous = previous.alone()
		}
	}
	if epoch == w.Epoch {
		w.use(seq)
	} else {
		previous := &WindowRecord{Bits: make([]byte, windowBytes), Epoch: epoch}
		if w.Previous != nil {
			*previous = *w.Previous
		}
		previous.use(seq)
		w.Previous = previous
	}
	w.Last, w.LastSeq = st.ID, entry
	t.put(tableWindow+st.Payload.Author, w)
}

func (t *transition) window(name string) *WindowRecord {
	w, ok := lookup[WindowRecord](&t.view, tableWindow+name)
	if !ok {
		return nil
	}
	return w
}

// of returns the window of an epoch, or nil.
func (w *WindowRecord) of(epoch uint64) *WindowRecord {
	switch {
	case w == nil:
		return nil
	case w.Epoch == epoch:
		return w
	case w.Previous != nil && w.Previous.Epoch == epoch:
		return w.Previous
	}
	return nil
}

// alone returns a copy as it is kept for the epoch before.
func (w *WindowRecord) alone() *WindowRecord {
	c := *w
	c.Previous, c.Last, c.LastSeq = nil, ledger.Hash{}, 0
	return &c
}

func (w *WindowRecord) has(back uint64) bool { return w.Bits[back/8]&(1<<(back%8)) != 0 }

// use marks seq, moving the window up if seq is above it. It replaces Bits,
// which another record may share.
func (w *WindowRecord) use(seq uint64) {
	bits := make([]byte, windowBytes)
	up := uint64(0)
	if w.Count == 0 {
		w.Top = seq
	} else if seq > w.Top {
		up = seq - w.Top
		w.Top = seq
	}
	if up < ledger.SeqWindow {
		shiftUp(bits, w.Bits, up)
	}
	back := w.Top - seq
	bits[back/8] |= 1 << (back % 8)
	w.Bits = bits
	w.Count++
}

// shiftUp sets bit i+n of dst for each bit i of src that stays inside.
func shiftUp(dst, src []byte, n uint64) {
	whole, part := int(n/8), n%8
	for i := len(dst) - 1; i >= whole; i-- {
		dst[i] = src[i-whole] << part
		if part > 0 && i > whole {
			dst[i] |= src[i-whole-1] >> (8 - part)
		}
	}
}
