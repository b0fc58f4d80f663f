package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// A window of attestation is attest_epochs epochs. Who is drawn for it attests
// in the window after it, once; at the end of that it is settled.

// AttestRecord is the record "attest/FIRST/NAME", FIRST being the window's first epoch: what a node attested, until
// its window is settled.
type AttestRecord struct {
	Epochs   []AttestedNodes `json:"epochs"`
	Operator string          `json:"operator"`
	Seq      uint64          `json:"seq"`
}

// AttestedNodes is what was attested of one epoch: of the nodes that the author
// watched, which gave cause for complaint and which did not.
type AttestedNodes struct {
	Cause []byte `json:"cause,omitempty"`
	Clean []byte `json:"clean"` // ordinals, as in the statement
	Epoch uint64 `json:"epoch"`
}

func attestOf(first uint64, name string) string {
	return fmt.Sprintf("%s%012d/%s", tableAttest, first, name)
}

// AttestWindow returns the first epoch of the window that may be attested now,
// and whether n is drawn to attest it.
func (v *view) AttestWindow(n *NodeRecord) (first uint64, drawn bool) {
	p := v.policy.Protects()
	if v.meta.Epoch < p.AttestEpochs {
		return 0, false
	}
	first = (v.meta.Epoch/p.AttestEpochs - 1) * p.AttestEpochs
	return first, first >= v.protection().Settled && n.Elector && v.attests(n.Name, first, v.electorOperators())
}

