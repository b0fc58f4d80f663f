package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/quorate/quorate/ledger"
)

// herald is an honest node whose statements measure the gossip: it gives each to
// two agents, and the logs of all agents say when they let it pass.
type herald struct {
	f    *fleet
	node *node
	host *rogue
	ids  map[*agentProcess]peer.ID

	mu    sync.Mutex
	phase string
	said  []announcement

	missing []string        // of those that did not reach everybody
	except  []*agentProcess // do not run all the time, or are cut off, so that nothing need reach them
	from    int             // statements before this one say nothing of whether gossip reaches everybody
}

type announcement struct {
	id    string
	at    time.Time
	phase string
}

// announce begins to speak in the phase "before", and returns when that has its
// share; the function that it returns ends it.
func (f *fleet) announce(ctx context.Context, n *node) (*herald, func(), error) {
	host, ids, err := f.rogueOf(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	f.acknowledges(host, n)
	h := &herald{f: f, node: n, host: host, ids: ids, phase: warming}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { h.run(ctx) })
	end := sync.OnceFunc(func() {
		_ = f.Await(ctx, "the herald has spoken", func() bool { return h.now() != "during" || h.count("during") >= heraldShare })
		cancel()
		wait.Wait()
		host.close()
	})
	// What is said before all agents have each other's subscriptions is lost, and
	// shows nothing of an attack.
	if err = f.Await(ctx, "gossip reaches everybody", h.warm); err != nil {
		return h, end, err
	}
	h.enter("before")
	err = f.Await(ctx, "the herald has spoken", func() bool { return h.count("before") >= heraldShare })
	return h, end, err
}

// acknowledges has a host answer probes of a node as it should.
func (f *fleet) acknowledges(host *rogue, n *node) { host.answers(f.ackOf(n)) }

// ackOf makes a node's ack of a probe of it; nil of anything else.
func (f *fleet) ackOf(n *node) func(probe []byte) []byte {
	return func(probe []byte) []byte {
		st, err := ledger.ParseStatement(probe)
		if err != nil || st.Payload.Type != ledger.TypeProbe {
			return nil
		}
		body, err := ledger.DecodeBody[ledger.Probe](st)
		if err != nil || body.Subject != n.name {
			return nil
		}
		return f.states(n, ledger.TypeAck, ledger.Ack{Challenge: st.ID, Prober: st.Payload.Author, Tick: body.Tick})
	}
}

func (h *herald) run(ctx context.Context) {
	ticker := time.NewTicker(heraldPace)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if uint64(i)+heraldSpare >= h.f.quota {
			continue // it keeps to its quota
		}
		// A new subject each time: nothing that it says takes back what it said.
		subject := h.f.agents[i%len(h.f.agents)].node
		envelope := h.f.sees(h.node, ledger.LinkUp, subject.name)
		said := announcement{id: statementID(envelope).String(), at: time.Now(), phase: h.now()}
		for j := range 2 {
			_ = h.host.gossip(ctx, h.ids[h.f.agents[(i+j*3)%len(h.f.agents)]], envelope)
		}
		h.mu.Lock()
		h.said = append(h.said, said)
		h.mu.Unlock()
	}
}

func (h *herald) now() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase
}

func (h *herald) enter(phase string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = phase
}

func (h *herald) count(phase string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range h.said {
		if s.phase == phase {
			n++
		}
	}
	return n
}

// warming is the phase before anything is counted.
const warming = "warming"

// warm says whether three statements in a row have reached every agent.
func (h *herald) warm() bool {
	arrived, err := h.arrived()
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	row := 0
	for _, said := range h.said[h.from:] {
		if len(arrived[said.id]) < len(h.f.agents)-len(h.except) {
			row = 0
			continue
		}
		if row++; row == 3 {
			return true
		}
	}
	return false
}

// rewarm waits until its statements reach everybody again, after agents were
// restarted; what it says until then does not count.
func (h *herald) rewarm(ctx context.Context) error {
	h.enter(warming)
	h.mu.Lock()
	h.from = len(h.said)
	h.mu.Unlock()
	return h.f.Await(ctx, "gossip reaches everybody again", h.warm)
}

// line says how long its statements took to every agent, and demands that each
// came.
func (h *herald) line(ctx context.Context) {
	var took map[string][]time.Duration
	lost := 0
	// The last ones are on their way.
	_ = h.f.Await(ctx, "all statements have come", func() bool {
		took, lost = h.sums()
		return lost == 0
	})
	before, during := took["before"], took["during"]
	h.f.Says("honest", "%d statements by gossip to %d agents before: p50 %s p99 %s; %d during and just after: p50 %s p99 %s; %d did not reach everybody",
		len(before), len(h.f.agents)-len(h.except), percentile(before, 50), percentile(before, 99), len(during), percentile(during, 50), percentile(during, 99), lost)
	h.f.Demand(lost == 0, "honest statements were lost: %v", h.missing)
	h.f.Demand(len(during) > 0, "no honest statement was made during the attack: nothing was measured")
	h.f.Demand(percentileOf(during, 99) < trafficBound, "honest statements took longer than %s", trafficBound)
}

// arrived is when each of its statements was taken in, by statement: let pass, or found
// to be known from the ledger already.
func (h *herald) arrived() (map[string][]int64, error) {
	arrived := map[string][]int64{}
	for _, a := range h.f.agents {
		if slices.Contains(h.except, a) {
			continue
		}
		list, err := a.saw()
		if err != nil {
			return nil, err
		}
		mine := map[string]bool{}
		for _, s := range list {
			if s.Author == h.node.name && (s.Verdict == "accept" || s.Verdict == "known") && !mine[s.ID] {
				mine[s.ID] = true
				arrived[s.ID] = append(arrived[s.ID], s.At)
			}
		}
	}
	return arrived, nil
}

// sums is from the send to the last agent, by phase.
func (h *herald) sums() (map[string][]time.Duration, int) {
	arrived, err := h.arrived()
	if err != nil {
		return nil, len(h.said)
	}
	took, lost := map[string][]time.Duration{}, 0
	h.missing = nil
	want := len(h.f.agents) - len(h.except)
	for i, said := range h.said {
		if said.phase == warming {
			continue
		}
		at := arrived[said.id]
		if len(at) < want {
			lost++
			h.missing = append(h.missing, fmt.Sprintf("the %d. of %d (%s) reached %d", i+1, len(h.said), said.phase, len(at)))
			continue
		}
		last := at[0]
		for _, t := range at {
			last = max(last, t)
		}
		took[said.phase] = append(took[said.phase], time.Unix(0, last).Sub(said.at))
	}
	return took, lost
}
