package gossip

import (
	"maps"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// A Prober is what a node makes of its neighbours' answers: whom to probe in a
// tick, and what to say of whom. Its shell signs and sends what it says, and
// tells it what came of that.
//
// A peer that misses a probe is probed again in the next tick; after two misses
// in a row it is accused, for the ticks from its first miss on. Whoever hears of
// fewer than half of its peers takes it that it is cut off itself, and accuses
// nobody. An accusation is repeated once a window as long as it has not become
// a verdict, and taken back when the peer answers; so is a verdict.
type Prober struct {
	me     string
	vows   *Vows
	now    uint64
	duties Assignment
	peers  map[string]*peer
	clean  map[uint64]map[string]bool // by epoch: subjects, false when one gave cause for complaint
	begun  bool
	unit   uint64 // milliseconds of a tick

	asked     map[string]bool // who may be expected to probe us, in this epoch or the last one
	strangers int             // acks to others in this epoch

	wasCutOff bool // in the last tick
}

type peer struct {
	subject, link *Duty
	asked         map[ledger.Hash]uint64 // challenges without an answer, and their ticks
	probed        uint64                 // the last tick
	misses        int                    // in a row
	missed        uint64                 // the tick of the first of them
	reached       uint64                 // the last tick whose probe it answered; 0: none
	answers       []uint64               // the last ticks whose probes it answered, ascending
	node, wire    said                   // what we said last of the node and of the link
}

// said is our last word of one matter.
type said struct {
	down bool
	tick uint64 // when; 0: nothing
}

// Probe is a probe to sign and send now.
type Probe struct {
	Subject string
	Tick    uint64
	Offset  uint16 // of a tick, in 65,536ths: when in the tick to send it
}

// NewProber returns the prober of node me. A tick before the first one that it
// is told of is not spoken of.
func NewProber(me string, vows *Vows) *Prober {
	return &Prober{me: me, vows: vows, peers: map[string]*peer{}, clean: map[uint64]map[string]bool{}}
}

// Vows gives what has been acknowledged and accused.
func (p *Prober) Vows() *Vows { return p.vows }

// Assign takes the duties of an epoch, or what has become of them. Peers that
// stay keep what is known of them.
func (p *Prober) Assign(a Assignment) {
	if p.duties.Epoch != a.Epoch || p.asked == nil {
		p.asked = map[string]bool{}
		for _, name := range p.duties.Askers {
			p.asked[name] = true
		}
		p.strangers = 0
	}
	for _, name := range a.Askers {
		p.asked[name] = true
	}
	p.duties = a
	for _, peer := range p.peers {
		peer.subject, peer.link = nil, nil
	}
	for i := range a.Subjects {
		p.peer(a.Subjects[i].Name).subject = &a.Subjects[i]
	}
	for i := range a.Links {
		p.peer(a.Links[i].Name).link = &a.Links[i]
	}
	maps.DeleteFunc(p.peers, func(_ string, q *peer) bool { return q.subject == nil && q.link == nil })
	maps.DeleteFunc(p.clean, func(epoch uint64, _ map[string]bool) bool { return epoch+2*ledger.MaxAttestEpochs < a.Epoch })
}

func (p *Prober) peer(name string) *peer {
	q, ok := p.peers[name]
	if !ok {
		q = &peer{asked: map[ledger.Hash]uint64{}}
		p.peers[name] = q
	}
	return q
}

// Tick begins a tick: it gives the probes to send in it, by offset, and what is
// to be said now, by subject. The epoch and the verdicts are the view's. A tick
// that is not after the last one is passed over: a clock that was set back says
// nothing until it has caught up.
func (p *Prober) Tick(view View, tick uint64) ([]Probe, []ledger.Observe) {
	if rules := view.Rules(); rules.TickMillis != p.unit {
		p.renumber(rules.TickMillis)
	}
	if p.begun && tick <= p.now {
		return nil, nil
	}
	if !p.begun {
		// What an earlier life of ours acknowledged in this tick we do not know.
		p.vows.ackedFloor = max(p.vows.ackedFloor, tick+1)
		p.begun = true
	}
	p.now = tick
	for _, q := range p.peers {
		q.expire(tick)
	}
	words := p.words(view)
	var probes []Probe
	for _, name := range slices.Sorted(maps.Keys(p.peers)) {
		if d := p.peers[name].due(tick); d != nil {
			p.peers[name].probed = tick
			probes = append(probes, Probe{Subject: name, Tick: tick, Offset: d.Offset})
		}
	}
	slices.SortStableFunc(probes, func(a, b Probe) int { return int(a.Offset) - int(b.Offset) })
	return probes, words
}

// renumber begins anew in ticks of another length. Their numbers are others, by
// far more than one observation spans, so what was vowed in the old ones cannot
// be contradicted in the new ones.
func (p *Prober) renumber(unit uint64) {
	if p.unit != 0 {
		p.vows, p.begun, p.now = NewVows(0, 0), false, 0
		for _, q := range p.peers {
			*q = peer{subject: q.subject, link: q.link, asked: map[ledger.Hash]uint64{}}
		}
	}
	p.unit = unit
}

// due gives the duty by which a peer is probed in a tick: by its phase, or at
// once after a miss, as long as it is not given up.
func (q *peer) due(tick uint64) *Duty {
	d := q.subject
	if d == nil {
		d = q.link
	}
	if q.probed == tick {
		return nil
	}
	if d.Due(tick) || q.link != nil && q.link.Due(tick) || q.misses == 1 {
		return d
	}
	return nil
}

// expire counts as missed what was not answered by the end of the tick after its
// own.
func (q *peer) expire(now uint64) {
	for challenge, tick := range q.asked {
		if now > tick+1 {
			delete(q.asked, challenge)
			q.miss(tick)
		}
	}
}

func (q *peer) miss(tick uint64) {
	if tick <= q.reached {
		return // a later one was answered
	}
	if q.misses == 0 || tick < q.missed {
		q.missed = tick
	}
	q.misses++
}

// Sent says that a probe went out as this statement.
func (p *Prober) Sent(subject string, tick uint64, challenge ledger.Hash) {
	if q, ok := p.peers[subject]; ok && len(q.asked) < maxAsked {
		q.asked[challenge] = tick
	}
}

// maxAsked is how many probes of one peer wait for their answers.
const maxAsked = 4

// Missed says that there will be no answer to a probe: it could not be sent, or
// its stream failed.
func (p *Prober) Missed(subject string, challenge ledger.Hash) {
	q, ok := p.peers[subject]
	if !ok {
		return
	}
	if tick, asked := q.asked[challenge]; asked {
		delete(q.asked, challenge)
		q.miss(tick)
	}
}

// Answered takes a verified ack of author to us. It reports whether it answers a
// probe of ours that waits.
func (p *Prober) Answered(author string, ack *ledger.Ack) bool {
	q, ok := p.peers[author]
	if !ok || ack.Prober != p.me {
		return false
	}
	tick, asked := q.asked[ack.Challenge]
	if !asked || tick != ack.Tick {
		return false
	}
	delete(q.asked, ack.Challenge)
	p.alive(q, author, tick)
	return true
}

// Acknowledge takes a verified probe to us: whether it is to be acknowledged, by
// our vows and by whether its author has reason to ask. True is a vow.
func (p *Prober) Acknowledge(prober string, tick, now uint64) bool {
	if !p.vows.MayAck(prober, tick, now) {
		return false
	}
	if !p.asked[prober] {
		if p.strangers >= strangerAcks {
			return false
		}
		p.strangers++
	}
	return p.vows.Acknowledge(prober, tick, now)
}

func (p *Prober) alive(q *peer, name string, tick uint64) {
	if tick >= q.reached {
		q.reached, q.misses = tick, 0
	}
	at, _ := slices.BinarySearch(q.answers, tick)
	q.answers = slices.Insert(q.answers, at, tick)
	q.answers = q.answers[max(len(q.answers)-keptAnswers, 0):]
	if q.subject != nil {
		if _, known := p.clean[p.duties.Epoch][name]; !known {
			p.mark(name, true)
		}
	}
}

// keptAnswers is how many ticks in which a peer answered are remembered.
const keptAnswers = 16

func (p *Prober) mark(name string, clean bool) {
	epoch := p.clean[p.duties.Epoch]
	if epoch == nil {
		epoch = map[string]bool{}
		p.clean[p.duties.Epoch] = epoch
	}
	epoch[name] = clean
}

// Complain says that a subject gave cause for complaint in this epoch, beyond not
// answering: it is not attested.
func (p *Prober) Complain(name string) {
	if q, ok := p.peers[name]; ok && q.subject != nil {
		p.mark(name, false)
	}
}

// Watched gives the subjects of an epoch that answered and gave no cause for
// complaint, and those that did, by name: what Attestation asks for.
func (p *Prober) Watched(epoch uint64) (clean, cause []string) {
	for _, name := range slices.Sorted(maps.Keys(p.clean[epoch])) {
		if p.clean[epoch][name] {
			clean = append(clean, name)
		} else {
			cause = append(cause, name)
		}
	}
	return clean, cause
}

// Accused says that somebody else accuses a node of having been down from one
// tick to another, on the ledger or in gossip. Whoever watches it and reached it
// in one of them says so, and nobody else: who saw it down while we did not ask
// is not contradicted.
func (p *Prober) Accused(view View, name string, from, to uint64) (ledger.Observe, bool) {
	q, ok := p.peers[name]
	rules := view.Rules()
	if !ok || q.subject == nil || p.duties.Bootstrap || q.misses > 0 || q.node.down ||
		q.node.tick > 0 && p.now < q.node.tick+rules.Protection.WindowTicks { // said already
		return ledger.Observe{}, false
	}
	within := slices.DeleteFunc(slices.Clone(q.answers), func(t uint64) bool { return t < from || t > to })
	if len(within) == 0 {
		return ledger.Observe{}, false
	}
	q.node = said{tick: p.now}
	last := within[len(within)-1]
	return ledger.Observe{Kind: ledger.NodeUp, Subject: name, From: last, To: last}, true
}

// words gives what is to be said at the beginning of a tick.
func (p *Prober) words(view View) []ledger.Observe {
	if self, ok := view.Node(p.me); !ok || self.Standing != Active {
		return nil // nobody would hear it
	}
	rules := view.Rules()
	window := rules.Protection.WindowTicks
	cutOff := p.cutOff()
	if p.wasCutOff && !cutOff {
		p.forgive()
	}
	p.wasCutOff = cutOff
	var words []ledger.Observe
	for _, name := range slices.Sorted(maps.Keys(p.peers)) {
		q := p.peers[name]
		n, ok := view.Node(name)
		if !ok {
			continue
		}
		if q.link != nil {
			if w, ok := p.word(q, &q.wire, name, [2]string{ledger.LinkDown, ledger.LinkUp}, view.LinkDown(p.me, name), window, false); ok {
				words = append(words, w)
			}
		}
		if q.subject != nil && !p.duties.Bootstrap {
			if w, ok := p.word(q, &q.node, name, [2]string{ledger.NodeDown, ledger.NodeUp}, n.Down, window, cutOff || n.Down); ok {
				words = append(words, w)
			}
		}
	}
	return words
}

// word says that a peer is down, or up again. down is whether that is what holds
// of it so far; hushed: an accusation is not to be made.
func (p *Prober) word(q *peer, last *said, name string, kinds [2]string, down bool, window uint64, hushed bool) (ledger.Observe, bool) {
	due := last.tick == 0 || p.now >= last.tick+window
	switch {
	case q.misses >= missesToAccuse:
		if last.down && !due || hushed {
			return ledger.Observe{}, false
		}
		// The window of the rules is short: what is long past is not repeated.
		from, ok := p.vows.Accuse(name, max(q.missed, p.now-min(p.now, window)), p.now-1)
		if !ok {
			return ledger.Observe{}, false
		}
		*last = said{down: true, tick: p.now}
		if q.subject != nil {
			p.mark(name, false)
		}
		return ledger.Observe{Kind: kinds[0], Subject: name, From: from, To: p.now - 1}, true
	case q.misses == 0 && q.reached > 0 && (last.down || down && due) && q.reached+window > p.now && q.reached+1 >= last.tick:
		*last = said{tick: p.now}
		return ledger.Observe{Kind: kinds[1], Subject: name, From: q.reached, To: q.reached}, true
	}
	return ledger.Observe{}, false
}

// missesToAccuse is how many misses in a row it takes.
const missesToAccuse = 2

// cutOff reports whether so many do not answer that it is rather we who are cut
// off.
func (p *Prober) cutOff() bool {
	silent := 0
	for _, q := range p.peers {
		if q.misses > 0 {
			silent++
		}
	}
	return silent > 1 && silent*2 > len(p.peers)
}

// forgive begins anew with those who did not answer while we were cut off: they
// are to miss two probes of now.
func (p *Prober) forgive() {
	for _, q := range p.peers {
		if q.link == nil {
			q.misses = 0
		}
	}
}
