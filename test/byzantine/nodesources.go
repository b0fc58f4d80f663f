package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// past is the ledger as a peer and a replica once had it.
type past struct {
	size    uint64
	answer  []byte // of a peer to who asks for all
	head    []byte
	replica uint64 // the size that the liar shows
}

// syncRequest and syncAnswer are what agents ask of each other, as far as the
// stages look at it.
type syncRequest struct {
	From  uint64 `json:"from"`
	Links uint64 `json:"links"`
}

type syncAnswer struct {
	Entries [][]byte  `json:"entries"`
	Head    []byte    `json:"head"`
	Links   [][]byte  `json:"links"`
	State   canon.Raw `json:"state,omitempty"`
}

// takePast has the liar tell a lie about the ledger from now on, and a peer keep
// what an agent has of it now.
func (p *plot) takePast(ctx context.Context, lie string, peer *insider) (*past, error) {
	status, err := p.agentStatus(ctx, p.agents[0])
	if err != nil {
		return nil, err
	}
	request, err := canon.Marshal(syncRequest{From: status.Size})
	if err != nil {
		return nil, err
	}
	was := &past{size: status.Size}
	if was.answer, err = peer.asks(ctx, peer.id(p.agents[0]), syncProtocol, request); err != nil {
		return nil, fmt.Errorf("ask an agent for the ledger: %w", err)
	}
	var got syncAnswer
	if err := canon.Unmarshal(was.answer, &got); err != nil {
		return nil, err
	}
	was.head = got.Head
	peer.serves(syncProtocol, 64<<10, func([]byte) []byte { return was.answer })
	if err := p.lie(ctx, lie); err != nil {
		return nil, err
	}
	shown, err := p.status(ctx, p.liar())
	if err != nil {
		return nil, err
	}
	was.replica = shown.Certified
	return was, nil
}

// accomplice is a node of the coalition that agents take for a member.
func (p *plot) accomplice(ctx context.Context, n *node) (*insider, error) {
	i, err := p.insider(n)
	if err != nil {
		return nil, err
	}
	for _, a := range p.agents {
		if err := i.enters(ctx, a); err != nil {
			i.close()
			return nil, err
		}
	}
	return i, nil
}

// insists shows an agent's new life a head again and again until ctx ends: what
// is sent to nobody counts for nothing.
func (i *insider) insists(ctx context.Context, a *agentProcess, head []byte) {
	for ctx.Err() == nil {
		if id := i.id(a); id == "" || !i.connected(id) {
			_ = i.enters(ctx, a)
		}
		_ = i.says(ctx, a, topicHeads, head)
		_ = pause(ctx, siegePause)
	}
}

// joinPack is a join pack with the newest certified head, which the council endorses.
func (f *fleet) joinPack(ctx context.Context) ([]byte, error) {
	note, err := f.Get(ctx, f.members[0].url()+"/checkpoint")
	if err != nil {
		return nil, err
	}
	c, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return nil, err
	}
	pack := &ledger.JoinPack{Authority: []*ledger.Link{{Genesis: f.entry}}, Checkpoint: string(note)}
	for _, name := range []string{"alice", "bob", "carol"} {
		pack.Add(ledger.Endorse(f.genesis, f.people[name].Key, name, c.Head, uint64(time.Now().UnixMilli())))
	}
	return pack.Encode()
}

// ambush is three agents that a replica and a peer, which lie, beset: held has nobody
// else, the others have somebody who is honest.
type ambush struct {
	*plot
	peer               *insider
	held, other, mixed *agentProcess
	liar, honest       string // replicas' URLs
	diaries            map[*agentProcess]*diary
	enough             func() // ends what the peer insists on
}

func (f *fleet) ambushes(ctx context.Context) (*ambush, error) {
	p, err := f.plot(ctx)
	if err != nil {
		return nil, err
	}
	p.herald.enter(warming)
	peer, err := p.accomplice(ctx, p.coalition[0])
	if err != nil {
		p.quiet()
		return nil, err
	}
	return &ambush{plot: p, peer: peer, held: f.agents[3], other: f.agents[4], mixed: f.agents[5], liar: f.liar().url(), honest: f.members[0].url(),
		diaries: map[*agentProcess]*diary{}, enough: func() {}}, nil
}

func (a *ambush) end() {
	a.enough()
	for _, d := range a.diaries {
		d.end()
	}
	a.peer.close()
	a.quiet()
}

