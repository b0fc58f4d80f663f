package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// sender signs what this node says, and brings it and what others said to the
// ledger: by a replica if one answers, and by gossip in any case, so that a node
// cut off from every replica is heard through others.
type sender struct {
	agent *Agent
	kept  *Outbox
	wake  chan struct{}

	mu    sync.Mutex
	queue []*outgoing
	until time.Time // run waits; zero: it doesn't
}

// outgoing is a statement on its way to the ledger.
type outgoing struct {
	statement *ledger.Statement
	offence   *ledger.Offence // that it is evidence of, if known
	own       bool
	urgency   gossip.Urgency
	due       time.Time
	pause     time.Duration
}

func newSender(a *Agent) (*sender, error) {
	kept, err := OpenOutbox(filepath.Join(a.config.Dir, "outbox"))
	if kept == nil {
		return nil, err
	}
	if err != nil {
		a.trouble.set(troubleDisk, err)
	}
	if n := kept.Dropped(); n > 0 {
		a.logger.Warn("the end of the outbox was not whole and is dropped", "bytes", n)
	}
	s := &sender{agent: a, kept: kept, wake: make(chan struct{}, 1)}
	for _, k := range kept.Waiting() {
		st, err := ledger.ParseStatement(k.Envelope)
		if err != nil || !a.identity.Load().ours(st.KeyID) {
			if err := kept.Done(k.ID); err != nil {
				a.trouble.set(troubleDisk, err)
			}
			continue
		}
		s.queue = append(s.queue, &outgoing{statement: st, own: true, urgency: k.Urgency, due: time.Now(), pause: retryFirst})
	}
	return s, nil
}

// fresh tells the record of seqs which epoch is in force, as far as the head is
// not stale.
func (s *sender) fresh() {
	v := s.agent.view.Load()
	if v.State == nil || s.agent.stale(time.Now()) {
		return
	}
	if err := errors.Join(s.agent.identity.Load().seqs.Fresh(v.State.Epoch()), s.kept.Expire(v.State.Epoch())); err != nil {
		s.agent.trouble.set(troubleDisk, err)
	}
}

// seen takes note of a statement of ours that others show.
func (s *sender) seen(st *ledger.Statement) {
	me := s.agent.identity.Load()
	if !me.ours(st.KeyID) || st.Payload.Epoch == nil || st.Payload.Seq == nil {
		return
	}
	if err := me.seqs.Seen(*st.Payload.Epoch, ledger.SeqSpaceOf(st.Payload.Type), *st.Payload.Seq); err != nil {
		s.agent.trouble.set(troubleDisk, err)
	}
}

// errSilent says that this node may say nothing.
var errSilent = errors.New("this node is not active on the ledger")

// sign makes a statement of this node in the certified epoch. body may depend on
// its seq.
func (s *sender) sign(typ string, body func(seq uint64) any) (*ledger.Statement, error) {
	view := s.agent.view.Load().certified
	if view == nil {
		return nil, errNoState
	}
	space := ledger.SeqSpaceOf(typ)
	me, ok := view.State.Node(s.agent.config.Name)
	self := s.agent.identity.Load() // after the view: no key leaves before the view in which it ended
	key := self.key(me.Key)
	switch {
	case !ok || key == nil || me.Standing == fsm.NodeExcluded:
		return nil, errSilent
	case me.Standing != fsm.NodeActive && space == ledger.SpaceMain && typ != ledger.TypeRotate:
		// A quarantine must not end in an expired key.
		return nil, errSilent
	}
	rules := view.Rules()
	if rules.Epoch < me.ValidFrom || rules.Epoch > me.ValidTo {
		return nil, fmt.Errorf("sign %s: the key is valid from epoch %d to %d, it is %d", typ, me.ValidFrom, me.ValidTo, rules.Epoch)
	}
	seq, err := self.seqs.Next(rules.Epoch, space, rules.QuotaOf(space))
	if err != nil {
		s.agent.trouble.set(troubleSeqs, err)
		return nil, err
	}
	s.agent.trouble.set(troubleSeqs, nil)
	content := body(seq)
	if err := self.seqs.Vow(content, rules.TickMillis); err != nil {
		// After a restart we might contradict it.
		s.agent.trouble.set(troubleSeqs, err)
		return nil, err
	}
	envelope, err := ledger.Sign(key, ledger.Payload{
		Author: me.Name, Epoch: &rules.Epoch, Generation: rules.Generation, Ledger: rules.Ledger, Seq: &seq, Type: typ,
	}, content)
	if err != nil {
		return nil, err
	}
	s.agent.metrics.signed(typ)
	return ledger.ParseStatement(envelope)
}

