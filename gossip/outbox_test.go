package gossip

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

// However it is filled, an outbox gives the most urgent first and the oldest
// first of equal urgency, one observation of a matter and subject, the newest as
// it was put in; it stays within its bounds; and at quota nothing is signed.
func TestOutboxOrder(t *testing.T) {
	rules := newWorld(1, 1).Rules()
	rapid.Check(t, func(t *rapid.T) {
		var o Outbox
		newest, attested := map[string]ledger.Observe{}, false
		for i := range rapid.IntRange(0, 60).Draw(t, "items") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				p := &Proof{Offence: ledger.Offence{Seq: uint64(i)}, Evidence: ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{make([]byte, 4_000)}}}
				o.Bring(p)
			case 1:
				o.Attest(&rules, &ledger.Attest{Epochs: []ledger.AttestedEpoch{{Epoch: uint64(i)}}})
				attested = true
			case 2:
				o.Relay(bare(byte(i), 100, uint64(i), 0), UrgentRelay)
			case 3:
				w := ledger.Observe{Subject: fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "subject")), From: uint64(i), To: uint64(i) + 1}
				w.Kind = rapid.SampledFrom([]string{ledger.NodeDown, ledger.NodeUp, ledger.LinkDown, ledger.LinkUp}).Draw(t, "kind")
				o.Observe(&rules, w)
				newest[w.Matter()+w.Subject] = w
			}
		}
		left, last, lastOrder, words := rapid.Uint64Range(0, 80).Draw(t, "seqs left"), Urgency(0), uint64(0), 0
		for {
			i, ok := o.Next(left)
			if !ok {
				break
			}
			if !i.Signed() {
				if left == 0 || left <= seqsForUrgent && i.Urgency > UrgentDown {
					t.Fatalf("with %d seqs left, urgency %d is signed", left, i.Urgency)
				}
				left--
			}
			if left > seqsForUrgent && (i.Urgency < last || i.Urgency == last && i.order < lastOrder) {
				t.Fatalf("urgency %d after %d", i.Urgency, last)
			}
			last, lastOrder = i.Urgency, i.order
			if i.Observe != nil {
				words++
				if *i.Observe != newest[i.Observe.Matter()+i.Observe.Subject] {
					t.Fatalf("%+v is not what was put in last", *i.Observe)
				}
			}
		}
		if left > seqsForUrgent && (o.Len() != 0 || o.Bytes() != 0 || words != len(newest)) {
			t.Fatalf("%d items, %d bytes are left; %d of %d observations came (attested: %v)", o.Len(), o.Bytes(), words, len(newest), attested)
		}
	})
}

func TestOutboxBounds(t *testing.T) {
	rules := newWorld(1, 1).Rules()
	var o Outbox
	for i := range uint64(2 * MaxOutboxItems) {
		in := o.Relay(bare(1, 100, i, 0), UrgentRelay)
		if in != (i < MaxOutboxItems) {
			t.Fatalf("item %d is in: %v", i, in)
		}
	}
	if !o.Observe(&rules, ledger.Observe{Kind: ledger.NodeDown, Subject: "n", From: 6_000, To: 6_000}) || o.Len() != MaxOutboxItems || o.Lost() != MaxOutboxItems+1 {
		t.Errorf("%d items, %d lost", o.Len(), o.Lost())
	}
	o.Expire(100, 6_000)
	if o.Len() != MaxOutboxItems {
		t.Errorf("%d items: some went too early", o.Len())
	}
	o.Expire(100, 6_000+rules.Protection.WindowTicks+1)
	if o.Len() != MaxOutboxItems-1 {
		t.Errorf("an observation outlives its window")
	}
	o.Expire(102, 0)
	if o.Len() != 0 || o.Bytes() != 0 {
		t.Errorf("%d statements outlive their epoch", o.Len())
	}
	o.Observe(&rules, ledger.Observe{Kind: ledger.NodeDown, Subject: "n"})
	o.Withdraw("node", "n")
	for i := range uint64(2_000) {
		o.Bring(&Proof{Offence: ledger.Offence{Seq: i}, Evidence: ledger.Evidence{Exhibits: [][]byte{make([]byte, 9_000), make([]byte, 9_000)}}})
	}
	if o.Bytes() > MaxOutboxBytes {
		t.Errorf("%d bytes", o.Bytes())
	}
}
