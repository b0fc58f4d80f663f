package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh/hosttest"
	"github.com/quorate/quorate/ledger/canon"
)

// siege is a coalition's hosts around some agents: each holds as many connections
// to each of them as it is let.
type siege struct {
	*plot
	hosts []*insider
	lies  []byte // false addresses of honest members
	tries atomic.Int64
	wait  sync.WaitGroup

	mu   sync.Mutex
	held map[*agentProcess]int
}

// besiege makes a host of every node of the coalition but the target.
func (p *plot) besiege() (*siege, error) {
	s := &siege{plot: p, held: map[*agentProcess]int{}}
	var err error
	if s.lies, err = p.falseAddresses(); err != nil {
		return nil, err
	}
	for _, n := range p.coalition {
		if n == p.target {
			continue
		}
		i, err := p.insider(n)
		if err != nil {
			return nil, err
		}
		i.serves(peersProtocol, 64<<10, func([]byte) []byte { return s.lies })
		s.hosts = append(s.hosts, i)
	}
	return s, nil
}

// falseAddresses says of every honest member that it is where nobody is.
func (p *plot) falseAddresses() ([]byte, error) {
	type told struct {
		Addresses []string `json:"addresses"`
		Peer      []byte   `json:"peer"`
	}
	frame := struct {
		Addresses []string `json:"addresses"`
		Members   []told   `json:"members"`
	}{Addresses: []string{}, Members: []told{}}
	for i, n := range p.nodesOfAgents() {
		frame.Members = append(frame.Members, told{Peer: n.public(), Addresses: []string{
			fmt.Sprintf("127.9.9.%d:9", 1+i), fmt.Sprintf("127.9.8.%d:9", 1+i), fmt.Sprintf("127.9.7.%d:9", 1+i)}})
	}
	return canon.Marshal(frame)
}

// begin has all hosts besiege some agents until ctx ends.
func (s *siege) begin(ctx context.Context, victims ...*agentProcess) {
	for _, a := range victims {
		for _, i := range s.hosts {
			s.wait.Go(func() { s.hold(ctx, i, a) })
		}
	}
}

// hold keeps siegeConnections connections of a host to an agent, as far as it can.
func (s *siege) hold(ctx context.Context, i *insider, a *agentProcess) {
	var spare [siegeConnections - 1]*hosttest.Held
	mine, told := 0, false
	count := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held[a] += n - mine
		mine = n
	}
	defer func() {
		count(0)
		for _, o := range spare {
			if o != nil {
				o.Close()
			}
		}
	}()
	for ctx.Err() == nil {
		n := 0 // those that lasted: a handshake alone does not show that one is let in
		if id := i.id(a); id != "" && i.connected(id) {
			n++
			if !told {
				_, err := i.asks(ctx, id, peersProtocol, s.lies)
				told = err == nil
			}
		} else {
			s.tries.Add(1)
			_ = i.enters(ctx, a)
		}
		for k, o := range spare {
			if o != nil && o.Open() {
				n++
				continue
			}
			s.tries.Add(1)
			spare[k], _ = i.host.Hold(ctx, i.id(a), a.address)
		}
		count(n)
		_ = pause(ctx, siegePause)
	}
}

func (s *siege) holds(a *agentProcess) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[a]
}

// complete waits until the coalition gets no more places than it has.
func (s *siege) complete(ctx context.Context, of ...*agentProcess) error {
	last, since := 0, time.Now()
	return s.Await(ctx, "the siege is complete", func() bool {
		now := 0
		for _, a := range of {
			now += s.holds(a)
		}
		if now > last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > siegeComplete
	})
}

func (s *siege) close() {
	s.wait.Wait()
	for _, i := range s.hosts {
		i.close()
	}
}

// strangersAt has hosts whose keys the ledger does not know try to get in, each
// from its own address, and counts those that were served.
func (s *siege) strangersAt(ctx context.Context, a *agentProcess) int {
	var let atomic.Int64
	var wait sync.WaitGroup
	for k := range strangers {
		wait.Go(func() {
			_, key, err := ed25519.GenerateKey(nil)
			if err != nil {
				panic(err) // documented as never
			}
			r, err := newRogue(key, s.genesis.String(), "", hosttest.From(fmt.Sprintf("127.2.0.%d", 1+k)))
			if err != nil {
				return
			}
			defer r.close()
			if id, err := r.meet(ctx, a.public(), a.address); err == nil {
				// TLS lets the dialler believe that it is in; a stream shows it.
				if _, err := r.ask(ctx, id, syncProtocol, request([]byte{1})); err == nil {
					let.Add(1)
				}
			}
		})
	}
	wait.Wait()
	return int(let.Load())
}

