package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// replay is one node that sends again what it heard.
type replay struct {
	*fleet
	host    *insider
	sent    int
	rulings map[string]int // of agents' lives that are over

	mu     sync.Mutex
	probes [][]byte // that agents sent it
}

// replayedByGossip has one node, which hears all gossip, send it again.
func replayedByGossip(ctx context.Context, f *fleet) error {
	bad, h, quiet, err := f.cast(ctx)
	if err != nil {
		return err
	}
	defer quiet()
	h.enter(warming)
	host, err := f.insiderOf(bad, "127.1.0.1")
	if err != nil {
		return err
	}
	defer host.close()
	r := &replay{fleet: f, host: host, rulings: map[string]int{}}
	r.keepProbes(bad)
	for _, a := range f.agents {
		if err := host.enters(ctx, a); err != nil {
			return err
		}
	}
	victim := f.agents[0]
	h.except = []*agentProcess{victim}
	if err := r.listen(ctx, bad, h.node, victim); err != nil {
		return err
	}
	before := r.reputations(bad)
	unjudged := f.unjudged(ctx)
	h.enter("during")
	if err := r.atOnce(ctx, victim); err != nil {
		return err
	}
	old := r.heardIDs()
	turned, err := r.later(ctx, h, victim)
	if err != nil {
		return err
	}
	rulings, err := r.sumUp(ctx)
	if err != nil {
		return err
	}
	if err := f.mark(ctx); err != nil {
		return err
	}
	quiet()
	passed, err := r.passed(old, turned)
	if err != nil {
		return err
	}
	f.Says("attacker", "%s heard %d statements and %d heads as a member, and was sent %d probes; it sends %d frames: all to everybody, to %s, which restarted, its own %d among them, statements as heads, entries, probes, the others as statements, and all again two epochs later",
		bad.name, len(host.has(topicStatements)), len(host.has(topicHeads)), len(r.captured()), r.sent, victim.name, r.heardOf(victim))
	delete(rulings, string(gossip.Good))
	f.Says("detected", "refused by rule: %s; dropped before any rule: %s; the rest by what GossipSub has seen", reasonsOf(rulings, nil), reasonsOf(f.unjudged(ctx), unjudged))
	f.Demand(rulings[string(gossip.LateEpoch)] > 0, "no agent judged a frame of a former epoch: nothing was shown")
	f.Says("agents", "let %d of the %d statements pass that they were sent again after their epoch; on the ledger, %d stand twice", passed, len(old), r.twice())
	f.Demand(passed == 0, "statements of a former epoch were let pass")
	if err := r.harmedNobody(before); err != nil {
		return err
	}
	h.line(ctx)
	return nil
}

// atOnce sends everybody all that was heard, on every channel, and again once an agent
// has forgotten what it has seen.
func (r *replay) atOnce(ctx context.Context, victim *agentProcess) error {
	r.everywhere(ctx)
	if err := r.reborn(ctx, victim); err != nil {
		return err
	}
	again := r.everywhere(ctx)
	rulings, err := r.sumUp(ctx)
	if err != nil {
		return err
	}
	r.Demand(again > 0 && rulings[string(gossip.WrongChannel)] > 0, "nothing was sent on other channels: nothing was shown")
	return nil
}

// later sends all of it again two epochs on, and gives when those had passed.
func (r *replay) later(ctx context.Context, h *herald, victim *agentProcess) (turned time.Time, err error) {
	h.enter(warming) // whoever speaks while the epoch turns is heard by those that know of it
	if err := r.advance(ctx, 2); err != nil {
		return turned, err
	}
	if err := h.rewarm(ctx); err != nil {
		return turned, err
	}
	h.enter("during")
	turned = time.Now()
	if err := r.reborn(ctx, victim); err != nil {
		return turned, err
	}
	r.everywhere(ctx)
	return turned, nil
}

// reputations are those of all nodes but the attacker.
func (r *replay) reputations(bad *node) map[string]uint64 {
	list := map[string]uint64{}
	for _, n := range r.nodes {
		if n != bad {
			list[n.name] = r.audit.reputation(n.name)
		}
	}
	return list
}

// twice counts the statements that it heard and the ledger has more than once.
func (r *replay) twice() (n int) {
	for _, m := range r.host.has(topicStatements) {
		if r.audit.times(statementID(m.data)) > 1 {
			n++
		}
	}
	return n
}

// harmedNobody demands that nothing came of it for anybody.
func (r *replay) harmedNobody(before map[string]uint64) error {
	twice := r.twice()
	r.Demand(twice == 0, "%d statements are on the ledger twice", twice)
	r.Demand(len(r.audit.about(fsm.EffectOffence, "")) == 0, "somebody was convicted")
	r.Demand(r.fell(before) == "", "reputation or standing fell: %s", r.fell(before))
	for _, a := range r.agents {
		list, err := a.saw()
		if err != nil {
			return err
		}
		for _, s := range list {
			r.Demand(s.Dropped == "" || s.As == fsm.NodeActive, "%s dropped %s", a.name, s.Dropped)
		}
	}
	return nil
}

