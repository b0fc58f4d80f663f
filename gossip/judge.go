package gossip

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// A Judge says of each statement that comes in whether to use and relay it, and
// finds what proves an offence. It is not safe for concurrent use: a shell
// guards it with a lock, and calls Screen and Case.Verify, which cost more,
// outside of it:
//
//	c, reason := gossip.Screen(view, channel, envelope)
//	if reason == Good { reason = judge.Known(c) }       // with the lock
//	if reason == Good { reason = c.Verify(verifier) }   // without
//	if reason == Good { ruling = judge.Admit(c) }       // with the lock
type Judge struct {
	me       string
	window   *Window
	offences *Offences
	words    map[string]ledger.Hash // author's key, epoch, matter, subject and counter: the first statement's id
	epochs   []wordsOfEpoch
	banned   map[ledger.Hash]ban
	met      map[string][]met // by peer: its newest acks to us, and its accusations of us
}

type wordsOfEpoch struct {
	epoch uint64
	keys  []string
}

type ban struct {
	until   uint64 // epoch
	flooded bool   // only of that epoch's statements
}

// met is an ack that a peer gave us or an accusation that it made of us.
type met struct {
	statement *ledger.Statement
	from, to  uint64 // ticks
	accuses   bool
}

// Ruling is what a Judge makes of a case.
type Ruling struct {
	Reason Reason
	// Proof is evidence that the case made, or that it brings: the author is to
	// be dropped at once, and, unless the case is that evidence, it is to be
	// brought to the ledger.
	Proof *Proof
	// Brought says that the case itself is evidence on its way to the ledger.
	Brought bool
}

// Verdict is what the ruling means for the frame.
func (r Ruling) Verdict() Verdict { return r.Reason.Verdict() }

// NewJudge returns the judge of node me at an epoch.
func NewJudge(me string, epoch uint64) *Judge {
	return &Judge{
		me: me, window: NewWindow(epoch), offences: NewOffences(),
		words: map[string]ledger.Hash{}, banned: map[ledger.Hash]ban{}, met: map[string][]met{},
	}
}

// Window gives what was seen.
func (j *Judge) Window() *Window { return j.window }

// Advance drops what belongs to epochs that have passed.
func (j *Judge) Advance(epoch uint64) {
	j.window.Advance(epoch)
	j.epochs = slices.DeleteFunc(j.epochs, func(w wordsOfEpoch) bool {
		if w.epoch+1 >= epoch {
			return false
		}
		for _, k := range w.keys {
			delete(j.words, k)
		}
		return true
	})
	for key, b := range j.banned {
		if b.until < epoch {
			delete(j.banned, key)
		}
	}
}

// Banned reports whether an author was proven an offender here, so that it is
// dropped although the ledger has not decided yet.
func (j *Judge) Banned(key ledger.Hash) bool {
	b, ok := j.banned[key]
	return ok && !b.flooded
}

// Settle takes note that the ledger decided on an offence: its own view of the
// offender holds from now on.
func (j *Judge) Settle(offence *ledger.Offence) {
	j.offences.Bring(offence)
	delete(j.banned, offence.KeyID)
}

// Brought reports whether evidence of an offence is on its way, or the ledger has
// decided on it.
func (j *Judge) Brought(offence *ledger.Offence) bool { return j.offences.Brought(offence) }

// Bring takes note that evidence of an offence is on its way, or that we say it:
// no more of it is wanted.
func (j *Judge) Bring(offence *ledger.Offence) { j.offences.Bring(offence) }

// Known looks, before a case's signatures are verified, whether there is any
// need to: Good means that there is.
func (j *Judge) Known(c *Case) Reason {
	st := c.Statement
	if b, ok := j.banned[st.KeyID]; ok && (!b.flooded || *st.Payload.Seq >= c.quota) {
		if b.flooded {
			return Flooded
		}
		return AuthorBanned
	}
	switch sighting, _ := j.window.Look(st, c.quota); sighting {
	case Replay:
		return Replayed
	case TooOld:
		return Stale
	case Crowded:
		return NoRoom
	case WrongEpoch:
		return j.wrongEpoch(st)
	}
	if c.Proof != nil && j.offences.Brought(&c.Proof.Offence) {
		return KnownProof
	}
	return Good
}

func (j *Judge) wrongEpoch(st *ledger.Statement) Reason {
	if *st.Payload.Epoch > j.window.epoch {
		return EarlyEpoch
	}
	return LateEpoch
}

// Admit rules on a case whose signatures were verified.
func (j *Judge) Admit(c *Case) Ruling {
	invariant(c.verified, "a case is verified before it is ruled on")
	if reason := j.Known(c); reason != Good {
		return Ruling{Reason: reason} // another copy came first, or the epoch changed
	}
	st := c.Statement
	switch sighting, first := j.window.Take(st, c.quota); sighting {
	case OverQuota:
		return Ruling{Reason: Flooded, Proof: j.convict(ProveFlood(&c.rules, st))}
	case Equivocation:
		return Ruling{Reason: Equivocated, Proof: j.convict(j.against(&c.rules, st, first))}
	default:
		invariant(sighting == Fresh, "a known statement is not admitted")
	}
	switch {
	case c.Observe != nil:
		return Ruling{Reason: Good, Proof: j.convict(j.observed(c))}
	case c.Ack != nil:
		return j.acked(c)
	case c.Probe != nil && !c.Probe.Asks(j.me):
		return Ruling{Reason: NotForUs}
	case c.Proof != nil:
		j.ban(&c.Proof.Offence)
		j.offences.Bring(&c.Proof.Offence)
		return Ruling{Reason: Good, Proof: c.Proof, Brought: true}
	}
	return Ruling{Reason: Good}
}

