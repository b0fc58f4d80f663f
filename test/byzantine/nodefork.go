package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
)

// forkedHead is a head of another history, signed with the keys of some replicas; of
// those in broken, the signature is false.
func (f *fleet) forkedHead(size uint64, root ledger.Hash, broken bool, replicas ...string) []byte {
	founding, _, err := ledger.ParseGenesis(f.entry)
	if err != nil {
		panic(err) // our own
	}
	root[0] ^= 0xff
	head := &ledger.Checkpoint{Head: ledger.Head{Origin: founding.Origin, Size: size, Root: root}}
	for i, name := range replicas {
		key := f.people[name].Key
		c := ledger.Cosign(f.genesis, key, key.Cosigner44(), name, head.Head, uint64(time.Now().Unix()))
		if broken && i == 0 {
			c.MLDSA65[100] ^= 1
		}
		head.Add(c.WithoutMLDSA44())
	}
	return head.Note()
}

// newest is the newest certified head that the first replica shows.
func (f *fleet) newest(ctx context.Context) (ledger.Head, error) {
	note, err := f.Get(ctx, f.members[0].url()+"/checkpoint")
	if err != nil {
		return ledger.Head{}, err
	}
	c, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return ledger.Head{}, err
	}
	return c.Head, nil
}

// alarmed counts the agents that say that two certified heads contradict each other.
func (f *fleet) alarmed(ctx context.Context) int {
	n := 0
	for _, a := range f.agents {
		if s, err := f.agentStatus(ctx, a); err == nil && s.Alarm {
			n++
		}
	}
	return n
}

// conflictsOf verifies the pairs of heads that an agent keeps: both certified, and
// of two histories. It gives how many there are.
func (f *fleet) conflictsOf(a *agentProcess) (int, error) {
	chain, err := f.heads.chain()
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(a.dir, "state", "conflicts")
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, file := range list {
		note, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return 0, err
		}
		if _, err := chain.VerifyCheckpoint(note); err != nil {
			return 0, fmt.Errorf("%s of %s: %w", file.Name(), a.name, err)
		}
	}
	return len(list) / 2, nil
}

// forkedToAgents shows agents forks of the ledger that nobody certified, and then
// ones that stolen keys did.
func forkedToAgents(ctx context.Context, f *fleet) error {
	p, err := f.plot(ctx)
	if err != nil {
		return err
	}
	defer p.quiet()
	p.herald.enter(warming)
	if err := f.advance(ctx, 1); err != nil { // from now on nodes are watched
		return err
	}
	decided, err := p.condemn(ctx)
	if err != nil {
		return err
	}
	if _, err := f.learned(ctx, f.agents[0], p.target.name, fsm.NodeQuarantined, decided); err != nil {
		return err
	}
	peer, err := p.accomplice(ctx, p.coalition[0])
	if err != nil {
		return err
	}
	defer peer.close()
	clumsy, err := p.accomplice(ctx, p.coalition[2])
	if err != nil {
		return err
	}
	defer clumsy.close()
	misled := f.agents[5]
	if err := f.restart(misled, situation{servers: []string{f.liar().url(), f.members[0].url()}, peers: f.nodesOfAgents(misled)}); err != nil {
		return err
	}
	if err := p.herald.rewarm(ctx); err != nil {
		return err
	}
	p.herald.enter("during")
	if err := p.uncertified(ctx, peer, clumsy); err != nil {
		return err
	}
	if err := p.certifiedFork(ctx, peer); err != nil {
		return err
	}
	if err := p.releases(ctx); err != nil {
		return err
	}
	p.quiet()
	f.Demand(f.audit.standing(peer.node.name) == fsm.NodeActive, "who showed a true contradiction is %s", f.audit.standing(peer.node.name))
	p.herald.line(ctx)
	return nil
}

