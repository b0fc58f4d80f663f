package fsm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// A window of attestation is attest_epochs epochs. Who is drawn for it attests
// in the window after it, once; at the end of that it is settled.

// AttestRecord is the record "attest/WINDOW/NAME": what a node attested, until
// its window is settled.
type AttestRecord struct {
	Epochs   []AttestedNodes `json:"epochs"`
	Operator string          `json:"operator"`
	Seq      uint64          `json:"seq"`
}

// AttestedNodes is what was attested of one epoch: of the nodes that the author
// watched, those that gave no cause for complaint, and those that did.
type AttestedNodes struct {
	Cause []byte `json:"cause,omitempty"`
	Clean []byte `json:"clean"` // ordinals, as in the statement
	Epoch uint64 `json:"epoch"`
}

func attestOf(window uint64, name string) string {
	return fmt.Sprintf("%s%012d/%s", tableAttest, window, name)
}

// attest is the statement attest.
func (t *transition) attest(st *ledger.Statement, a author) *problem {
	body, p := nodeStatement[ledger.Attest](t, st, a)
	if p != nil {
		return p
	}
	if err := body.Check(); err != nil {
		return fromStatementError(err)
	}
	policy := t.policy.Protects()
	window := t.meta.Epoch / policy.AttestEpochs
	if window == 0 {
		return refuse(OutOfWindow, "body.epochs", "no window of attestation is over")
	}
	window--
	first := window * policy.AttestEpochs
	for _, e := range body.Epochs {
		if e.Epoch < first || e.Epoch >= first+policy.AttestEpochs {
			return refuse(OutOfWindow, "body.epochs", fmt.Sprintf("the window is epochs %d to %d", first, first+policy.AttestEpochs-1))
		}
	}
	if _, done := lookup[AttestRecord](&t.view, attestOf(window, a.name)); done || window < t.protection().Settled {
		return refuse(AttestedAlready, "", fmt.Sprintf("window %d is attested", window))
	}
	electorate := t.Electorate()
	if !electorate.Bootstrap && !t.eligible(a.node, &policy) {
		return refuse(NotMonitor, "author", fmt.Sprintf("the word of %s does not count yet", a.name))
	}
	seed, ok := t.Seed(first)
	drawn := min(policy.Monitors, uint64(len(electorate.Stables)))
	if !ok || !ledger.Attests(seed, a.name, policy.Attestors, drawn) {
		return refuse(NotMonitor, "author", fmt.Sprintf("%s does not attest window %d", a.name, window))
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	record := &AttestRecord{Operator: a.operator, Seq: seq, Epochs: []AttestedNodes{}}
	for _, e := range body.Epochs {
		record.Epochs = append(record.Epochs, AttestedNodes{
			Cause: t.watched(a, e.Epoch, e.Cause, electorate), Clean: t.watched(a, e.Epoch, e.Clean, electorate), Epoch: e.Epoch,
		})
	}
	t.put(attestOf(window, a.name), record)
	return nil
}

// watched leaves of the nodes of an attested epoch those that its author was
// drawn to watch: who may be drawn has moved a little since, and what an author
// says of nodes that are not its to watch counts for nothing.
func (t *transition) watched(a author, epoch uint64, list []byte, electorate Electorate) []byte {
	ordinals := attestedOrdinals(list)
	kept := make([]uint32, 0, len(ordinals))
	seed, seeded := t.Seed(epoch)
	limit := int(t.policy.Protects().Monitors)
	for _, n := range ordinals {
		named, ok := lookup[OrdinalRecord](&t.view, ordinalOf(uint64(n)))
		if !ok {
			continue
		}
		subject, ok := lookup[NodeRecord](&t.view, tableNode+named.Name)
		if !ok || subject.Operator == a.operator {
			continue
		}
		if electorate.Bootstrap || seeded && ledger.Watches(seed, subject.Name, subject.Operator, ledger.Monitor{Operator: a.operator, Node: a.name}, electorate.Stables, limit) {
			kept = append(kept, n)
		}
	}
	return ledger.EncodeOrdinals(kept)
}

func attestedOrdinals(list []byte) []uint32 {
	ordinals, err := (&ledger.AttestedEpoch{Clean: list}).Ordinals()
	invariant(err == nil, "an attestation was checked")
	return ordinals
}

// settleAttestations, at the beginning of an epoch, credits the windows whose
// time to attest is over: an epoch of a node is clean if three operators call
// it so, or as many as there are others, and they are more than two thirds of
// those that speak of it. Who is silent is not counted: few are drawn to attest,
// and some of them shall not stop anybody's recovery by saying nothing.
func (t *transition) settleAttestations() {
	policy := t.policy.Protects()
	due := t.meta.Epoch / policy.AttestEpochs
	if due == 0 || due-1 <= t.protection().Settled {
		return
	}
	due--
	said := map[nodeEpoch]*attesters{}
	var keys []string
	each(&t.view, tableAttest, func(name string, r *AttestRecord) bool {
		window, _, _ := strings.Cut(name, "/")
		if window >= fmt.Sprintf("%012d", due) {
			return false
		}
		keys = append(keys, name)
		for _, e := range r.Epochs {
			for _, n := range attestedOrdinals(e.Clean) {
				by := saidOf(said, e.Epoch, n)
				by.clean = addOperator(by.clean, r.Operator)
			}
			for _, n := range attestedOrdinals(e.Cause) {
				by := saidOf(said, e.Epoch, n)
				by.cause = addOperator(by.cause, r.Operator)
			}
		}
		return true
	})
	for _, name := range keys {
		t.remove(tableAttest + name)
	}
	t.changeProtection(func(p *ProtectionRecord) { p.Settled = due })

	operators := uint64(len(t.Electorate().Stables))
	want := int(min(ledger.MinAccusers, max(operators, 2)-1))
	clean := map[uint64]uint64{} // epochs by ordinal
	for of, by := range said {
		if len(by.clean) >= want && len(by.clean)*3 > (len(by.clean)+len(by.cause))*2 {
			clean[of.ordinal]++
		}
	}
	t.creditAll(clean, policy)
}

// nodeEpoch is one epoch of a node, attesters the operators who speak of it.
type nodeEpoch struct{ epoch, ordinal uint64 }

type attesters struct{ clean, cause []string }

func saidOf(said map[nodeEpoch]*attesters, epoch uint64, ordinal uint32) *attesters {
	of := nodeEpoch{epoch, uint64(ordinal)}
	by := said[of]
	if by == nil {
		by = &attesters{}
		said[of] = by
	}
	return by
}

func addOperator(operators []string, operator string) []string {
	if slices.Contains(operators, operator) {
		return operators
	}
	return append(operators, operator)
}

// creditAll gives each node its clean epochs.
func (t *transition) creditAll(clean map[uint64]uint64, policy ledger.Protection) {
	for _, ordinal := range slices.Sorted(maps.Keys(clean)) {
		named, ok := lookup[OrdinalRecord](&t.view, ordinalOf(ordinal))
		if !ok {
			continue
		}
		r := t.reputation(named.Name)
		before := *r
		for range clean[ordinal] {
			r.credit(&policy, t.meta.Epoch)
		}
		if r.Reputation != before.Reputation || r.Clean != before.Clean || r.Strikes != before.Strikes {
			t.put(tableReputation+named.Name, r)
		}
	}
}