func (a *ambush) beset() []*agentProcess { return []*agentProcess{a.held, a.other, a.mixed} }

// alone is the situation of who has nobody but liars.
func (a *ambush) alone() situation {
	return situation{servers: []string{a.liar}, peers: []*node{a.peer.node}, moved: true}
}

// peered is that of who has the liar and, beside the lying peer, honest ones.
func (a *ambush) peered(not ...*agentProcess) situation {
	return situation{servers: []string{a.liar}, peers: append(a.nodesOfAgents(not...), a.peer.node)}
}

// places restarts agents, each in a situation.
func (a *ambush) places(in map[*agentProcess]situation) error {
	for one, s := range in {
		if err := a.restart(one, s); err != nil {
			return err
		}
	}
	return nil
}

// watches begins a diary of each that is beset.
func (a *ambush) watches(ctx context.Context) {
	for _, one := range a.beset() {
		a.diaries[one] = a.watch(ctx, one, a.target.name)
	}
}

// insists has the peer show each of them an old head, again and again.
func (a *ambush) insists(ctx context.Context, head []byte) {
	ctx, a.enough = context.WithCancel(ctx)
	for _, one := range a.beset() {
		go a.peer.insists(ctx, one, head)
	}
}

// never ends the diaries, and demands what must hold of each.
func (a *ambush) never() {
	for _, d := range a.diaries {
		d.end()
		d.never(a.fleet)
	}
}

// age is how long ago the head of a status was signed.
func age(status *agentStatus) time.Duration {
	return time.Since(time.UnixMilli(int64(status.Signed))).Round(time.Millisecond)
}

