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
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// sender signs what this node says, and brings it and what others said to the
// ledger: by a replica if one answers, and by gossip in any case, so that a node
// cut off from every replica is heard through others.
type sender struct {
	agent    *Agent
	kept     *Outbox
	wake     chan struct{}
	mark     []byte                                          // that each envelope of ours has
	replicas bringer                                         // nil: no replica is configured
	publish  func(context.Context, mesh.Topic, []byte) error // gossips
	renewed  atomic.Uint64                                   // statements that were signed anew
	given    atomic.Uint64                                   // statements of ours that were given up

	mu    sync.Mutex
	queue []*outgoing
	until time.Time // run waits; zero: it doesn't
}

// bringer is what brings statements to the ledger: the API's client.
type bringer interface {
	Submit(ctx context.Context, envelopes [][]byte, wait client.Wait) (*client.SubmitAnswer, error)
}

// outgoing is a statement on its way to the ledger.
type outgoing struct {
	statement *ledger.Statement
	offence   *ledger.Offence // that it is evidence of, if known
	own       bool
	urgency   gossip.Urgency
	due       time.Time
	pause     time.Duration

	// Of our own (renewal.go).
	word   *ledger.Observe // that it says, if it is an observation
	entry  uint64          // that it is, as far as entries came; 0: none
	landed bool            // the ledger has it
	doubt  bool            // it may have it: entries were passed over
	over   bool            // it has it not, and takes it no more
	anew   int             // how often it was signed anew
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
	return senderOf(a, kept), nil
}

// senderOf goes on with what an outbox keeps.
func senderOf(a *Agent, kept *Outbox) *sender {
	s := &sender{agent: a, kept: kept, wake: make(chan struct{}, 1), mark: fmt.Appendf(nil, `"author":%q`, a.config.Name)}
	s.publish = func(ctx context.Context, topic mesh.Topic, b []byte) error { return a.mesh.Publish(ctx, topic, b) }
	if a.client != nil {
		s.replicas = a.client
	}
	state := a.view.Load().State
	for _, k := range kept.Waiting() {
		st, err := ledger.ParseStatement(k.Envelope)
		if err != nil || !a.identity.Load().ours(st.KeyID) {
			s.done(k.ID)
			continue
		}
		o := newOutgoing(st)
		o.urgency = k.Urgency
		o.over = k.Missed
		o.doubt = !o.over && state != nil && fateOf(state, st) == fateOver // what came before state is not seen again
		s.queue = append(s.queue, o)
	}
	return s
}

// fresh tells the record of seqs which epoch is in force, as far as the head is
// not stale.
func (s *sender) fresh() {
	v := s.agent.view.Load()
	if v.State == nil || s.agent.stale(time.Now()) {
		return
	}
	if err := errors.Join(s.agent.identity.Load().seqs.Fresh(v.State.Epoch()), s.kept.Expire(v.State.Epoch(), s.queued)); err != nil {
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
	o := newOutgoing(st)
	o.offence = offence
	s.add(o) // before anybody hears it: it is to be known when its entry comes
	s.gossip(st)
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
	evidence, err := s.agent.docket.evidence(p)
	if err == nil {
		_, err = s.sayOf(&p.Offence, ledger.TypeEvidence, func(uint64) any { return evidence })
	}
	if err != nil {
		s.agent.logger.Warn("evidence was not brought", "kind", p.Offence.Kind, "offender", p.Offence.Offender, "error", err)
	}
	return err == nil
}

func (s *sender) gossip(st *ledger.Statement) {
	ctx, cancel := context.WithTimeout(context.Background(), retryFirst)
	defer cancel()
	if err := s.publish(ctx, mesh.Statements, st.Envelope); err != nil {
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
	switch {
	case o.own && own < submitQueue || !o.own && relays < relayQueue:
		s.queue = append(s.queue, o)
	case o.own:
		s.giveUp(o, givenFull) // but the disk keeps it for the next start
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
	s.sweep(s.agent.view.Load().State, now)
	s.mu.Lock()
	defer s.mu.Unlock()
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

// sweep takes out what a certified state says is to be brought no more, and finds what is
// to be signed anew. When it returned the disk has that: a restart from state, which
// shows no more of epochs that are over, knows it still.
func (s *sender) sweep(state *fsm.State, now time.Time) {
	var gone, missed []ledger.Hash
	s.mu.Lock()
	s.queue = slices.DeleteFunc(s.queue, func(o *outgoing) bool {
		before := o.over
		over := s.settle(state, o, now)
		switch {
		case over && o.own:
			gone = append(gone, o.statement.ID)
		case o.over && !before:
			missed = append(missed, o.statement.ID)
		}
		return over
	})
	s.mu.Unlock()
	s.done(gone...) // the disk is slow: whoever brings entries does not wait for it
	if len(missed) > 0 {
		if err := s.kept.Miss(missed...); err != nil {
			s.agent.trouble.set(troubleDisk, err)
		}
	}
}

func compareOutgoing(a, b *outgoing) int {
	return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.due.Compare(b.due))
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
		if o.over {
			s.renew(o)
			continue
		}
		outcome := s.try(ctx, o)
		if outcome == brought {
			s.remove(o)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if o.own && outcome == unanswered {
			s.gossip(o.statement) // whoever came meanwhile has not seen it
		}
		s.postpone(o, outcome == undecided)
	}
}

// postpone has a statement wait, each time longer; at once as long as may be if only our
// view can say more.
func (s *sender) postpone(o *outgoing, long bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if long {
		o.pause = retryMost
	}
	o.due = time.Now().Add(o.pause/2 + rand.N(o.pause))
	o.pause = min(2*o.pause, retryMost)
}

// outcome is what came of bringing a statement to a replica.
type outcome uint8

const (
	brought    outcome = iota // it needs no more tries
	unanswered                // it is tried again
	undecided                 // a replica says that it comes too late: our own view is to show it
)

// try brings a statement to a replica.
func (s *sender) try(ctx context.Context, o *outgoing) outcome {
	if s.replicas == nil {
		if o.own {
			return unanswered
		}
		return brought // others see what we relay
	}
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	typ := o.statement.Payload.Type
	answer, err := s.replicas.Submit(ctx, [][]byte{o.statement.Envelope}, client.WaitCommitted)
	var problem *client.Problem
	switch {
	case err == nil && len(answer.Statements) == 1:
		s.agent.metrics.submitted(typ, answer.Statements[0].Verdict)
		return brought
	case errors.As(err, &problem) && problem.Status < http.StatusInternalServerError && problem.Status != http.StatusTooManyRequests:
		s.agent.metrics.submitted(typ, problem.Code)
		if o.offence != nil && !o.own {
			s.agent.docket.refused(o.offence)
		}
		if !o.own {
			return brought
		}
		s.agent.logger.Info("the ledger refused a statement", "type", typ, "code", problem.Code, "detail", problem.Detail)
		if tooLate(problem.Code) {
			s.agent.want() // whoever lags hears of it here
			return undecided
		}
		return brought
	}
	return unanswered
}

func (s *sender) remove(o *outgoing) {
	s.mu.Lock()
	s.queue = slices.DeleteFunc(s.queue, func(q *outgoing) bool { return q == o })
	s.mu.Unlock()
	if o.own {
		s.done(o.statement.ID)
	}
}

// done forgets statements of ours on disk.
func (s *sender) done(ids ...ledger.Hash) {
	if len(ids) == 0 {
		return
	}
	if err := s.kept.Done(ids...); err != nil {
		s.agent.trouble.set(troubleDisk, err)
	}
}