// Statement does all of it at once, for who needs no parallel verification.
func (j *Judge) Statement(view View, verifier Verifier, channel Channel, envelope []byte) (*Case, Ruling) {
	c, reason := Screen(view, channel, envelope)
	if reason != Good {
		return nil, Ruling{Reason: reason}
	}
	if reason = j.Known(c); reason != Good {
		return c, Ruling{Reason: reason}
	}
	if reason = c.Verify(verifier); reason != Good {
		return c, Ruling{Reason: reason}
	}
	return c, j.Admit(c)
}

// Note takes a statement that stands on the ledger, so that what contradicts it
// is found. Its signature was verified by the rules.
func (j *Judge) Note(rules *Rules, st *ledger.Statement) *Proof {
	if st.Payload.Epoch == nil || st.Payload.Seq == nil {
		return nil
	}
	sighting, first := j.window.Take(st, rules.QuotaOf(ledger.SeqSpaceOf(st.Payload.Type)))
	switch sighting {
	case Equivocation:
		return j.convict(j.against(rules, st, first))
	case Fresh:
		if st.Payload.Type == ledger.TypeObserve {
			if body, err := bodyOf[ledger.Observe](st); err == nil {
				return j.convict(j.observed(&Case{Statement: st, Observe: body, rules: *rules}))
			}
		}
	}
	return nil
}

// against makes what two statements prove, if the first one is still kept.
func (j *Judge) against(rules *Rules, st *ledger.Statement, first ledger.Hash) *Proof {
	envelope, ok := j.window.Envelope(first)
	if !ok {
		return nil
	}
	other, err := ledger.ParseStatement(envelope)
	invariant(err == nil, "what the window keeps was parsed before")
	return ProveAny(rules, other, st)
}

// observed compares an observation with those under the same counter, and with
// the acks that its author gave us.
func (j *Judge) observed(c *Case) *Proof {
	st, o := c.Statement, c.Observe
	key := fmt.Sprintf("%x/%d/%s/%s/%d", st.KeyID[:], *st.Payload.Epoch, o.Matter(), o.Subject, o.Counter)
	if first, there := j.words[key]; there {
		return j.against(&c.rules, st, first)
	}
	if len(j.words) < MaxNotedWords {
		j.words[key] = st.ID
		j.noteWord(*st.Payload.Epoch, key)
	}
	if o.Subject != j.me || (o.Kind != ledger.LinkDown && o.Kind != ledger.NodeDown) {
		return nil
	}
	return j.meet(c, met{statement: st, from: o.From, to: o.To, accuses: true})
}

func (j *Judge) noteWord(epoch uint64, key string) {
	at := slices.IndexFunc(j.epochs, func(w wordsOfEpoch) bool { return w.epoch == epoch })
	if at < 0 {
		j.epochs = append(j.epochs, wordsOfEpoch{epoch: epoch})
		at = len(j.epochs) - 1
	}
	j.epochs[at].keys = append(j.epochs[at].keys, key)
}

// acked takes a peer's ack to us. Whether it answers a probe of ours the Prober
// knows.
func (j *Judge) acked(c *Case) Ruling {
	if c.Ack.Prober != j.me {
		return Ruling{Reason: NotForUs}
	}
	return Ruling{Reason: Good, Proof: j.convict(j.meet(c, met{statement: c.Statement, from: c.Ack.Tick, to: c.Ack.Tick}))}
}

// meet compares a peer's ack to us with its accusations of us, and keeps it.
func (j *Judge) meet(c *Case, m met) *Proof {
	name := c.Statement.Payload.Author
	for _, other := range j.met[name] {
		if other.accuses != m.accuses && other.from <= m.to && m.from <= other.to {
			if p := ProveAny(&c.rules, other.statement, m.statement); p != nil {
				return p
			}
		}
	}
	if _, there := j.met[name]; !there && len(j.met) >= MaxMet {
		return nil
	}
	kept := append(j.met[name], m)
	if of := func(x met) bool { return x.accuses == m.accuses }; count(kept, of) > newestAcks {
		at := slices.IndexFunc(kept, of)
		kept = slices.Delete(kept, at, at+1)
	}
	j.met[name] = kept
	return nil
}

func count[T any](list []T, of func(T) bool) int {
	n := 0
	for _, x := range list {
		if of(x) {
			n++
		}
	}
	return n
}

// convict remembers what was proven, drops the offender, and gives the proof if
// it is news.
func (j *Judge) convict(p *Proof) *Proof {
	if p == nil || !j.offences.Add(&p.Offence) {
		return nil
	}
	j.ban(&p.Offence)
	return p
}

// ban drops who is to be excluded; of who floods, what floods.
func (j *Judge) ban(o *ledger.Offence) {
	switch {
	case Excludes(o.Kind):
		j.banned[o.KeyID] = ban{until: j.window.epoch + BanEpochs}
	case o.Kind == ledger.EvidenceFlood && !j.Banned(o.KeyID):
		j.banned[o.KeyID] = ban{until: o.Epoch, flooded: true}
	}
}