// say signs a statement for the ledger, gossips it and queues it.
func (s *sender) say(typ string, body func(seq uint64) any) error {
	_, err := s.sayOf(nil, typ, body)
	return err
}

// sayOf is say, and gives the statement; offence is what it is evidence of, nil for
// all else.
func (s *sender) sayOf(offence *ledger.Offence, typ string, body func(seq uint64) any) (*ledger.Statement, error) {
	before := offence != nil && s.agent.judge.brought(offence)
	st, err := s.sign(typ, body)
	if err != nil {
		return nil, err
	}
	if offence != nil && !before && s.agent.judge.brought(offence) {
		return st, nil // by another while ours was signed, which waits for the disk
	}
	s.agent.judge.own(st, offence)
	s.gossip(st)
	s.add(&outgoing{statement: st, offence: offence, own: true, due: time.Now(), pause: retryFirst})
	// The disk comes last: a statement that a crash takes from it was gossiped.
	if err := s.kept.Add(st, gossip.UrgencyOf(st, true)); err != nil {
		s.agent.trouble.set(troubleDisk, err) // it is in memory, and goes out all the same
	}
	return st, nil
}

// observe says what a watcher saw. The counter is the seq, which is never used
// twice in an epoch.
func (s *sender) observe(o ledger.Observe) {
	err := s.say(ledger.TypeObserve, func(seq uint64) any {
		o.Counter = seq + 1
		return o
	})
	if err != nil {
		s.agent.logger.Warn("an observation was not made", "kind", o.Kind, "subject", o.Subject, "error", err)
		return
	}
	s.agent.logger.Info("observed", "kind", o.Kind, "subject", o.Subject, "from", o.From, "to", o.To)
}

// accuse says what was proven, and reports whether it could.
func (s *sender) accuse(p *gossip.Proof) bool {
	_, err := s.sayOf(&p.Offence, ledger.TypeEvidence, func(uint64) any { return p.Evidence })
	if err != nil {
		s.agent.logger.Warn("evidence was not brought", "kind", p.Offence.Kind, "offender", p.Offence.Offender, "error", err)
	}
	return err == nil
}

func (s *sender) gossip(st *ledger.Statement) {
	ctx, cancel := context.WithTimeout(context.Background(), retryFirst)
	defer cancel()
	if err := s.agent.mesh.Publish(ctx, mesh.Statements, st.Envelope); err != nil {
		s.agent.logger.Debug("a statement was not gossiped", "error", err)
	}
}

// relay brings what another node signed to the ledger if it does not get there
// by itself.
func (s *sender) relay(c *gossip.Case) {
	o := &outgoing{statement: c.Statement, pause: retryFirst}
	delay := relayDelay
	if c.Proof != nil {
		delay, o.offence = relaySoon, &c.Proof.Offence
	}
	o.due = time.Now().Add(delay + rand.N(delay))
	s.add(o)
}

