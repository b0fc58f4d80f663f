package gossip

// Vows are what a node has acknowledged and whom it has accused, in ticks. By
// them it never signs an accusation and an ack that contradict each other
// (ledger.EvidenceContradiction):
//
//   - it acknowledges no probe of a tick at or before the last one for which it
//     has accused the prober;
//   - it accuses nobody for a tick at or before the last one that it has
//     acknowledged to it.
//
// Both hold across restarts by two numbers that a shell keeps on disk: a tick
// that no ack was after, and the last tick that an accusation was about.
type Vows struct {
	acked, accused           map[string]uint64 // by peer
	ackedFloor, accusedFloor uint64            // of every peer
}

// NewVows begins where an earlier life of the node ended: none of its acks was of
// a tick after acked, none of its accusations of one after accused.
func NewVows(acked, accused uint64) *Vows {
	return &Vows{acked: map[string]uint64{}, accused: map[string]uint64{}, ackedFloor: acked, accusedFloor: accused}
}

// MayAck reports whether a probe of a tick may be acknowledged to its author: the
// tick is at most one off our own clock's, nothing that was said of the prober is
// contradicted, and the prober had no ack for this tick or a later one. Each
// probe of an honest node passes, but for one after an accusation.
func (v *Vows) MayAck(prober string, tick, now uint64) bool {
	if tick > now+1 || now > tick+1 || tick <= v.accusedFloor || tick <= v.accused[prober] {
		return false
	}
	last, ever := v.acked[prober]
	return !ever || tick > last
}

// Acknowledge is MayAck, and takes the vow: the ack may be signed.
func (v *Vows) Acknowledge(prober string, tick, now uint64) bool {
	if !v.MayAck(prober, tick, now) {
		return false
	}
	put(v.acked, prober, tick, &v.ackedFloor)
	return true
}

// Accuse takes the vow that subject did not answer from tick from on, or from the
// first tick after the last one acknowledged to it, to tick to. It gives the
// first tick that may be spoken of; false: none is left.
func (v *Vows) Accuse(subject string, from, to uint64) (uint64, bool) {
	from = max(from, v.ackedFloor+1, v.acked[subject]+1)
	if from > to {
		return 0, false
	}
	if to > v.accused[subject] {
		put(v.accused, subject, to, &v.accusedFloor)
	}
	return from, true
}

// put keeps a table below MaxVows: what is oldest becomes a floor for all, which
// says no more than was vowed for one.
func put(table map[string]uint64, name string, tick uint64, floor *uint64) {
	table[name] = tick
	if len(table) <= MaxVows {
		return
	}
	oldest := tick
	for _, t := range table {
		oldest = min(oldest, t)
	}
	*floor = max(*floor, oldest)
	for n, t := range table {
		if t <= oldest {
			delete(table, n)
		}
	}
}
