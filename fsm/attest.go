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
// watched, those that gave no cause for complaint.
type AttestedNodes struct {
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
		record.Epochs = append(record.Epochs, AttestedNodes{Clean: t.watched(a, &e, electorate), Epoch: e.Epoch})
	}
	t.put(attestOf(window, a.name), record)
	return nil
}

// watched leaves in an attested epoch those nodes that its author was drawn to
// watch: who may be drawn has moved a little since, and what an author says of
// nodes that are not its to watch counts for nothing.
func (t *transition) watched(a author, e *ledger.AttestedEpoch, electorate Electorate) []byte {
	ordinals, err := e.Ordinals()
	invariant(err == nil, "an attestation was checked")
	kept := make([]uint32, 0, len(ordinals))
	for _, n := range ordinals {
		named, ok := lookup[OrdinalRecord](&t.view, ordinalOf(uint64(n)))
		if !ok {
			continue
		}
		subject, ok := lookup[NodeRecord](&t.view, tableNode+named.Name)
		if !ok || subject.Operator == a.operator {
			continue
		}
		if electorate.Bootstrap || slices.Contains(t.Monitors(subject, e.Epoch, electorate), ledger.Monitor{Operator: a.operator, Node: a.name}) {
			kept = append(kept, n)
		}
	}
	return ledger.EncodeOrdinals(kept)
}

// settleAttestations, at the beginning of an epoch, credits the windows whose
// time to attest is over: an epoch of a node is clean if three operators
// attest it, or as many as there are others.
func (t *transition) settleAttestations() {
	policy := t.policy.Protects()
	due := t.meta.Epoch / policy.AttestEpochs
	if due == 0 || due-1 <= t.protection().Settled {
		return
	}
	due--
	type one struct{ epoch, ordinal uint64 }
	attested := map[one][]string{} // operators
	var keys []string
	each(&t.view, tableAttest, func(name string, r *AttestRecord) bool {
		window, _, _ := strings.Cut(name, "/")
		if window >= fmt.Sprintf("%012d", due) {
			return false
		}
		keys = append(keys, name)
		for _, e := range r.Epochs {
			ordinals, err := (&ledger.AttestedEpoch{Clean: e.Clean}).Ordinals()
			invariant(err == nil, "an attestation was checked")
			for _, n := range ordinals {
				k := one{e.Epoch, uint64(n)}
				if !slices.Contains(attested[k], r.Operator) {
					attested[k] = append(attested[k], r.Operator)
				}
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
	for k, by := range attested {
		if len(by) >= want {
			clean[k.ordinal]++
		}
	}
	t.creditAll(clean, policy)
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