// uncertified shows every agent forks with too few signatures, or false ones.
func (p *plot) uncertified(ctx context.Context, peer, clumsy *insider) error {
	f := p.fleet
	head, err := f.newest(ctx)
	if err != nil {
		return err
	}
	if err := p.lie(ctx, "forged"); err != nil {
		return err
	}
	begin := time.Now()
	few, broken := f.forkedHead(head.Size, head.Root, false, "r2", "r3"), f.forkedHead(head.Size, head.Root, true, "r2", "r3", liarName)
	for _, a := range f.agents {
		if err := peer.reaches(ctx, a, topicHeads, few); err != nil {
			return err
		}
		if err := clumsy.reaches(ctx, a, topicHeads, broken); err != nil {
			return err
		}
	}
	sizes := f.audit.now().Next()
	if err := f.Await(ctx, "the liar has shown its own head, and the ledger has gone on", func() bool {
		return strings.Contains(f.deeds(ctx), "of its own making") && f.audit.now().Next() > sizes+forkAhead
	}); err != nil {
		return err
	}
	for _, a := range f.agents {
		if err := f.current(ctx, a, sizes); err != nil {
			return err
		}
	}
	f.Says("attackers", "%s shows heads that it alone signed (%s); %s gossips one with two signatures of the three that it takes, %s one with a false third", liarName, f.deeds(ctx), peer.node.name, clumsy.node.name)
	f.Demand(f.alarmed(ctx) == 0, "%d agents have an alarm without two certified heads", f.alarmed(ctx))
	// The herald is a member too, and says what an agent in its place would.
	body := f.observation(p.herald.node, ledger.NodeBad, clumsy.node.name)
	body.Cause = ledger.CauseHeads
	if err := f.submits(ctx, f.states(p.herald.node, ledger.TypeObserve, body)); err != nil {
		return err
	}
	blamed := f.Await(ctx, "whoever gossiped a false signature is complained of", func() bool { return f.audit.reputation(clumsy.node.name) < f.audit.reputation(peer.node.name) })
	f.Says("detected", "not certified: no alarm, and all agents go on; the false signature: %s's reputation is %d after %s, %s", clumsy.node.name, f.audit.reputation(clumsy.node.name), time.Since(begin).Round(time.Millisecond), f.audit.standing(clumsy.node.name))
	f.Demand(blamed == nil, "nobody complained of a false signature")
	return f.truth(ctx)
}

// certifiedFork shows one agent a certified head of another history at a size to
// come, and another agent one at a size that all have passed.
func (p *plot) certifiedFork(ctx context.Context, peer *insider) error {
	f := p.fleet
	stolen := []string{"r2", "r3", liarName}
	head, err := f.newest(ctx)
	if err != nil {
		return err
	}
	ahead := head.Size + forkAhead
	if err := peer.reaches(ctx, f.agents[1], topicHeads, f.forkedHead(ahead, head.Root, false, stolen...)); err != nil {
		return err
	}
	if err := f.Await(ctx, "the ledger is past the fork", func() bool {
		s, err := f.agentStatus(ctx, f.agents[1])
		return err == nil && s.Size > ahead
	}); err != nil {
		return err
	}
	begin := time.Now()
	err = f.Await(ctx, "the agent that saw a certified head which the ledger contradicts has an alarm", func() bool {
		s, err := f.agentStatus(ctx, f.agents[1])
		return err == nil && s.Alarm
	})
	f.Says("detected", "a certified fork at %d entries, shown to %s when there were %d: alarm %s after the ledger was past it (%d agents have it)", ahead, f.agents[1].name, head.Size, time.Since(begin).Round(time.Millisecond), f.alarmed(ctx))
	if err != nil {
		return err
	}
	if head, err = f.newest(ctx); err != nil {
		return err
	}
	for _, a := range f.agents {
		if err := f.current(ctx, a, head.Size); err != nil {
			return err
		}
	}
	begin = time.Now()
	if err := peer.reaches(ctx, f.agents[2], topicHeads, f.forkedHead(head.Size, head.Root, false, stolen...)); err != nil {
		return err
	}
	if err := f.Await(ctx, "every agent has the alarm", func() bool { return f.alarmed(ctx) == len(f.agents) }); err != nil {
		return err
	}
	took := time.Since(begin)
	pairs := 0
	for _, a := range f.agents {
		n, err := f.conflictsOf(a)
		if err != nil {
			return err
		}
		pairs += n
		f.Demand(n > 0, "%s keeps no pair of heads", a.name)
	}
	f.Says("detected", "a certified fork at %d entries, shown to %s alone: all %d agents have the alarm after %s; they keep %d pairs of heads, all of which verify", head.Size, f.agents[2].name, len(f.agents), took.Round(time.Millisecond), pairs)
	return nil
}

// releases has the council release who is quarantined, which no agent believes as
// long as two ledgers are certified.
func (p *plot) releases(ctx context.Context) error {
	f := p.fleet
	if err := p.decide(ctx, "node.release", map[string]string{"name": p.target.name, "reason": "staged"}); err != nil {
		return err
	}
	if err := f.mark(ctx); err != nil {
		return err
	}
	size := f.audit.now().Next()
	for _, a := range f.agents {
		if err := f.current(ctx, a, size); err != nil {
			return err
		}
		var n agent.NodeStanding
		if err := f.askAgent(ctx, a, "/v1/nodes/"+p.target.name, &n); err != nil {
			return err
		}
		f.Demand(n.Ledger == fsm.NodeActive, "%s has not learned of the release: nothing was shown", a.name)
		f.Demand(n.Standing == fsm.NodeQuarantined, "%s treats %s as %s after the release", a.name, p.target.name, n.Standing)
	}
	f.Says("agents", "follow the ledger on, and keep %s in quarantine though the ledger released it: nobody can say which of the two is true", p.target.name)
	return nil
}
