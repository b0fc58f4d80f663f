package agent

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// A statement is taken in its epoch and the next. One whose author's certified view
// lagged by more than that comes too late, everywhere and for ever. If what it says is
// as true as it was, it is signed anew, for the epoch of now and under another seq, once
// it is certain that the ledger has not the one before and takes it no more: both from
// certified entries, never from a replica's word. So nothing is said twice, and nothing
// is lost but what is no longer worth saying.

// newOutgoing is a statement of ours on its way.
func newOutgoing(st *ledger.Statement) *outgoing {
	o := &outgoing{statement: st, own: true, due: time.Now(), pause: retryFirst}
	if st.Payload.Type == ledger.TypeObserve {
		if body, err := ledger.DecodeBody[ledger.Observe](st); err == nil {
			o.word = &body
		}
	}
	return o
}

// fate is what a certified state says of a statement with a seq.
type fate uint8

const (
	fateOpen   fate = iota // the ledger has it not, and may take it still
	fateLanded             // the ledger has it
	fateOver               // the ledger takes it no more; whether it has it the state does not say
)

func fateOf(s *fsm.State, st *ledger.Statement) fate {
	p := &st.Payload
	if p.Epoch == nil || p.Seq == nil || p.Generation != s.Meta().Generation || *p.Epoch+1 < s.Epoch() {
		return fateOver
	}
	raw, ok := s.Record("window/" + p.Author)
	if !ok {
		return fateOpen
	}
	var w *fsm.WindowRecord
	if err := canon.Unmarshal(raw, &w); err != nil {
		return fateOpen
	}
	for ; w != nil; w = w.Previous {
		if w.Epoch != *p.Epoch || w.Count == 0 || *p.Seq > w.Top {
			continue
		}
		back := w.Top - *p.Seq
		switch {
		case back >= ledger.SeqWindow:
			return fateOver
		case w.Bits[back/8]&(1<<(back%8)) != 0:
			return fateLanded
		}
	}
	return fateOpen
}

// tooLate reports whether a code may be that of an epoch which is over: its key may have
// been rotated out since.
func tooLate(code string) bool {
	switch code {
	case fsm.WrongEpoch.String(), fsm.SeqTooOld.String(), fsm.KeyExpired.String(), fsm.RevokedKey.String():
		return true
	}
	return false
}

// came implements waiter.
func (s *sender) came(seq uint64, envelope []byte) {
	if !bytes.Contains(envelope, s.mark) {
		return // nearly all are others'
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.queue {
		if o.own && o.statement.ID == st.ID {
			o.entry = seq
		}
	}
}

// certified implements waiter.
func (s *sender) certified(size uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.queue {
		if o.entry != 0 && o.entry < size {
			o.landed = true
		}
	}
}

// forgotten implements waiter.
func (s *sender) forgotten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.queue {
		o.entry = 0
	}
}

// jumped implements waiter: what a state of then can't say any more, nobody will.
func (s *sender) jumped(state *fsm.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.queue {
		if !o.own || o.landed {
			continue
		}
		switch fateOf(state, o.statement) {
		case fateLanded:
			o.landed = true
		case fateOver:
			o.doubt = true
		}
	}
}

// queued reports whether a statement of ours is on its way.
func (s *sender) queued(id ledger.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.queue, func(o *outgoing) bool { return o.own && o.statement.ID == id })
}

// Why a statement of ours was given up: a closed list, of the metrics.
const (
	givenFull       = "full"       // too many wait
	givenGeneration = "generation" // the ledger went on from an earlier head
	givenDoubt      = "doubt"      // the ledger may have it: this node did not see all entries
	givenKind       = "kind"       // it is of its epoch, or whoever said it says it anew if need be
	givenUntrue     = "untrue"     // it is no longer worth saying
	givenOften      = "often"      // it was signed anew too often
)

// giveUp counts a statement of ours that nobody will bring any more.
func (s *sender) giveUp(o *outgoing, why string) {
	s.given.Add(1)
	typ := o.statement.Payload.Type
	s.agent.metrics.givenUp.WithLabelValues(typ, why).Inc()
	s.agent.logger.Info("a statement was given up: its epoch is over", "type", typ, "why", why)
}

// settle reports whether a statement needs no more bringing, and finds what is to be
// signed anew. s.mu is held.
func (s *sender) settle(state *fsm.State, o *outgoing, now time.Time) bool {
	switch {
	case o.landed:
		return true
	case state == nil:
		return false
	case o.offence != nil && decided(state, o.offence):
		return true
	}
	switch fateOf(state, o.statement) {
	case fateOpen:
		return false
	case fateLanded:
		return true
	}
	if !o.own {
		return true
	}
	if o.over {
		return false
	}
	why := ""
	switch {
	case o.statement.Payload.Generation != state.Meta().Generation:
		why = givenGeneration
	case o.doubt:
		why = givenDoubt
	case o.word == nil && o.statement.Payload.Type != ledger.TypeEvidence:
		// Attestations are of their epoch. The rotator says anew what it has to say of keys.
		why = givenKind
	case o.anew >= renewMost:
		why = givenOften
	}
	if why != "" {
		s.giveUp(o, why)
		return true
	}
	o.over, o.due, o.pause = true, now, retryFirst
	return false
}