// eclipsed surrounds three agents with the coalition's nodes.
func eclipsed(ctx context.Context, f *fleet) error {
	p, err := f.plot(ctx)
	if err != nil {
		return err
	}
	defer p.quiet()
	served, cut, walled := f.agents[3], f.agents[4], f.agents[5]
	p.herald.except = append(p.herald.except, walled)
	p.herald.enter(warming)
	s, err := p.besiege()
	if err != nil {
		return err
	}
	sieging, end := context.WithCancel(ctx)
	defer func() { end(); s.close() }()
	memory := f.agentMemory()
	reached, err := s.surrounds(ctx, sieging, served, cut, walled)
	if err != nil {
		return err
	}
	p.herald.enter("during")
	var diaries []*diary
	for _, a := range []*agentProcess{served, cut, walled} {
		d := f.watch(ctx, a, p.target.name)
		defer d.end()
		diaries = append(diaries, d)
	}
	decided, err := p.condemn(ctx)
	if err != nil {
		return err
	}
	learned, err := f.learn(ctx, p.target.name, fsm.NodeQuarantined, decided, f.agents[0], served, cut)()
	if err != nil {
		return err
	}
	let := s.strangersAt(ctx, cut)
	status, err := f.turnsStale(ctx, walled)
	if err != nil {
		return err
	}
	f.Demand(!f.knows(ctx, walled, p.target.name, fsm.NodeQuarantined), "%s is not cut off from the verdict: nothing was shown", walled.name)
	p.quiet()
	refused := f.denials(ctx, cut)
	f.Says("agents", "%s refused connections: %s", cut.name, reasonsOf(refused, nil))
	f.Demand(refused["operator"] > 0, "no bound was reached: nothing was shown")
	f.Says("agents", "let the strangers in %d times; gossip reaches both besieged %s after the others came; memory %d MB at most, %d before", let, reached.Round(time.Millisecond), f.agentMemory(), memory)
	f.Says("verdict", "known after %s by a free agent, %s by %s, which reaches replicas, %s by %s, which reaches none and knows only the coalition's addresses", learned[0].Round(time.Millisecond),
		learned[1].Round(time.Millisecond), served.name, learned[2].Round(time.Millisecond), cut.name)
	f.Says("walled in", "%s, whose new address only the coalition knows: stale, at %d entries, with %d peers, its newest head signed %s ago", walled.name, status.Size, status.Peers, age(status))
	f.Demand(let == 0, "a stranger was let in")
	f.Demand(s.tries.Load() > int64(len(s.hosts)*siegeConnections), "the coalition's own machine refused: nothing was shown")
	f.Demand(f.agentMemory() < memory+moreAgentMemory, "an agent has %d MB", f.agentMemory())
	for _, d := range diaries {
		d.end()
		d.never(f)
	}
	p.herald.line(ctx)
	return nil
}

// surrounds takes all places of two agents and walls a third in, while the others are away
// as after an outage of theirs, and gives how long after those came back gossip took to
// reach both.
func (s *siege) surrounds(ctx, sieging context.Context, served, cut, walled *agentProcess) (time.Duration, error) {
	for _, a := range s.agents[:3] {
		if err := s.endAgent(a, syscall.SIGTERM); err != nil {
			return 0, err
		}
	}
	s.begin(sieging, served, cut) // it knocks before they are there again
	var contacts []*node
	for k := 0; k < len(s.hosts); k += len(s.hosts) / siegeContacts {
		contacts = append(contacts, s.hosts[k].node)
	}
	for a, in := range map[*agentProcess]situation{
		served: {servers: s.serversOf(served), peers: contacts},
		cut:    {peers: contacts},
		walled: {peers: contacts, moved: true},
	} {
		if err := s.restart(a, in); err != nil {
			return 0, err
		}
	}
	if err := s.complete(ctx, served, cut); err != nil {
		return 0, err
	}
	s.Says("attackers", "%d hosts of %d operators, each from its own address; when the others come they hold %d connections of %s and %d of %s, after %d attempts; they tell each of three false addresses of every honest member; %d strangers try too",
		len(s.hosts), colluders, s.holds(served), served.name, s.holds(cut), cut.name, s.tries.Load(), strangers)
	began := time.Now()
	for _, a := range s.agents[:3] {
		if err := s.startAgent(a); err != nil {
			return 0, err
		}
	}
	err := s.herald.rewarm(ctx)
	return time.Since(began), err
}