// rolledBackToAgents shows agents the ledger of before a verdict.
func rolledBackToAgents(ctx context.Context, f *fleet) error {
	a, err := f.ambushes(ctx)
	if err != nil {
		return err
	}
	defer a.end()
	was, err := a.takePast(ctx, "rollback", a.peer)
	if err != nil {
		return err
	}
	decided, err := a.condemn(ctx)
	if err != nil {
		return err
	}
	for _, one := range f.agents {
		if _, err := f.learned(ctx, one, a.target.name, fsm.NodeQuarantined, decided); err != nil {
			return err
		}
	}
	pack, err := f.joinPack(ctx)
	if err != nil {
		return err
	}
	a.herald.except = append(a.herald.except, a.held)
	if err := a.places(map[*agentProcess]situation{
		a.held:  a.alone(),
		a.other: {servers: []string{a.liar, a.honest}, peers: append(f.nodesOfAgents(a.held, a.other), a.peer.node), pack: pack},
		a.mixed: a.peered(a.held, a.mixed),
	}); err != nil {
		return err
	}
	a.insists(ctx, was.head)
	a.watches(ctx)
	if err := a.herald.rewarm(ctx); err != nil {
		return err
	}
	a.herald.enter("during")
	now := f.audit.now().Next()
	status, err := a.standsRollback(ctx, was, now)
	if err != nil {
		return err
	}
	if err := f.truth(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := f.current(ctx, a.held, now); err != nil {
		return err
	}
	f.Says("walled in", "%s is current again %s after the replica told the truth (it was at %d)", a.held.name, time.Since(begin).Round(time.Millisecond), status.Size)
	f.Says("detected", "rollback, by the head that each has on its disk or in its join pack; an old head is true, so nobody is accused")
	a.never()
	a.herald.line(ctx)
	return nil
}

// standsRollback demands that nobody goes back: who has somebody honest is current, and
// who has not is stale and keeps what it has.
func (a *ambush) standsRollback(ctx context.Context, was *past, now uint64) (*agentStatus, error) {
	status, err := a.turnsStale(ctx, a.held)
	if err != nil {
		return nil, err
	}
	for _, one := range []*agentProcess{a.other, a.mixed} {
		if err := a.current(ctx, one, now); err != nil {
			return nil, err
		}
		a.Demand(a.knows(ctx, one, a.target.name, fsm.NodeQuarantined), "%s does not know the verdict", one.name)
	}
	a.Demand(a.knows(ctx, a.held, a.target.name, fsm.NodeQuarantined), "%s forgot the verdict", a.held.name)
	a.Demand(status.Size > max(was.size, was.replica), "the agent has no more than it was shown: nothing was shown")
	a.quiet()
	a.enough()
	a.Says("attackers", "%s shows replicas' clients the ledger of %d entries (%s), %s peers that of %d", liarName, was.replica, a.deeds(ctx), a.peer.node.name, was.size)
	a.Says("walled in", "%s, which has nobody else: stays at %d entries, the verdict in force, stale, its head signed %s ago; trouble: %.200s", a.held.name, status.Size,
		age(status), status.Trouble["replicas"])
	a.Says("agents", "%s, new with a join pack, refuses it and takes another replica; %s, which has that replica alone, follows its peers; both are current at %d entries or more", a.other.name, a.mixed.name, now)
	return status, nil
}

// frozenToAgents shows agents the ledger as it was at one moment, and nothing new.
func frozenToAgents(ctx context.Context, f *fleet) error {
	a, err := f.ambushes(ctx)
	if err != nil {
		return err
	}
	defer a.end()
	a.herald.except = append(a.herald.except, a.held, a.other)
	first := situation{servers: []string{a.liar, a.honest}, peers: []*node{a.peer.node}, moved: true}
	if err := a.places(map[*agentProcess]situation{a.held: a.alone(), a.other: first, a.mixed: a.peered(a.beset()...)}); err != nil {
		return err
	}
	if err := a.herald.rewarm(ctx); err != nil {
		return err
	}
	size := f.audit.now().Next()
	for _, one := range a.beset() {
		if err := f.current(ctx, one, size); err != nil {
			return err
		}
	}
	a.watches(ctx)
	a.herald.enter("during")
	// One is away while the ledger goes on, so that the frozen one has news for it at first.
	if err := f.endAgent(a.other, syscall.SIGTERM); err != nil {
		return err
	}
	if err := f.Await(ctx, "the ledger has gone on", func() bool { return f.audit.now().Next() > size+forkAhead }); err != nil {
		return err
	}
	status, err := a.freezes(ctx, first)
	if err != nil {
		return err
	}
	if err := a.thaws(ctx, status); err != nil {
		return err
	}
	f.Says("detected", "age of the head's signatures (max_head_age %s); what is old is true, so nobody is accused", stageHeadAge)
	a.never()
	f.Demand(a.diaries[a.mixed].longest < stageHeadAge, "%s was stale for %s, though its peers were not", a.mixed.name, a.diaries[a.mixed].longest)
	a.herald.line(ctx)
	return nil
}

// freezes has the liars stop, has a verdict reached that they do not show, and the second
// agent come back: who has somebody honest learns of it, and who has not turns stale.
func (a *ambush) freezes(ctx context.Context, second situation) (*agentStatus, error) {
	was, err := a.takePast(ctx, "frozen", a.peer)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	decided, err := a.condemn(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.restart(a.other, second); err != nil {
		return nil, err
	}
	a.insists(ctx, was.head)
	learning := a.learn(ctx, a.target.name, fsm.NodeQuarantined, decided, a.mixed, a.other)
	status, err := a.turnsStale(ctx, a.held)
	if err != nil {
		return nil, err
	}
	stale := time.Since(begin)
	a.Demand(!a.knows(ctx, a.held, a.target.name, fsm.NodeQuarantined), "%s knows the verdict: nothing was shown", a.held.name)
	took, err := learning()
	if err != nil {
		return nil, err
	}
	a.quiet()
	a.enough()
	a.Says("attackers", "%s shows its clients and watchers the ledger of %d entries for ever (%s), %s its peers that of %d", liarName, was.replica, a.deeds(ctx), a.peer.node.name, was.size)
	a.Says("held back", "%s, which has nobody else: at %d entries, stale %s after it began, its head signed %s ago, and says so beside each answer", a.held.name, status.Size,
		stale.Round(time.Millisecond), age(status))
	a.Says("verdict", "known after %s by %s, whose second replica is honest, and %s by %s, which has honest peers", took[1].Round(time.Millisecond), a.other.name, took[0].Round(time.Millisecond), a.mixed.name)
	return status, nil
}

// thaws has the replica tell the truth again, and demands that who had nobody else learns
// all from it.
func (a *ambush) thaws(ctx context.Context, was *agentStatus) error {
	if err := a.truth(ctx); err != nil {
		return err
	}
	again, err := a.learned(ctx, a.held, a.target.name, fsm.NodeQuarantined, time.Now())
	if err != nil {
		return err
	}
	if err := a.current(ctx, a.held, was.Size+1); err != nil {
		return err
	}
	a.Says("held back", "%s knows the verdict %s after the replica told the truth", a.held.name, again.Round(time.Millisecond))
	return nil
}