// renew signs a statement anew whose epoch is over, and brings that in its place.
func (s *sender) renew(o *outgoing) {
	a := s.agent
	view := a.view.Load().certified
	if a.stale(time.Now()) || a.lag.lags() {
		s.postpone(o, false) // another would be as late
		return
	}
	body := s.again(view, o)
	if body == nil {
		s.giveUp(o, givenUntrue)
		s.remove(o)
		return
	}
	old := o.statement
	st, err := s.sign(old.Payload.Type, body)
	if err == nil {
		// Crash before it is durable: nobody heard it, and its seq is skipped. Crash after
		// it: the new one is brought, and the old one is gone.
		if err = s.kept.Renew(old.ID, st, o.urgency); err != nil {
			a.trouble.set(troubleDisk, err)
		}
	}
	if err != nil {
		a.logger.Info("a statement whose epoch is over was not signed anew yet", "type", old.Payload.Type, "error", err)
		s.postpone(o, false)
		return
	}
	next := newOutgoing(st)
	next.offence, next.urgency, next.anew = o.offence, o.urgency, o.anew+1
	s.mu.Lock()
	if at := slices.Index(s.queue, o); at >= 0 {
		s.queue[at] = next
	}
	s.mu.Unlock()
	s.renewed.Add(1)
	a.metrics.renewals.WithLabelValues(st.Payload.Type).Inc()
	a.judge.own(st, o.offence)
	s.gossip(st)
}

// again is what to sign in the place of a statement whose epoch is over, or nil if it is
// no longer true, or not ours to say.
func (s *sender) again(view *certified, o *outgoing) func(seq uint64) any {
	if word := o.word; word != nil {
		if !s.holds(view, o) {
			return nil
		}
		return func(seq uint64) any {
			w := *word
			w.Counter = seq + 1
			return w
		}
	}
	evidence, err := ledger.DecodeBody[ledger.Evidence](o.statement)
	if err != nil {
		return nil
	}
	if o.offence == nil { // an earlier life said it
		rules := view.Rules()
		o.offence = offenceOf(&rules, o.statement)
	}
	if o.offence == nil || decided(view.State, o.offence) || o.offence.Epoch+banEpochs < view.State.Epoch() || s.agent.docket.has(o.offence) {
		return nil // the docket says its own anew
	}
	return func(uint64) any { return evidence }
}

// holds reports whether an observation says in the epoch of now what it said in its own:
// the rules still hear of its ticks, this node may speak of its subject, and has not
// said otherwise since.
func (s *sender) holds(view *certified, o *outgoing) bool {
	w, rules, me := o.word, view.Rules(), s.agent.config.Name
	tick := uint64(time.Now().UnixMilli()) / rules.TickMillis
	subject, ok := view.State.Node(w.Subject)
	if !ok || subject.Standing == fsm.NodeExcluded || w.To > tick+1 || w.To+rules.Protection.WindowTicks < tick {
		return false
	}
	if s.revised(o) || slices.ContainsFunc(wordsOf(view.State, me, w, *o.statement.Payload.Epoch), func(said fsm.Word) bool { return revises(&said, w) }) {
		return false
	}
	if w.Matter() == matterLink {
		return true
	}
	// Its monitors are others in each epoch.
	return slices.ContainsFunc(view.State.Monitors(&subject, rules.Epoch, view.electorate()), func(m ledger.Monitor) bool { return m.Node == me })
}

const matterLink = "link"

// revised reports whether a later word of ours on the same matter waits that takes the
// place of one: of a link that says otherwise, of a node any.
func (s *sender) revised(o *outgoing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.queue, func(q *outgoing) bool {
		return q != o && q.word != nil && q.word.Subject == o.word.Subject && q.word.Matter() == o.word.Matter() && signedAfter(q.statement, o.statement) &&
			(q.word.Matter() != matterLink || q.word.Down() != o.word.Down())
	})
}

// signedAfter reports whether a statement of this node was signed after another.
func signedAfter(a, b *ledger.Statement) bool {
	if *a.Payload.Epoch != *b.Payload.Epoch {
		return *a.Payload.Epoch > *b.Payload.Epoch
	}
	return *a.Payload.Seq > *b.Payload.Seq
}

// revises reports whether what the ledger has as our last word was said after w and takes
// its place, or is the same, which an earlier life said.
func revises(said *fsm.Word, w *ledger.Observe) bool {
	if said.Down == w.Down() && said.From == w.From && said.To == w.To {
		return true
	}
	if w.Matter() == matterLink && said.Down == w.Down() {
		return false
	}
	// Who is up was down before, in the same tick at the latest.
	return said.To > w.To || said.To == w.To && !said.Down
}

// wordsOf are the last words of a node that a state has of what an observation speaks
// of, from an epoch on.
func wordsOf(s *fsm.State, me string, w *ledger.Observe, epoch uint64) []fsm.Word {
	keys := []string{"link/" + min(me, w.Subject) + "/" + max(me, w.Subject)}
	if w.Matter() != matterLink {
		keys = keys[:0]
		for ; epoch <= s.Epoch() && len(keys) < keptTallies; epoch++ {
			keys = append(keys, fmt.Sprintf("tally/%d/%s/%s", epoch, w.Matter(), w.Subject))
		}
	}
	var words []fsm.Word
	for _, key := range keys {
		raw, ok := s.Record(key)
		if !ok {
			continue
		}
		var record struct {
			Words []fsm.Word `json:"words"`
		}
		if w.Matter() == matterLink {
			var link fsm.LinkRecord
			ok = canon.Unmarshal(raw, &link) == nil
			record.Words = link.Words
		} else {
			var tally fsm.TallyRecord
			ok = canon.Unmarshal(raw, &tally) == nil
			record.Words = tally.Words
		}
		for _, said := range record.Words {
			if ok && said.Author == me {
				words = append(words, said)
			}
		}
	}
	return words
}
