package gossip

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// Urgency is the order in which an Outbox says things.
type Urgency uint8

const (
	UrgentEvidence Urgency = iota // what proves an offence
	UrgentDown                    // accusations
	UrgentUp                      // what takes them back
	UrgentAttest
	UrgentRelay // others' statements that may not have reached the ledger
)

// Item is something to be said: a body to sign, or a signed statement to bring.
type Item struct {
	Urgency  Urgency
	Observe  *ledger.Observe  // to sign; its counter is the signer's to set
	Evidence *ledger.Evidence // to sign
	Attest   *ledger.Attest   // to sign
	Envelope []byte           // signed already
	ID       ledger.Hash      // of Envelope

	key    string // of what it supersedes
	order  uint64
	until  uint64 // the last epoch in which it can be said
	toTick uint64 // of an observation: the last tick in which it can be said; 0: any
	bytes  int
}

// Signed reports whether the item needs no seq of ours.
func (i *Item) Signed() bool { return i.Envelope != nil }

// An Outbox is what waits to be said, the most urgent first and the oldest first
// of equal urgency. Of observations of one matter and subject only the newest is
// kept, as it is: two are never made into one of a longer span, which could speak
// of a tick that was acknowledged in between. When there is no room, what is
// least urgent goes.
type Outbox struct {
	items []Item // sorted
	bytes int
	order uint64
	lost  uint64
}

// Observe puts in what is to be said of a peer.
func (o *Outbox) Observe(rules *Rules, w ledger.Observe) bool {
	urgency := UrgentUp
	if w.Down() {
		urgency = UrgentDown
	}
	return o.put(Item{
		Urgency: urgency, Observe: &w, key: "observe/" + w.Matter() + "/" + w.Subject,
		until: rules.Epoch, toTick: w.To + rules.Protection.WindowTicks, bytes: itemBytes,
	})
}

// itemBytes is what a small body is counted as.
const itemBytes = 512

// Bring puts in evidence that was made here.
func (o *Outbox) Bring(p *Proof) bool {
	size := itemBytes
	for _, x := range p.Evidence.Exhibits {
		size += len(x)
	}
	return o.put(Item{
		Urgency: UrgentEvidence, Evidence: &p.Evidence, key: "evidence/" + p.Offence.Key(),
		until: p.Offence.Epoch + maxProofEpochs, bytes: size,
	})
}

// Attest puts in the attestation of the window that is over.
func (o *Outbox) Attest(rules *Rules, a *ledger.Attest) bool {
	size := itemBytes
	for i := range a.Epochs {
		size += len(a.Epochs[i].Clean)
	}
	every := max(rules.Protection.AttestEpochs, 1)
	return o.put(Item{Urgency: UrgentAttest, Attest: a, key: "attest", until: (rules.Epoch/every+1)*every - 1, bytes: size})
}

// Relay puts in a statement of somebody else, or one of our own that is signed.
func (o *Outbox) Relay(st *ledger.Statement, urgency Urgency) bool {
	i := Item{Urgency: urgency, Envelope: slices.Clone(st.Envelope), ID: st.ID, key: "signed/" + string(st.ID[:]), until: ^uint64(0), bytes: len(st.Envelope)}
	if st.Payload.Epoch != nil {
		i.until = *st.Payload.Epoch + 1
	}
	return o.put(i)
}

// put reports whether the item is in.
func (o *Outbox) put(i Item) bool {
	if at := o.find(i.key); at >= 0 {
		if i.Signed() {
			return true
		}
		o.drop(at)
	}
	o.order++
	i.order = o.order
	at, _ := slices.BinarySearchFunc(o.items, i, compareItems)
	o.items = slices.Insert(o.items, at, i)
	o.bytes += i.bytes
	in := true
	for len(o.items) > MaxOutboxItems || o.bytes > MaxOutboxBytes {
		last := len(o.items) - 1
		in = in && o.items[last].order != i.order
		o.drop(last)
		o.lost++
	}
	return in
}

func compareItems(a, b Item) int {
	return cmp.Or(cmp.Compare(a.Urgency, b.Urgency), cmp.Compare(a.order, b.order))
}

func (o *Outbox) find(key string) int {
	return slices.IndexFunc(o.items, func(i Item) bool { return i.key == key })
}

func (o *Outbox) drop(at int) {
	o.bytes -= o.items[at].bytes
	o.items = slices.Delete(o.items, at, at+1)
}

// Next takes out what is to be said next. left is how many seqs of our own are
// left in the epoch: at none, nothing is signed any more, and the last few are
// for what is urgent.
func (o *Outbox) Next(left uint64) (Item, bool) {
	for at, i := range o.items {
		if i.Signed() || left > seqsForUrgent || left > 0 && i.Urgency <= UrgentDown {
			o.drop(at)
			return i, true
		}
	}
	return Item{}, false
}

// seqsForUrgent is how many seqs of an epoch are kept for evidence and
// accusations.
const seqsForUrgent = 8

// Expire drops what can no longer be said: observations out of the window or
// epoch in which they were made, and statements of epochs that have passed.
func (o *Outbox) Expire(epoch, tick uint64) {
	for at := len(o.items) - 1; at >= 0; at-- {
		i := &o.items[at]
		if epoch > i.until || i.toTick != 0 && tick > i.toTick {
			o.drop(at)
		}
	}
}

// Withdraw takes out what waits to be said of a peer: it no longer holds.
func (o *Outbox) Withdraw(matter, subject string) {
	if at := o.find("observe/" + matter + "/" + subject); at >= 0 {
		o.drop(at)
	}
}

// Len is how many items wait, Bytes their size, Lost how many were dropped for
// want of room.
func (o *Outbox) Len() int     { return len(o.items) }
func (o *Outbox) Bytes() int   { return o.bytes }
func (o *Outbox) Lost() uint64 { return o.lost }