// attests draws by the seed of the window's first epoch, or of the first that was
// not passed over.
func (v *view) attests(name string, first uint64, operators []string) bool {
	p := v.policy.Protects()
	for epoch := first; epoch < first+p.AttestEpochs; epoch++ {
		if seed, ok := v.Seed(epoch); ok {
			return ledger.Attests(seed, name, p.Attestors, uint64(min(p.DrawnOf(len(operators)), len(operators))))
		}
	}
	return false
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
	if t.meta.Frozen != "" {
		return refuse(Frozen, "", t.meta.Frozen)
	}
	length := t.policy.Protects().AttestEpochs
	first := t.meta.Epoch / length * length
	if first < t.protection().Settled+length {
		return refuse(OutOfWindow, "body.epochs", "no window of attestation is over")
	}
	first -= length
	for _, e := range body.Epochs {
		if e.Epoch < first || e.Epoch >= first+length {
			return refuse(OutOfWindow, "body.epochs", fmt.Sprintf("the window is epochs %d to %d", first, first+length-1))
		}
	}
	if _, done := lookup[AttestRecord](&t.view, attestOf(first, a.name)); done {
		return refuse(AttestedAlready, "", fmt.Sprintf("the window from epoch %d is attested", first))
	}
	operators := t.electorOperators()
	if !a.node.Elector {
		return refuse(NotMonitor, "author", fmt.Sprintf("the word of %s does not count in this epoch", a.name))
	}
	if !t.attests(a.name, first, operators) {
		return refuse(NotMonitor, "author", fmt.Sprintf("%s does not attest the window from epoch %d", a.name, first))
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	record := &AttestRecord{Operator: a.operator, Seq: seq, Epochs: []AttestedNodes{}}
	stables := t.stablesFor(a.operator, operators)
	for _, e := range body.Epochs {
		record.Epochs = append(record.Epochs, AttestedNodes{
			Cause: t.watched(a, e.Epoch, e.Cause, stables), Clean: t.watched(a, e.Epoch, e.Clean, stables), Epoch: e.Epoch,
		})
	}
	t.put(attestOf(first, a.name), record)
	return nil
}

// watched leaves in what was attested of an epoch those nodes that the author was
// drawn to watch: who may be drawn has moved a little since, and what an author
// says of nodes that are not its to watch counts for nothing.
func (t *transition) watched(a author, epoch uint64, attested []byte, stables []ledger.Stable) []byte {
	seed, ok := t.Seed(epoch)
	if !ok {
		return nil // the epoch was passed over
	}
	ordinals, err := ledger.DecodeOrdinals("", attested)
	invariant(err == nil, "an attestation was checked")
	policy := t.policy.Protects()
	kept, limit, all := make([]uint32, 0, len(ordinals)), policy.DrawnOf(len(stables)), t.bootstrap(len(stables))
	for _, n := range ordinals {
		named, ok := lookup[OrdinalRecord](&t.view, ordinalOf(uint64(n)))
		if !ok {
			continue
		}
		subject, ok := lookup[NodeRecord](&t.view, tableNode+named.Name)
		invariant(ok, "an ordinal is a node's")
		if subject.Operator == a.operator {
			continue
		}
		if all || ledger.Watches(seed, subject.Name, subject.Operator, ledger.Monitor{Operator: a.operator, Node: a.name}, stables, limit) {
			kept = append(kept, n)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return ledger.EncodeOrdinals(kept)
}

// voidAttestations drops what was attested and not settled: the windows are
// others from now on.
func (t *transition) voidAttestations() {
	length := t.policy.Protects().AttestEpochs
	var keys []string
	each(&t.view, tableAttest, func(name string, _ *AttestRecord) bool {
		keys = append(keys, name)
		return true
	})
	for _, name := range keys {
		t.remove(tableAttest + name)
	}
	t.changeProtection(func(p *ProtectionRecord) { p.Settled = (t.meta.Epoch + length - 1) / length * length })
}

// settleAttestations, at the beginning of an epoch, credits the windows whose
// time to attest is over: an epoch of a node is clean if three operators, or as
// two thirds of the others where they are fewer than four, call it so, and they are more than two thirds of those
// who speak of it. Who is silent is not counted: few are drawn to attest, and some
// of them shall not stop anybody's recovery by saying nothing.
func (t *transition) settleAttestations() {
	length := t.policy.Protects().AttestEpochs
	now := t.meta.Epoch / length * length
	if now < t.protection().Settled+2*length {
		return
	}
	settled := now - length
	votes := t.takeAttestations(settled)
	t.changeProtection(func(p *ProtectionRecord) { p.Settled = settled })

	others := max(len(t.electorOperators()), 2) - 1
	want := min(ledger.MinAccusers, others-others/3) // of four operators one may be silent
	for len(votes) > 0 {
		ordinal, epochs := votes[0].ordinal(), []uint64{}
		for len(votes) > 0 && votes[0].ordinal() == ordinal {
			epoch := votes[0].epoch(t.meta.Epoch)
			clean, complaints, rest := countEpoch(votes)
			if votes = rest; clean >= want && clean*3 > (clean+complaints)*2 {
				epochs = append(epochs, epoch)
			}
		}
		t.credit(ordinal, epochs)
	}
}

// attestedWord is one operator's word on one node in one epoch, packed so that
// those of a large fleet are sorted quickly: 24 bits of ordinal, the last 16 of the
// epoch, which tell those of two windows apart, 16 of operator, 1 of complaint.
type attestedWord uint64

func (a attestedWord) ordinal() uint64 { return uint64(a) >> 33 }
func (a attestedWord) matter() uint64  { return uint64(a) >> 17 } // ordinal and epoch
func (a attestedWord) speaker() uint64 { return uint64(a) >> 1 }  // and operator

// epoch is the one that ended last before now and has those bits.
func (a attestedWord) epoch(now uint64) uint64 { return now - (now-a.matter())&0xffff }

func (a attestedWord) complains() bool { return a&1 == 1 }

// countEpoch counts the operators that speak of the first node and epoch of
// sorted attestations. Of an operator that says both, the complaint counts.
func countEpoch(votes []attestedWord) (clean, complaints int, rest []attestedWord) {
	matter, i := votes[0].matter(), 0
	for i < len(votes) && votes[i].matter() == matter {
		speaker, complains := votes[i].speaker(), false
		for ; i < len(votes) && votes[i].speaker() == speaker; i++ {
			complains = complains || votes[i].complains()
		}
		if complains {
			complaints++
		} else {
			clean++
		}
	}
	return clean, complaints, votes[i:]
}

// takeAttestations removes the attestations of windows that begin before an
// epoch and returns them sorted.
func (t *transition) takeAttestations(before uint64) []attestedWord {
	var keys []string
	var votes []attestedWord
	operators := map[string]uint64{}
	end := fmt.Sprintf("%012d", before)
	each(&t.view, tableAttest, func(name string, r *AttestRecord) bool {
		first, _, _ := strings.Cut(name, "/")
		if first >= end {
			return false
		}
		keys = append(keys, name)
		if _, ok := operators[r.Operator]; !ok {
			operators[r.Operator] = uint64(len(operators))
		}
		for _, e := range r.Epochs {
			for complaint, list := range [][]byte{e.Clean, e.Cause} {
				ordinals, err := ledger.DecodeOrdinals("", list)
				invariant(err == nil, "an attestation was checked")
				for _, n := range ordinals {
					votes = append(votes, attestedWord(uint64(n)<<33|(e.Epoch&0xffff)<<17|operators[r.Operator]<<1|uint64(complaint)))
				}
			}
		}
		return true
	})
	for _, name := range keys {
		t.remove(tableAttest + name)
	}
	slices.Sort(votes)
	return votes
}

// credit gives a node its clean epochs, each at the heat of that epoch.
func (t *transition) credit(ordinal uint64, epochs []uint64) {
	named, ok := lookup[OrdinalRecord](&t.view, ordinalOf(ordinal))
	if !ok || len(epochs) == 0 {
		return
	}
	n, ok := lookup[NodeRecord](&t.view, tableNode+named.Name)
	invariant(ok, "an ordinal is a node's")
	if n.Standing == NodeExcluded {
		return
	}
	policy, r := t.policy.Protects(), t.reputation(named.Name)
	before := *r
	for _, epoch := range epochs {
		r.credit(&policy, epoch)
	}
	if r.Reputation != before.Reputation || r.Clean != before.Clean || r.Strikes != before.Strikes {
		t.put(tableReputation+named.Name, r)
	}
}
