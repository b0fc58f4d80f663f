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

// rolledBackToAgents shows agents the ledger of before a verdict.
func rolledBackToAgents(ctx context.Context, f *fleet) error {
	p, err := f.plot(ctx)
	if err != nil {
		return err
	}
	defer p.quiet()
	p.herald.enter(warming)
	peer, err := p.accomplice(ctx, p.coalition[0])
	if err != nil {
		return err
	}
	defer peer.close()
	was, err := p.takePast(ctx, "rollback", peer)
	if err != nil {
		return err
	}
	decided, err := p.condemn(ctx)
	if err != nil {
		return err
	}
	for _, a := range f.agents {
		if _, err := f.learned(ctx, a, p.target.name, fsm.NodeQuarantined, decided); err != nil {
			return err
		}
	}
	pack, err := f.joinPack(ctx)
	if err != nil {
		return err
	}
	held, fresh, mixed := f.agents[3], f.agents[4], f.agents[5]
	liar, honest := f.liar().url(), f.members[0].url()
	p.herald.except = append(p.herald.except, held)
	for a, in := range map[*agentProcess]situation{
		held:  {servers: []string{liar}, peers: []*node{peer.node}, moved: true},
		fresh: {servers: []string{liar, honest}, peers: append(f.nodesOfAgents(held, fresh), peer.node), pack: pack},
		mixed: {servers: []string{liar}, peers: append(f.nodesOfAgents(held, mixed), peer.node)},
	} {
		if err := f.restart(a, in); err != nil {
			return err
		}
	}
	insisting, enough := context.WithCancel(ctx)
	defer enough()
	var diaries []*diary
	for _, a := range []*agentProcess{held, fresh, mixed} {
		go peer.insists(insisting, a, was.head)
		d := f.watch(ctx, a, p.target.name)
		defer d.end()
		diaries = append(diaries, d)
	}
	if err := p.herald.rewarm(ctx); err != nil {
		return err
	}
	p.herald.enter("during")
	now := f.audit.now().Next()
	status, err := f.turnsStale(ctx, held)
	if err != nil {
		return err
	}
	for _, a := range []*agentProcess{fresh, mixed} {
		if err := f.current(ctx, a, now); err != nil {
			return err
		}
		f.Demand(f.knows(ctx, a, p.target.name, fsm.NodeQuarantined), "%s does not know the verdict", a.name)
	}
	f.Demand(f.knows(ctx, held, p.target.name, fsm.NodeQuarantined), "%s forgot the verdict", held.name)
	f.Demand(status.Size > max(was.size, was.replica), "the agent has no more than it was shown: nothing was shown")
	p.quiet()
	enough()
	f.Says("attackers", "%s shows replicas' clients the ledger of %d entries (%s), %s peers that of %d", liarName, was.replica, f.deeds(ctx), peer.node.name, was.size)
	f.Says("walled in", "%s, which has nobody else: stays at %d entries, the verdict in force, stale, its head signed %s ago; trouble: %.200s", held.name, status.Size,
		time.Since(time.UnixMilli(int64(status.Signed))).Round(time.Millisecond), status.Trouble["replicas"])
	f.Says("agents", "%s, new with a join pack, refuses it and takes another replica; %s, which has that replica alone, follows its peers; both are current at %d entries or more", fresh.name, mixed.name, now)
	if err := f.truth(ctx); err != nil {
		return err
	}
	begin := time.Now()
	if err := f.current(ctx, held, now); err != nil {
		return err
	}
	f.Says("walled in", "%s is current again %s after the replica told the truth", held.name, time.Since(begin).Round(time.Millisecond))
	f.Says("detected", "rollback, by the head that each has on its disk or in its join pack; an old head is true, so nobody is accused")
	for _, d := range diaries {
		d.end()
		d.never(f)
	}
	p.herald.line(ctx)
	return nil
}