// listen waits until there is something to replay, words of the victim too: whoever
// reached a node contradicts who says that it was down.
func (r *replay) listen(ctx context.Context, bad, accused *node, victim *agentProcess) error {
	if err := r.advance(ctx, 1); err != nil {
		return err
	}
	accusations := time.NewTicker(time.Second)
	defer accusations.Stop()
	err := r.Await(ctx, "there is something to replay", func() bool {
		select {
		case <-accusations.C:
			body := r.observation(bad, ledger.NodeDown, accused.name)
			body.From -= accusedTicks
			_ = r.host.says(ctx, r.agents[1], topicStatements, r.states(bad, ledger.TypeObserve, body))
		default:
		}
		return len(r.host.has(topicStatements)) >= replayShare && len(r.host.has(topicHeads)) > 0 && len(r.captured()) > 0 && r.heardOf(victim) > 0
	})
	if err != nil {
		err = fmt.Errorf("%w: %d statements, %d of them the victim's, %d heads, %d probes", err, len(r.host.has(topicStatements)), r.heardOf(victim), len(r.host.has(topicHeads)), len(r.captured()))
	}
	return err
}

// keepProbes keeps the probes that agents send, and acknowledges them.
func (r *replay) keepProbes(n *node) {
	ack := r.ackOf(n)
	r.host.answers(func(probe []byte) []byte {
		r.mu.Lock()
		if len(r.probes) < replayShare {
			r.probes = append(r.probes, probe)
		}
		r.mu.Unlock()
		return ack(probe)
	})
}

func (r *replay) captured() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.probes)
}

// heardOf counts what it heard of an agent's own words.
func (r *replay) heardOf(a *agentProcess) int {
	n := 0
	for _, m := range r.host.has(topicStatements) {
		if st, err := ledger.ParseStatement(m.data); err == nil && st.Payload.Author == a.name {
			n++
		}
	}
	return n
}

// heardIDs are the statements heard so far.
func (r *replay) heardIDs() map[string]bool {
	ids := map[string]bool{}
	for _, m := range r.host.has(topicStatements) {
		if st, err := ledger.ParseStatement(m.data); err == nil {
			ids[st.ID.String()] = true
		}
	}
	return ids
}

// passed counts the statements that agents let pass after a moment.
func (r *replay) passed(ids map[string]bool, after time.Time) (int, error) {
	n := 0
	for _, a := range r.agents {
		list, err := a.saw()
		if err != nil {
			return n, err
		}
		for _, s := range list {
			if s.Verdict == "accept" && ids[s.ID] && s.At > after.UnixNano() {
				n++
			}
		}
	}
	return n, nil
}

// everywhere sends each agent all that was heard, on every channel, and counts the
// frames on channels that they were not made for.
func (r *replay) everywhere(ctx context.Context) (elsewhere int) {
	statements, heads, probes := r.host.has(topicStatements), r.host.has(topicHeads), r.captured()
	send := func(a *agentProcess, topic string, data []byte) {
		if r.host.says(ctx, a, topic, data) == nil {
			r.sent++
		}
	}
	for _, a := range r.agents {
		for _, m := range statements {
			send(a, topicStatements, m.data)
		}
		for _, m := range heads {
			send(a, topicHeads, m.data)
		}
		// A few of these: the fifth frame that no honest hop would pass on is the last that is looked at.
		for k := range replayElsewhere {
			send(a, topicStatements, probes[k%len(probes)])
			send(a, topicStatements, heads[k%len(heads)].data)
			send(a, topicHeads, statements[k%len(statements)].data)
			send(a, topicEntries, statements[k%len(statements)].data)
			_, _ = r.host.asks(ctx, r.host.id(a), probeProtocol, statements[k%len(statements)].data)
			_, _ = r.host.asks(ctx, r.host.id(a), probeProtocol, probes[k%len(probes)]) // another's probe
			elsewhere += 6
			r.sent += 2
		}
	}
	return elsewhere
}

// reborn restarts an agent, which then has seen nothing.
func (r *replay) reborn(ctx context.Context, a *agentProcess) error {
	for reason, n := range r.countedOf(ctx, a, rulingsCounter) {
		r.rulings[reason] += n
	}
	if err := r.endAgent(a, syscall.SIGTERM); err != nil {
		return err
	}
	if err := r.startAgent(a); err != nil {
		return err
	}
	if err := r.Await(ctx, a.name+" is back", func() bool {
		s, err := r.agentStatus(ctx, a)
		return err == nil && s.Peers >= len(r.agents)/2
	}); err != nil {
		return err
	}
	return r.Await(ctx, a.name+" takes the attacker in again", func() bool { return r.host.enters(ctx, a) == nil })
}

// sumUp counts what all agents' rules said, in all of their lives.
func (r *replay) sumUp(ctx context.Context) (map[string]int, error) {
	sums := maps.Clone(r.rulings)
	for _, a := range r.agents {
		for reason, n := range r.countedOf(ctx, a, rulingsCounter) {
			sums[reason] += n
		}
	}
	return sums, ctx.Err()
}

// fell says whose reputation or standing is worse than before.
func (r *replay) fell(before map[string]uint64) string {
	for name, was := range before {
		if now := r.audit.reputation(name); now < was || r.audit.standing(name) != fsm.NodeActive {
			return fmt.Sprintf("%s had %d and has %d, %s", name, was, now, r.audit.standing(name))
		}
	}
	return ""
}
