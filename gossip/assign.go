package gossip

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// Assignment is whom a node probes in an epoch, and when.
type Assignment struct {
	Epoch uint64
	// Subjects are the nodes that it was drawn to watch, and whose standing it
	// attests, by name; at most MaxSubjects and what the probe quota allows.
	Subjects []Duty
	// Links are its own links' far ends, by name.
	Links []Duty
	// Askers are those who may be expected to probe it: the monitors that were
	// drawn for it, and its links' far ends, by name. Acks for them are not to be
	// used up by others.
	Askers []string
	// Left is how many subjects it was drawn for and leaves to the others.
	Left int
	// Bootstrap: too few are eligible, so nobody's word of a node counts and none
	// is said. Links are spoken of all the same.
	Bootstrap bool
}

// Duty is one peer to probe: in each tick whose number is Phase modulo Every,
// Offset/65536 of a tick after its beginning.
type Duty struct {
	Name   string
	Phase  uint64
	Every  uint64
	Offset uint16
}

// Due reports whether the peer is probed in a tick.
func (d *Duty) Due(tick uint64) bool { return tick%d.Every == d.Phase }

// Assign draws what node me watches in an epoch: everybody whose monitor it is
// (ledger.Draw), and its declared links. It costs some SHA-256 for each
// node and operator of the ledger; do it when the epoch or the electorate
// changes. Without a seed for the epoch there are links alone.
func Assign(view View, me string, epoch uint64, links []string) Assignment {
	rules := view.Rules()
	p := &rules.Protection
	a := Assignment{Epoch: epoch}
	self, ok := view.Node(me)
	if !ok || self.Standing == Excluded {
		return a
	}
	seed, seeded := view.Seed(epoch)
	for _, name := range links {
		if n, ok := view.Node(name); ok && name != me && n.Standing != Excluded && len(a.Links) < MaxLinks {
			a.Links = append(a.Links, duty(seed, me, name, p.ProbeTicks))
		}
	}
	byName := func(x, y Duty) int { return cmp.Compare(x.Name, y.Name) }
	slices.SortFunc(a.Links, byName)
	a.Links = slices.CompactFunc(a.Links, func(x, y Duty) bool { return x.Name == y.Name })
	if !seeded || rules.Format < 2 {
		return a
	}
	stables, bootstrap := view.Electorate()
	a.Bootstrap = bootstrap
	limit := p.DrawnOf(len(stables))
	for _, m := range ledger.Draw(seed, me, self.Operator, stables, limit) {
		a.Askers = append(a.Askers, m.Node)
	}
	for _, l := range a.Links {
		a.Askers = append(a.Askers, l.Name)
	}
	slices.Sort(a.Askers)
	if !drawable(stables, self.Operator, me) {
		return a
	}
	for n := range view.Nodes() {
		if n.Name == me || n.Operator == self.Operator || n.Standing == Excluded {
			continue
		}
		if ledger.Watches(seed, n.Name, n.Operator, ledger.Monitor{Operator: self.Operator, Node: me}, stables, limit) {
			a.Subjects = append(a.Subjects, duty(seed, me, n.Name, p.ProbeTicks))
		}
	}
	if most := subjectLimit(&rules, len(a.Links)); len(a.Subjects) > most {
		// Which ones are left out nobody chooses.
		slices.SortFunc(a.Subjects, func(x, y Duty) int {
			hx, hy := dutyHash(seed, me, x.Name), dutyHash(seed, me, y.Name)
			return bytes.Compare(hx[:], hy[:])
		})
		a.Left = len(a.Subjects) - most
		a.Subjects = a.Subjects[:most]
	}
	slices.SortFunc(a.Subjects, byName)
	return a
}

func drawable(stables []ledger.Stable, operator, node string) bool {
	at := slices.IndexFunc(stables, func(s ledger.Stable) bool { return s.Operator == operator })
	return at >= 0 && slices.Contains(stables[at].Nodes, node)
}

// subjectLimit is how many subjects our share of the probe quota pays for in an
// epoch, each probed once in ProbeTicks and, one in eight, twice as often
// because it does not answer.
func subjectLimit(rules *Rules, links int) int {
	probes := rules.Protection.ProbeQuota * probesShare / 8
	each := max((rules.EpochTicks()/max(rules.Protection.ProbeTicks, 1)+1)*9/8, 1)
	limit := int(min(probes/each, MaxSubjects+MaxLinks)) - links
	return max(min(limit, MaxSubjects), 0)
}

func dutyHash(seed ledger.Hash, me, subject string) ledger.Hash {
	b := append([]byte("quorate/duty/v1\n"), seed[:]...)
	b = append(append(b, me...), 0)
	return sha256.Sum256(append(b, subject...))
}

// duty spreads probes by hash, so that no tick and no instant in it is crowded
// for the one who probes or the one who is probed.
func duty(seed ledger.Hash, me, subject string, every uint64) Duty {
	h := dutyHash(seed, me, subject)
	return Duty{
		Name: subject, Every: max(every, 1), Phase: binary.BigEndian.Uint64(h[:8]) % max(every, 1),
		Offset: binary.BigEndian.Uint16(h[8:10]),
	}
}

// Attestation says whether node me is to attest in the epoch that the view is
// at, and what: clean gives, for each epoch of the window that is over, the
// nodes that it watched in that epoch and that gave no cause for complaint, and
// those that did (Prober.Watched). The rules take one attestation of a node in a
// window.
func Attestation(view View, me string, watched func(epoch uint64) (clean, cause []string)) (*ledger.Attest, bool) {
	rules := view.Rules()
	p := &rules.Protection
	self, ok := view.Node(me)
	if !ok || self.Standing != Active || rules.Format < 2 {
		return nil, false
	}
	first, drawn := view.AttestWindow(me)
	if !drawn {
		return nil, false
	}
	a := &ledger.Attest{}
	room := ledger.MaxAttested
	for epoch := first; epoch < first+p.AttestEpochs && len(a.Epochs) < ledger.MaxAttestEpochs; epoch++ {
		clean, cause := watched(epoch)
		e := ledger.AttestedEpoch{Epoch: epoch}
		e.Cause = ordinals(view, self.Operator, cause, &room)
		e.Clean = ordinals(view, self.Operator, clean, &room)
		if len(e.Clean)+len(e.Cause) > 0 {
			a.Epochs = append(a.Epochs, e)
		}
	}
	return a, len(a.Epochs) > 0
}

// ordinals encodes nodes of other operators, as many as there is room for.
func ordinals(view View, own string, names []string, room *int) []byte {
	list := make([]uint32, 0, len(names))
	for _, name := range names {
		if n, ok := view.Node(name); ok && n.Ordinal > 0 && n.Ordinal < 1<<24 && n.Operator != own {
			list = append(list, uint32(n.Ordinal))
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	list = list[:min(len(list), *room)]
	*room -= len(list)
	return ledger.EncodeOrdinals(list)
}