// frozenToAgents shows agents the ledger as it was at one moment, and nothing new.
func frozenToAgents(ctx context.Context, f *fleet) error {
	p, err := f.plot(ctx)
	if err != nil {
		return err
	}
	defer p.quiet()
	p.herald.enter(warming)
	peer, err := p.accomplice(ctx, p.coalition[0])
	if err != nil {
		return err
	}
	defer peer.close()
	held, second, mixed := f.agents[3], f.agents[4], f.agents[5]
	liar, honest := f.liar().url(), f.members[0].url()
	p.herald.except = append(p.herald.except, held, second)
	first := situation{servers: []string{liar, honest}, peers: []*node{peer.node}, moved: true}
	for a, in := range map[*agentProcess]situation{
		held:   {servers: []string{liar}, peers: []*node{peer.node}, moved: true},
		second: first,
		mixed:  {servers: []string{liar}, peers: append(f.nodesOfAgents(held, second, mixed), peer.node)},
	} {
		if err := f.restart(a, in); err != nil {
			return err
		}
	}
	if err := p.herald.rewarm(ctx); err != nil {
		return err
	}
	size := f.audit.now().Next()
	for _, a := range []*agentProcess{held, second, mixed} {
		if err := f.current(ctx, a, size); err != nil {
			return err
		}
	}
	diaries := map[*agentProcess]*diary{}
	for _, a := range []*agentProcess{held, second, mixed} {
		diaries[a] = f.watch(ctx, a, p.target.name)
		defer diaries[a].end()
	}
	p.herald.enter("during")
	// One is away while the ledger goes on, so that the frozen one has news for it at first.
	if err := f.endAgent(second, syscall.SIGTERM); err != nil {
		return err
	}
	if err := f.Await(ctx, "the ledger has gone on", func() bool { return f.audit.now().Next() > size+forkAhead }); err != nil {
		return err
	}
	was, err := p.takePast(ctx, "frozen", peer)
	if err != nil {
		return err
	}
	begin := time.Now()
	decided, err := p.condemn(ctx)
	if err != nil {
		return err
	}
	if err := f.restart(second, first); err != nil {
		return err
	}
	insisting, enough := context.WithCancel(ctx)
	defer enough()
	for _, a := range []*agentProcess{held, second, mixed} {
		go peer.insists(insisting, a, was.head)
	}
	learning := f.learn(ctx, p.target.name, fsm.NodeQuarantined, decided, mixed, second)
	status, err := f.turnsStale(ctx, held)
	if err != nil {
		return err
	}
	stale := time.Since(begin)
	f.Demand(!f.knows(ctx, held, p.target.name, fsm.NodeQuarantined), "%s knows the verdict: nothing was shown", held.name)
	took, err := learning()
	if err != nil {
		return err
	}
	p.quiet()
	enough()
	f.Says("attackers", "%s shows its clients and watchers the ledger of %d entries for ever (%s), %s its peers that of %d", liarName, was.replica, f.deeds(ctx), peer.node.name, was.size)
	f.Says("held back", "%s, which has nobody else: at %d entries, stale %s after it began, its head signed %s ago, and says so beside each answer", held.name, status.Size,
		stale.Round(time.Millisecond), time.Since(time.UnixMilli(int64(status.Signed))).Round(time.Millisecond))
	f.Says("verdict", "known after %s by %s, whose second replica is honest, and %s by %s, which has honest peers", took[1].Round(time.Millisecond), second.name, took[0].Round(time.Millisecond), mixed.name)
	if err := f.truth(ctx); err != nil {
		return err
	}
	begin = time.Now()
	again, err := f.learned(ctx, held, p.target.name, fsm.NodeQuarantined, begin)
	if err != nil {
		return err
	}
	if err := f.current(ctx, held, status.Size+1); err != nil {
		return err
	}
	f.Says("held back", "%s knows the verdict %s after the replica told the truth", held.name, again.Round(time.Millisecond))
	f.Says("detected", "age of the head's signatures (max_head_age %s); what is old is true, so nobody is accused", stageHeadAge)
	for _, d := range diaries {
		d.end()
		d.never(f)
	}
	f.Demand(diaries[mixed].longest < stageHeadAge, "%s was stale for %s, though its peers were not", mixed.name, diaries[mixed].longest)
	p.herald.line(ctx)
	return nil
}
