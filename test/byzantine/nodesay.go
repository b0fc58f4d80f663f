package main

import (
	"context"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// next draws the seq of a node's next statement of a type, and its epoch, as an
// honest node would.
func (n *node) next(typ string, epoch uint64) (uint64, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if epoch > n.epoch {
		n.epoch, n.seqs = epoch, [2]uint64{}
	}
	space := ledger.SeqSpaceOf(typ)
	n.seqs[space]++
	return n.epoch, n.seqs[space] - 1
}

// counter draws the counter of a node's next observation.
func (n *node) counter() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said++
	return n.said
}

// states is a statement of a node under its next seq, or, with a change, whatever
// the change makes of it.
func (f *fleet) states(n *node, typ string, body any, change ...func(*ledger.Payload)) []byte {
	p := f.payload(n.name, typ)
	epoch, seq := n.next(typ, f.audit.epoch())
	p.Epoch, p.Seq = &epoch, &seq
	for _, c := range change {
		c(&p)
	}
	envelope := f.sign(n.key, p, body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.signed[statementID(envelope)] = time.Now()
	return envelope
}

func atSeq(seq uint64) func(*ledger.Payload) {
	return func(p *ledger.Payload) { p.Seq = &seq }
}

func atEpoch(epoch uint64) func(*ledger.Payload) {
	return func(p *ledger.Payload) { p.Epoch = &epoch }
}

func text(s string) ledger.Record { return ledger.Record{Text: s} }

// tick is that of a clock which is right.
func (f *fleet) tick() uint64 { return uint64(time.Now().UnixMilli()) / fleetTick }

// sees is what a node says of another now.
func (f *fleet) sees(n *node, kind, subject string) []byte {
	return f.states(n, ledger.TypeObserve, f.observation(n, kind, subject))
}

func (f *fleet) observation(n *node, kind, subject string) ledger.Observe {
	tick := f.tick()
	body := ledger.Observe{Kind: kind, Subject: subject, Counter: n.counter(), From: tick, To: tick}
	if kind == ledger.NodeBad {
		body.Cause = ledger.CauseInvalid
	}
	return body
}

// brings is a node's evidence.
func (f *fleet) brings(n *node, kind string, exhibits ...[]byte) []byte {
	return f.states(n, ledger.TypeEvidence, ledger.Evidence{Kind: kind, Exhibits: exhibits})
}

// submitsAt submits statements at one replica, and gives the code of the rule that
// refused it, or "ok", and whether the ledger had it already.
func (f *fleet) submitsAt(ctx context.Context, m *member, envelopes ...[]byte) (code string, again bool) {
	c, err := f.client("", m)
	if err != nil {
		return "error: " + err.Error(), false
	}
	defer c.Close()
	answer, err := c.Submit(ctx, envelopes, client.WaitCommitted)
	if err != nil {
		return codeOf(err), false
	}
	return "ok", answer.Statements[0].Duplicate
}

// demandsCode submits a statement and demands that a rule refuses it.
func (f *fleet) demandsCode(ctx context.Context, what string, envelope []byte, want ...string) {
	got, again := f.submitsAt(ctx, f.members[0], envelope)
	if again {
		got = "duplicate"
	}
	for _, code := range want {
		if got == code {
			f.Counts(code, 1)
			return
		}
	}
	f.Fail("%s: the ledger says %q, want %q", what, got, want)
}