// add queues a statement, ours and relays each up to a bound of their own. When
// there is no room for a relay, it is not taken, unless it is evidence: then the
// newest relay that is none gives way.
func (s *sender) add(o *outgoing) {
	o.urgency = gossip.UrgencyOf(o.statement, o.own)
	s.mu.Lock()
	own, relays := 0, 0
	for _, q := range s.queue {
		if q.own {
			own++
		} else {
			relays++
		}
	}
	if !o.own && relays == relayQueue && o.urgency < gossip.UrgentRelay {
		for i := len(s.queue) - 1; i >= 0; i-- {
			if q := s.queue[i]; !q.own && q.urgency == gossip.UrgentRelay {
				s.queue = slices.Delete(s.queue, i, i+1)
				relays--
				break
			}
		}
	}
	if o.own && own < submitQueue || !o.own && relays < relayQueue {
		s.queue = append(s.queue, o)
	}
	soon := o.due.Before(s.until) // run looks at the whole queue: not for what is due later
	s.mu.Unlock()
	if !soon {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// next gives the statement that is due, the most urgent first, or how long to wait
// when none is.
func (s *sender) next(now time.Time) (*outgoing, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.agent.view.Load().State
	s.queue = slices.DeleteFunc(s.queue, func(o *outgoing) bool {
		over := state != nil && (settled(state, o.statement) || o.offence != nil && decided(state, o.offence))
		if over {
			s.done(o)
		}
		return over
	})
	wait := retryMost
	var best *outgoing
	for _, o := range s.queue {
		switch {
		case o.due.After(now):
			wait = min(wait, o.due.Sub(now))
		case best == nil || compareOutgoing(o, best) < 0:
			best = o
		}
	}
	s.until = time.Time{}
	if best == nil {
		s.until = now.Add(wait)
	}
	return best, wait
}

func compareOutgoing(a, b *outgoing) int {
	return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.due.Compare(b.due))
}

// settled reports whether a statement needs no more bringing: its seq is on the
// ledger, or its epoch is over.
func settled(s *fsm.State, st *ledger.Statement) bool {
	p := &st.Payload
	if p.Epoch == nil || p.Seq == nil || p.Generation != s.Meta().Generation || *p.Epoch+1 < s.Epoch() {
		return true
	}
	raw, ok := s.Record("window/" + p.Author)
	if !ok {
		return false
	}
	var w *fsm.WindowRecord
	if err := canon.Unmarshal(raw, &w); err != nil {
		return false
	}
	for ; w != nil; w = w.Previous {
		if w.Epoch != *p.Epoch || w.Count == 0 || *p.Seq > w.Top {
			continue
		}
		back := w.Top - *p.Seq
		return back >= ledger.SeqWindow || w.Bits[back/8]&(1<<(back%8)) != 0
	}
	return false
}

// run brings statements to the ledger, one after the other.
func (s *sender) run(ctx context.Context) error {
	for {
		o, wait := s.next(time.Now())
		if o == nil {
			changed := s.agent.changed.wait()
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-s.wake:
			case <-changed:
			case <-timer.C:
			}
			timer.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		if s.try(ctx, o) {
			s.remove(o)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.own {
			s.gossip(o.statement) // whoever came meanwhile has not seen it
		}
		s.mu.Lock()
		o.due = time.Now().Add(o.pause/2 + rand.N(o.pause))
		o.pause = min(2*o.pause, retryMost)
		s.mu.Unlock()
	}
}

// try reports whether a statement needs no more tries.
func (s *sender) try(ctx context.Context, o *outgoing) bool {
	if s.agent.client == nil {
		return !o.own // others see what we relay
	}
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	typ := o.statement.Payload.Type
	answer, err := s.agent.client.Submit(ctx, [][]byte{o.statement.Envelope}, client.WaitCommitted)
	var problem *client.Problem
	switch {
	case err == nil && len(answer.Statements) == 1:
		s.agent.metrics.submitted(typ, answer.Statements[0].Verdict)
		return true
	case errors.As(err, &problem) && problem.Status < http.StatusInternalServerError && problem.Status != http.StatusTooManyRequests:
		s.agent.metrics.submitted(typ, problem.Code)
		if o.offence != nil && !o.own {
			s.agent.docket.refused(o.offence)
		}
		if o.own {
			s.agent.logger.Info("the ledger refused a statement", "type", typ, "code", problem.Code, "detail", problem.Detail)
		}
		return true
	}
	return false
}

func (s *sender) remove(o *outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = slices.DeleteFunc(s.queue, func(q *outgoing) bool { return q == o })
	s.done(o)
}

// done forgets a statement on disk.
func (s *sender) done(o *outgoing) {
	if !o.own {
		return
	}
	if err := s.kept.Done(o.statement.ID); err != nil {
		s.agent.trouble.set(troubleDisk, err)
	}
}
