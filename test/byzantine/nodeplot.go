package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/test/freeport"
)

// plot is the scene of the attacks by a third of the operators: their nodes run no
// agents, one operator's is the herald, and the others run agents.
type plot struct {
	*fleet
	coalition []*node
	target    *node // of the coalition, and silent: the council quarantines it
	herald    *herald
	quiet     func() // ends the herald
}

// plot starts the agents and the herald, and returns when it has spoken in peace.
func (f *fleet) plot(ctx context.Context) (*plot, error) {
	f.headAge, f.servers = stageHeadAge, map[string][]string{}
	p := &plot{fleet: f, coalition: f.of(operatorsOf(colluders)...)}
	p.target = p.coalition[len(p.coalition)-1]
	f.attackers(p.coalition...)
	speaker := f.node(nodeName(colluders, 0))
	if err := f.startAgents(ctx, append(slices.Clone(p.coalition), speaker)...); err != nil {
		return nil, err
	}
	var err error
	if p.herald, p.quiet, err = f.announce(ctx, speaker); err != nil && p.quiet != nil {
		p.quiet()
	}
	return p, err
}

// insider makes the host of a node of the coalition, at its own address.
func (p *plot) insider(n *node) (*insider, error) {
	i := slices.Index(p.coalition, n)
	return p.insiderOf(n, fmt.Sprintf("127.1.%d.%d", i/200, 1+i%200))
}

// situation is what an agent is restarted in.
type situation struct {
	servers []string // replicas that it asks; nobody answers where there is none
	peers   []*node  // whose addresses it knows
	moved   bool     // to an address that others do not know
	pack    []byte   // a join pack, with which it begins on an empty disk
}

// restart ends an agent and starts it in another situation.
func (f *fleet) restart(a *agentProcess, s situation) error {
	if err := f.endAgent(a, syscall.SIGTERM); err != nil {
		return err
	}
	if len(s.servers) == 0 || s.moved {
		port, err := freeport.Find(2)
		if err != nil {
			return err
		}
		if len(s.servers) == 0 {
			s.servers = []string{fmt.Sprintf("http://127.0.0.1:%d", port)}
		}
		if s.moved {
			a.address = fmt.Sprintf("127.0.0.1:%d", port+1)
		}
	}
	if s.pack != nil {
		a.pack = "join.pack"
		if err := os.WriteFile(filepath.Join(a.dir, a.pack), s.pack, 0o600); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(a.dir, "state")); err != nil {
			return err
		}
	}
	f.servers[a.name] = s.servers
	var peers []string
	for _, n := range s.peers {
		peers = append(peers, n.name+"@"+f.ports[n.name])
	}
	if err := f.writeConfig(a, peers); err != nil {
		return err
	}
	return f.startAgent(a)
}

// nodesOfAgents lists the nodes that run agents, but for some.
func (f *fleet) nodesOfAgents(except ...*agentProcess) []*node {
	var list []*node
	for _, a := range f.agents {
		if !slices.Contains(except, a) {
			list = append(list, a.node)
		}
	}
	return list
}

// diary is what an agent said of itself over time: whether it ever went back, and how
// long it called itself stale.
type diary struct {
	agent *agentProcess

	mu      sync.Mutex
	size    uint64        // the largest
	back    []string      // how it went back
	dropped bool          // it has called the target anything but active
	stale   time.Time     // since when it has been stale; zero: it is not
	longest time.Duration // that it was stale
	headAge time.Duration // the greatest age of a head that it did not call stale
	end     func()
}

// watch keeps an agent's diary until end is called; what it says of target must
// never go back to active.
func (f *fleet) watch(ctx context.Context, a *agentProcess, target string) *diary {
	ctx, cancel := context.WithCancel(ctx)
	d := &diary{agent: a}
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			var n agent.NodeStanding // of an agent without a state: empty
			if s, err := f.agentStatus(ctx, a); err == nil && f.askAgent(ctx, a, "/v1/nodes/"+target, &n) == nil {
				d.note(s, n.Standing)
			}
			_ = pause(ctx, diaryPace)
		}
	})
	d.end = sync.OnceFunc(func() { cancel(); wait.Wait() })
	return d
}

func (d *diary) note(s *agentStatus, standing string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if s.Size < d.size {
		d.back = append(d.back, fmt.Sprintf("%s went from %d entries back to %d", d.agent.name, d.size, s.Size))
	}
	d.size = max(d.size, s.Size)
	switch {
	case standing != "" && standing != fsm.NodeActive:
		d.dropped = true
	case d.dropped:
		d.back = append(d.back, fmt.Sprintf("%s calls who is quarantined %q", d.agent.name, standing))
	}
	switch {
	case !s.Stale:
		d.stale = time.Time{}
		d.headAge = max(d.headAge, now.Sub(time.UnixMilli(int64(s.Signed))))
	case d.stale.IsZero():
		d.stale = now
	default:
		d.longest = max(d.longest, now.Sub(d.stale))
	}
}

// never demands that it did not go back.
func (d *diary) never(f *fleet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Demand(len(d.back) == 0, "%s went back %d times: %.300v", d.agent.name, len(d.back), d.back)
}

// knows says whether an agent drops a node.
func (f *fleet) knows(ctx context.Context, a *agentProcess, name, standing string) bool {
	var n agent.NodeStanding
	return f.askAgent(ctx, a, "/v1/nodes/"+name, &n) == nil && n.Standing == standing
}

// learned says how long it took, from a moment, until an agent treats a node so.
func (f *fleet) learned(ctx context.Context, a *agentProcess, name, standing string, since time.Time) (time.Duration, error) {
	err := f.Await(ctx, fmt.Sprintf("%s treats %s as %s", a.name, name, standing), func() bool { return f.knows(ctx, a, name, standing) })
	return time.Since(since), err
}

// learn has several agents waited for at once, and gives how long each took.
func (f *fleet) learn(ctx context.Context, name, standing string, since time.Time, agents ...*agentProcess) func() ([]time.Duration, error) {
	took, errs := make([]time.Duration, len(agents)), make([]error, len(agents))
	var wait sync.WaitGroup
	for k, a := range agents {
		wait.Go(func() { took[k], errs[k] = f.learned(ctx, a, name, standing, since) })
	}
	return func() ([]time.Duration, error) { wait.Wait(); return took, errors.Join(errs...) }
}

// turnsStale waits until an agent says that what it knows is old, in its status and
// beside each answer.
func (f *fleet) turnsStale(ctx context.Context, a *agentProcess) (*agentStatus, error) {
	var last *agentStatus
	err := f.Await(ctx, a.name+" says that it is stale", func() bool {
		s, err := f.agentStatus(ctx, a)
		last = s
		return err == nil && s.Stale
	})
	if err != nil {
		return last, err
	}
	_, header, err := f.callAgent(ctx, a, "/v1/quarantine")
	if err == nil && header.Get("Quorate-Stale") != "true" {
		f.Fail("%s is stale and answers as if it were not", a.name)
	}
	return last, err
}

// current waits until an agent has reached a size and is not stale.
func (f *fleet) current(ctx context.Context, a *agentProcess, size uint64) error {
	return f.Await(ctx, fmt.Sprintf("%s is current at %d entries or more", a.name, size), func() bool {
		s, err := f.agentStatus(ctx, a)
		return err == nil && !s.Stale && s.Size >= size
	})
}

// condemn has the council quarantine the target, and says when.
func (p *plot) condemn(ctx context.Context) (time.Time, error) {
	begin := time.Now()
	return begin, p.decide(ctx, "node.quarantine", map[string]string{"name": p.target.name, "reason": "staged"})
}
