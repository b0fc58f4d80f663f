package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// docket is the offences that were proven here and that the ledger has not yet:
// each is brought by one node of the fleet, as far as chance and the network let
// it. Whoever proves one waits its turn, and no more than relays the evidence of
// another who is first. Only the ledger's own record ends it, or its age: if the
// ledger refuses the other's evidence, or has nothing after proofPatience, our own
// is brought, and proofTries later again, from epoch to epoch more seldom: what a
// replica says of it alone proves nothing.
type docket struct {
	agent *Agent
	wake  chan struct{}

	mu    sync.Mutex
	cases map[string]*pending // by offence
}

// pending is one offence's evidence.
type pending struct {
	proof  *gossip.Proof
	public []byte // of the exhibits' key, which the state may lose
	due    time.Time
	tries  int    // how often it was said
	epoch  uint64 // before which it is not said again
}

func newDocket(a *Agent) *docket {
	return &docket{agent: a, wake: make(chan struct{}, 1), cases: map[string]*pending{}}
}

// open takes what was proven here.
func (d *docket) open(p *gossip.Proof) {
	view := d.agent.view.Load().certified
	if view == nil {
		return
	}
	due := time.Now().Add(turnOf(view, d.agent.config.Name, &p.Offence))
	d.mu.Lock()
	if _, there := d.cases[p.Offence.Key()]; !there && d.makeRoom(p) {
		c := &pending{proof: p, public: p.Evidence.Public, due: due}
		if author, ok := view.Author(p.Offence.KeyID); ok && len(c.public) == 0 {
			c.public = author.Public
		}
		d.cases[p.Offence.Key()] = c
	}
	d.mu.Unlock()
	d.stir()
}

// makeRoom reports whether there is room for one more. When all places are taken, a
// lesser offence, the one that waits longest, gives way to one that excludes. d.mu is
// held.
func (d *docket) makeRoom(p *gossip.Proof) bool {
	if len(d.cases) < proofQueue {
		return true
	}
	last := ""
	for key, c := range d.cases {
		if !gossip.Excludes(c.proof.Offence.Kind) && (last == "" || c.due.After(d.cases[last].due)) {
			last = key
		}
	}
	out := &p.Offence
	if gossip.Excludes(p.Offence.Kind) && last != "" {
		out = &d.cases[last].proof.Offence
		delete(d.cases, last)
	}
	d.agent.logger.Warn("evidence is left to others: too much waits", "kind", out.Kind, "offender", out.Offender)
	return len(d.cases) < proofQueue
}

// brought takes note that another's evidence of an offence was heard, verified.
func (d *docket) brought(o *ledger.Offence) {
	d.put(o, proofPatience+rand.N(proofPatience))
}

// evidence is what to say of what was proven: with the exhibits' key once the state has
// it no longer, as long as this life knew it before.
func (d *docket) evidence(p *gossip.Proof) (ledger.Evidence, error) {
	var public []byte
	if view := d.agent.view.Load().certified; view != nil {
		if author, ok := view.Author(p.Offence.KeyID); ok && author.Former && len(author.Public) == 0 {
			public = p.Evidence.Public
			d.mu.Lock()
			if c := d.cases[p.Offence.Key()]; c != nil {
				public = c.public
			}
			d.mu.Unlock()
		}
	}
	return p.With(public)
}

// has reports whether an offence waits to be brought by us.
func (d *docket) has(o *ledger.Offence) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cases[o.Key()] != nil
}

// refused takes note that the ledger refused another's evidence of an offence: as
// a rule because it knows the offence, which we hear of a little later.
func (d *docket) refused(o *ledger.Offence) {
	if view := d.agent.view.Load().certified; view != nil {
		d.put(o, proofRefused+turnOf(view, d.agent.config.Name, o))
	}
}

// put has an offence wait so long from now.
func (d *docket) put(o *ledger.Offence, wait time.Duration) {
	d.mu.Lock()
	if c := d.cases[o.Key()]; c != nil {
		c.due = time.Now().Add(wait)
	}
	d.mu.Unlock()
	d.stir()
}

func (d *docket) stir() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// turnOf is how long a node waits before it brings what it has proven: those who
// watch the offender go first, in an order that differs from offence to offence,
// then everybody at random. Each turn is longer than gossip takes as a rule, so
// that the next one has heard of it.
func turnOf(view *certified, me string, o *ledger.Offence) time.Duration {
	late := proofTurns*proofTurn + rand.N(proofSpread)
	record, ok := view.State.Node(o.Offender)
	if !ok {
		return late
	}
	type ranked struct {
		name string
		rank [sha256.Size]byte
	}
	var order []ranked
	for _, m := range view.State.Monitors(&record, view.State.Epoch(), view.electorate()) {
		order = append(order, ranked{m.Node, sha256.Sum256([]byte(o.Key() + "/" + m.Node))})
	}
	slices.SortFunc(order, func(a, b ranked) int { return bytes.Compare(a.rank[:], b.rank[:]) })
	at := slices.IndexFunc(order, func(r ranked) bool { return r.name == me })
	if at < 0 || at >= proofTurns {
		return late
	}
	return time.Duration(at) * proofTurn
}

// next gives evidence whose turn has come, or how long to wait. What the ledger
// has meanwhile, or takes no more, is dropped.
func (d *docket) next(now time.Time) (*gossip.Proof, time.Duration) {
	view := d.agent.view.Load()
	state, epoch := view.State, epochOf(view).Epoch
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := retryMost
	for key, c := range d.cases {
		switch {
		case decided(state, &c.proof.Offence), c.proof.Offence.Epoch+banEpochs < epoch:
			delete(d.cases, key)
		case c.due.After(now):
			wait = min(wait, c.due.Sub(now))
		case epoch < c.epoch: // which is a change, and wakes us
		default:
			c.due = now.Add(proofPatience + rand.N(proofPatience))
			return c.proof, 0
		}
	}
	return nil, wait
}

// said takes note that our own evidence was brought in an epoch. From the last of
// proofTries on it waits a number of epochs that doubles.
func (d *docket) said(o *ledger.Offence, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.cases[o.Key()]
	if c == nil {
		return
	}
	if c.tries++; c.tries >= proofTries {
		c.epoch = epoch + 1<<min(c.tries-proofTries, proofRests)
	}
}

// decided reports whether the ledger takes no more evidence of an offence.
func decided(s *fsm.State, o *ledger.Offence) bool {
	if s == nil {
		return false
	}
	n, ok := s.Node(o.Offender)
	return ok && n.Standing == fsm.NodeExcluded || convicted(s, o)
}

// run brings evidence in its turn.
func (d *docket) run(ctx context.Context) error {
	for {
		proof, wait := d.next(time.Now())
		if proof != nil {
			if d.agent.out.accuse(proof) {
				d.said(&proof.Offence, epochOf(d.agent.view.Load()).Epoch)
			}
			continue
		}
		changed := d.agent.changed.wait()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
