package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
)

// steward changes the replica set by governance while faults go on: it proposes,
// gets approvals, starts and ends processes as operators would, and waits until
// the change has arrived. One change is under way at a time.
type steward struct {
	world *world
	wg    sync.WaitGroup

	mu    sync.Mutex
	under string         // the change that is under way; "" for none
	made  map[string]int // identities by name, the first not counted
}

// change begins a change of the plan.
func (s *steward) change(f fault) {
	s.mu.Lock()
	s.under = f.String()
	s.mu.Unlock()
	// Who is a minority is not known while the voters change.
	for _, n := range s.world.present() {
		n.minority.Store(0)
	}
	s.wg.Go(func() {
		err := s.carryOut(f)
		if err != nil && s.world.failed() == nil {
			s.world.checks.fail(invariantMembers, "%s: %v", f, err)
		}
		if err == nil {
			s.mu.Lock()
			s.under = ""
			s.mu.Unlock()
			s.world.note("done: %s", f)
		}
	})
}

// changing says which change is under way.
func (s *steward) changing() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.under
}

// settle waits, once all is healed, until the change under way has arrived.
func (s *steward) settle() {
	began := time.Now()
	for s.changing() != "" {
		if time.Since(began) > memberLimit {
			s.world.checks.fail(invariantMembers, "%s has not arrived within %s of healing: %s", s.changing(), memberLimit, s.world.standings())
		}
		if !s.world.sleep(time.Second) {
			return
		}
	}
}

// fresh makes new keys for a name. Every second identity has another address
// than the one before; moved asks for another one.
func (s *steward) fresh(name string, moved bool) *identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = map[string]int{}
	}
	s.made[name]++
	one := newIdentity(s.world.t, numberOf(name), s.made[name])
	if moved || s.made[name]%2 == 0 {
		one.record.Peer = fmt.Sprintf("10.0.%d.%d:7400", s.made[name], numberOf(name)+1)
	}
	return one
}

var errEnded = errors.New("the run has ended")

func (s *steward) carryOut(f fault) error {
	w := s.world
	if f.Kind == faultRemove {
		old := w.named(f.Target)
		if err := s.decide("replica.remove", removeArgs{f.Target}, func(st *fsm.State) bool { _, there := st.Replica(f.Target); return !there }); err != nil {
			return err
		}
		if err := s.until(func() bool { return w.votes(old) == "" }); err != nil {
			return err
		}
		return w.handle(func() error { return s.retire(old, nil) })
	}
	one := s.fresh(f.Target, f.Kind == faultAdd)
	next := w.newNode(one)
	action, old := "replica.add", (*node)(nil)
	if f.Kind == faultRekey {
		action, old = "replica.rekey", w.named(f.Target)
		if f.Amount != 0 { // its disk is lost; else it runs until the new one takes its place
			if err := w.handle(func() error { old.lost.Store(true); return old.crash() }); err != nil {
				return err
			}
		}
	}
	seated := func(st *fsm.State) bool {
		r, ok := st.Replica(f.Target)
		return ok && r.Server() == ledger.Hash(one.key.ID())
	}
	if err := s.decide(action, replicaArgs{one.record}, seated); err != nil {
		return err
	}
	if err := w.handle(func() error { return s.retire(old, next) }); err != nil {
		return err
	}
	return s.until(func() bool { return w.arrived(next) })
}

// retire ends a process for good and starts the one in its place.
func (s *steward) retire(old, next *node) error {
	if old != nil {
		if err := old.stop(); err != nil && !errors.Is(err, replica.ErrHalted) {
			return fmt.Errorf("stop %s: %w", old.name(), err)
		}
	}
	s.world.replace(old, next)
	if next == nil {
		return nil
	}
	return next.start()
}

// until looks every few seconds.
func (s *steward) until(holds func() bool) error {
	for !holds() {
		if !s.world.sleep(5 * time.Second) {
			return errEnded
		}
	}
	return nil
}

// decide governs until a certified state shows what is wanted.
func (s *steward) decide(action string, args any, done func(*fsm.State) bool) error {
	w := s.world
	raw, err := canon.Marshal(args)
	if err != nil {
		return err
	}
	chance := chanceFor(w.plan.Seed, fmt.Sprint("steward ", action, string(raw)))
	for try := 0; ; try++ {
		p := w.traffic.process(chance)
		if p == nil {
			if !w.sleep(5 * time.Second) {
				return errEnded
			}
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), readLimit)
		view, err := p.replica.View(ctx, replica.Certified)
		cancel()
		if err == nil && done(view.State) {
			return nil
		}
		if err == nil {
			w.seated(view.State)
			w.traffic.bring(chance, p, w.governor(try), view.State, action, raw)
		}
		if !w.sleep(between(chance, time.Second, 20*time.Second)) {
			return errEnded
		}
	}
}

// bring proposes something and has everybody approve it.
func (t *traffic) bring(chance interface{ Uint64() uint64 }, p *process, who principal, state *fsm.State, action string, args []byte) {
	base, err := state.BaseFor(action, args)
	if err != nil {
		return
	}
	s := t.sign(who, ledger.TypePropose, ledger.Propose{Action: action, Args: args, Base: base}, nonceOf(fmt.Sprint("bring ", action, chance.Uint64())))
	if s == nil || t.submitAt(p, s, false) != nil {
		return
	}
	for i := range t.world.council {
		if other := t.world.governor(i); other.name != who.name {
			_ = t.submitAt(p, t.sign(other, ledger.TypeApprove, ledger.Ballot{Proposal: s.id}, nil), false)
		}
	}
}

// votes is what the leader's Raft has a replica as: Voter, Nonvoter, nothing;
// "?" while nobody leads.
func (w *world) votes(n *node) string {
	leader := w.leader()
	if leader == nil {
		return "?"
	}
	p := leader.running()
	if p == nil {
		return "?"
	}
	for _, one := range p.replica.Peers() {
		if one.ID == ledger.Hash(n.key.ID()) {
			return one.Suffrage
		}
	}
	return ""
}

// arrived says whether a replica that joined is active, votes, and has the whole
// history.
func (w *world) arrived(n *node) bool {
	p := n.running()
	if p == nil {
		return false
	}
	s := p.replica.Status()
	return s.Standing == "active" && s.GapFrom == s.GapTo && w.votes(n) == "Voter"
}

// standings describes the replicas, for a failure.
func (w *world) standings() string {
	text := ""
	for _, n := range w.present() {
		if p := n.running(); p != nil {
			text += fmt.Sprintf("\n%s (%s): %+v", n.name(), w.votes(n), p.replica.Status())
		} else {
			text += fmt.Sprintf("\n%s is down", n.name())
		}
	}
	return text
}

type replicaArgs struct {
	Replica ledger.Replica `json:"replica"`
}

type removeArgs struct {
	Name string `json:"name"`
}
