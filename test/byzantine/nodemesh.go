package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// scene of the attacks by gossip: the first node attacks, the second is the
// herald, the others run agents.
func (f *fleet) cast(ctx context.Context, prepare ...func()) (bad *node, h *herald, quiet func(), err error) {
	bad = f.nodes[0]
	f.attackers(bad)
	if err := f.startAgents(ctx, bad, f.nodes[1]); err != nil {
		return nil, nil, nil, err
	}
	for _, p := range prepare {
		p() // before anything is measured: it takes the machine
	}
	h, quiet, err = f.announce(ctx, f.nodes[1])
	return bad, h, quiet, err
}

// raid is an attack by gossip: the attacker's host is in every agent's mesh and answers
// probes, the herald speaks meanwhile, and what agents ruled before is known.
type raid struct {
	*fleet
	bad     *node
	herald  *herald
	rogue   *rogue
	ids     map[*agentProcess]peer.ID
	rulings map[string]int
	quiet   func() // ends the herald
}

// raids begins one. Its end is the caller's.
func (f *fleet) raids(ctx context.Context, prepare ...func()) (*raid, error) {
	r := &raid{fleet: f}
	var err error
	if r.bad, r.herald, r.quiet, err = f.cast(ctx, prepare...); err != nil {
		return nil, err
	}
	if r.rogue, r.ids, err = f.rogueOf(ctx, r.bad); err != nil {
		r.quiet()
		return nil, err
	}
	f.acknowledges(r.rogue, r.bad)
	r.rulings = f.ruled(ctx)
	return r, nil
}

func (r *raid) end() {
	r.rogue.close()
	r.quiet()
}

// tells gossips frames to an agent alone, and reports whether the connection took them.
func (r *raid) tells(ctx context.Context, a *agentProcess, frames ...[]byte) bool {
	return r.rogue.gossip(ctx, r.ids[a], frames...) == nil
}

// result says what agents' rules saw of it, and how the herald fared.
func (r *raid) result(ctx context.Context) {
	r.saysRulings(ctx, r.rulings)
	r.herald.line(ctx)
}

// saysRulings prints which of the agents' rules saw something since before.
func (f *fleet) saysRulings(ctx context.Context, before map[string]int) {
	after := f.ruled(ctx)
	delete(after, "good")
	delete(after, "replayed")
	f.Says("agents", "refused by rule: %s", reasonsOf(after, before))
}

// reasonsOf lists what was counted since before.
func reasonsOf(after, before map[string]int) string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(after)) {
		if n := after[reason] - before[reason]; n > 0 {
			list = append(list, fmt.Sprintf("%s (%d×)", reason, n))
		}
	}
	return strings.Join(list, ", ")
}

// equivocatedByGossip gives each half of the agents another statement under one
// seq, and then goes on speaking as if nothing were.
func equivocatedByGossip(ctx context.Context, f *fleet) error {
	r, err := f.raids(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	r.herald.enter("during")
	seq := uint64(0)
	halves := [2][]byte{
		f.states(r.bad, ledger.TypeObserve, f.observation(r.bad, ledger.LinkUp, f.agents[0].name), atSeq(seq)),
		f.states(r.bad, ledger.TypeObserve, f.observation(r.bad, ledger.LinkDown, f.agents[1].name), atSeq(seq)),
	}
	begin := time.Now()
	told := 0
	for i, a := range f.agents { // the first ones may have dropped it before the last is told
		if r.tells(ctx, a, halves[i%2]) {
			told++
		}
	}
	f.Demand(told >= 2, "%d agents were told", told)
	sent, tried := r.chatters(ctx, 1)
	sum, err := f.aftermath(ctx, r.bad.name, begin)
	if err != nil {
		return err
	}
	f.Says("attacker", "%s gives each half of %d agents another statement under seq 0, then tries to send %d more, of which its connections take %d", r.bad.name, len(f.agents), tried, sent)
	f.Says("detected", "equivocation, by every agent itself: dropped after p50 %s, p99 %s; of %d frames that it made after that and they looked at, %d were let pass",
		percentile(sum.dropped, 50), percentile(sum.dropped, 99), sum.judged, sum.accepted)
	f.Demand(sum.accepted == 0, "%d frames of the offender were let pass after it was dropped", sum.accepted)
	f.Demand(percentileOf(sum.dropped, 99) < dropBound, "an agent dropped it after %s", percentile(sum.dropped, 99))
	out, err := f.dropped(ctx, r.bad.name, fsm.NodeExcluded, begin)
	if err != nil {
		return err
	}
	excluded, err := f.audit.awaitEffect(ctx, fsm.EffectExcluded, r.bad.name)
	if err != nil {
		return err
	}
	f.Says("ledger", "excluded, entry %d, caused by %v; at every replica, certified, after %s", excluded.seq, excluded.causes, out.Round(time.Millisecond))
	if err := f.Await(ctx, "every agent has cut the connection", func() bool {
		for _, id := range r.ids {
			if r.rogue.connected(id) {
				return false
			}
		}
		return true
	}); err != nil {
		return err
	}
	f.Says("agents", "all have closed its connections after %s", time.Since(begin).Round(time.Millisecond))
	r.quiet()
	r.result(ctx)
	return nil
}

// chatters has the attacker go on speaking to each agent for a while, and counts what
// it sent.
func (r *raid) chatters(ctx context.Context, first uint64) (sent, tried int) {
	ctx, cancel := context.WithTimeout(ctx, chatterTime)
	defer cancel()
	var tries, done, seq atomic.Int64
	seq.Store(int64(first))
	var wait sync.WaitGroup
	for _, a := range r.agents {
		wait.Go(func() {
			for ctx.Err() == nil {
				tries.Add(1)
				s := uint64(seq.Add(1)) % r.quota // in the end seqs come again, which is as bad
				if r.tells(ctx, a, r.states(r.bad, ledger.TypeObserve, r.observation(r.bad, ledger.LinkUp, a.name), atSeq(s))) {
					done.Add(1)
				}
				time.Sleep(chatterPace)
			}
		})
	}
	wait.Wait()
	return int(done.Load()), int(tries.Load())
}

// forgedByGossip sends every agent what its author never said.
func forgedByGossip(ctx context.Context, f *fleet) error {
	r, err := f.raids(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	victim := f.agents[0].node
	forged, sent := map[string]bool{}, 0
	r.herald.enter("during")
	for round := range gossipRounds {
		for _, messages := range f.forgedGossip(r.bad, victim, uint64(round)) {
			if st, err := ledger.ParseStatement(messages); err == nil {
				forged[st.ID.String()] = true
			}
			for _, a := range f.agents {
				if r.tells(ctx, a, messages) {
					sent++
				}
			}
		}
	}
	r.quiet()
	judged, accepted := 0, 0
	for _, a := range f.agents {
		list, err := a.saw()
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.From == hexOf(r.bad.peer) {
				judged++
			}
			if forged[s.ID] && s.Verdict == "accept" {
				accepted++
			}
		}
	}
	f.Says("attacker", "%s sends %d frames: in %s's name under its own key, with signatures that are zeroed or of another, of other ledgers, generations, epochs and channels, rubbish, and evidence that proves nothing", r.bad.name, sent, victim.name)
	f.Says("detected", "%d of them were looked at before the hop was out of favour; %d let pass", judged, accepted)
	r.saysRulings(ctx, r.rulings)
	f.Demand(accepted == 0, "forged statements were let pass")
	f.Demand(sent > 0 && judged > 0, "nothing was shown")
	f.Demand(f.audit.standing(victim.name) == fsm.NodeActive, "the victim is %s", f.audit.standing(victim.name))
	r.herald.line(ctx)
	return nil
}

// forgedGossip is one of each kind, each time others.
func (f *fleet) forgedGossip(bad, victim *node, round uint64) [][]byte {
	seq := 1000 + round
	link := func(n *node) ledger.Observe { return f.observation(n, ledger.LinkDown, f.agents[1].name) }
	epoch := f.audit.epoch()
	p := f.payload(victim.name, ledger.TypeObserve)
	p.Epoch, p.Seq = &epoch, &seq
	foreign := f.sign(bad.key, p, link(victim))
	own := func(change ...func(*ledger.Payload)) []byte {
		p := f.payload(bad.name, ledger.TypeObserve)
		p.Epoch, p.Seq = &epoch, &seq
		for _, c := range change {
			c(&p)
		}
		return f.sign(bad.key, p, link(bad))
	}
	rubbish := make([]byte, 3000)
	_, _ = rand.Read(rubbish)
	return [][]byte{
		foreign,
		rewrapped(f.sign(victim.key, p, link(victim)), func(b []byte) { clear(b) }),
		rewrapped(f.sign(victim.key, p, link(victim)), func(b []byte) { copy(b, foreign[len(foreign)-signatureBytes:]) }),
		own(func(p *ledger.Payload) { p.Ledger[0] ^= 1 }),
		own(func(p *ledger.Payload) { p.Generation = 3 }),
		own(atEpoch(epoch + 5)),
		f.states(bad, ledger.TypeRecord, text("not for this topic"), atSeq(seq)),
		f.brings(bad, ledger.EvidenceEquivocation, foreign, foreign),
		rubbish,
	}
}

// signObservations fills a list with observations of a node, under the seqs from
// 0 on.
func (f *fleet) signObservations(bad *node, statements [][]byte) {
	var wait sync.WaitGroup
	var at atomic.Int64
	for range 2 {
		wait.Go(func() {
			for i := at.Add(1) - 1; i < int64(len(statements)); i = at.Add(1) - 1 {
				statements[i] = f.states(bad, ledger.TypeObserve, f.observation(bad, ledger.LinkUp, f.nodes[2+i%int64(len(f.nodes)-2)].name), atSeq(uint64(i)))
			}
		})
	}
	wait.Wait()
}

// floodedByGossip sends every agent a hundred times what it may say.
func floodedByGossip(ctx context.Context, f *fleet) error {
	statements := make([][]byte, 100*fleetQuota)
	r, err := f.raids(ctx, func() { f.signObservations(f.nodes[0], statements) })
	if err != nil {
		return err
	}
	defer r.end()
	unjudged := f.unjudged(ctx)
	r.herald.enter("during")
	begin := time.Now()
	sent := 0
	for i := 0; i < len(statements); i += floodFrame {
		for _, a := range f.agents {
			if r.tells(ctx, a, statements[i:min(i+floodFrame, len(statements))]...) {
				sent += floodFrame
			}
		}
	}
	took := time.Since(begin)
	offence, err := f.audit.awaitEffect(ctx, fsm.EffectOffence, r.bad.name)
	if err != nil {
		return err
	}
	punished := time.Since(begin)
	r.quiet()
	accepted, worst := 0, 0
	for _, a := range f.agents {
		list, err := a.saw()
		if err != nil {
			return err
		}
		n := 0
		for _, s := range list {
			if s.Author == r.bad.name && s.Verdict == "accept" {
				n++
			}
		}
		accepted, worst = accepted+n, max(worst, n)
	}
	f.Says("attacker", "%s sends %d frames to %d agents in %.1f s: %d statements, the quota is %d", r.bad.name, sent, len(f.agents), took.Seconds(), len(statements), fleetQuota)
	f.Says("detected", "flood, by the agents themselves: offence at entry %d, caused by %v, certified %s after the first frame; reputation %d", offence.seq, offence.causes, punished.Round(time.Millisecond), f.audit.reputation(r.bad.name))
	f.Says("agents", "let %d of its statements pass at most, each; dropped before any rule: %s", worst, reasonsOf(f.unjudged(ctx), unjudged))
	r.saysRulings(ctx, r.rulings)
	f.Demand(worst <= fleetQuota, "an agent let %d statements pass, the quota is %d", worst, fleetQuota)
	f.Demand(accepted > 0, "nothing was let pass: nothing was shown")
	r.herald.line(ctx)
	return nil
}

// malformed sends what no parser should choke on.
func malformed(ctx context.Context, f *fleet) error {
	bad, h, quiet, err := f.cast(ctx)
	if err != nil {
		return err
	}
	defer quiet()
	before := f.agentMemory()
	h.enter("during")
	sent := 0
	huge := bytes.Repeat([]byte{0xab}, 1<<20)
	for range malformedRounds {
		r, ids, err := f.rogueOf(ctx, bad)
		if err != nil {
			break // its rate of handshakes is used up: that is an answer too
		}
		for _, a := range f.agents {
			to := ids[a]
			for _, b := range [][]byte{
				binary.AppendUvarint(nil, 1<<40), // a frame of a terabyte
				append(binary.AppendUvarint(nil, 1<<20), huge...),
				append(binary.AppendUvarint(nil, 64), huge[:64]...),
				bytes.Repeat([]byte{0xff}, 4096),
			} {
				if r.raw(ctx, to, b) == nil {
					sent++
				}
			}
			if r.gossip(ctx, to, huge[:200_000]) == nil {
				sent++
			}
			for _, p := range []protocol.ID{probeProtocol, syncProtocol, "/quorate/peers/1"} {
				for _, b := range [][]byte{{0xff, 0xff, 0xff, 0xff}, request(huge[:9000]), request(nil), {0, 0}, huge} {
					_, _ = r.ask(ctx, to, p, b)
					sent++
				}
			}
		}
		r.close()
	}
	quiet()
	f.Says("attacker", "%s sends %d oversized and malformed frames, over gossip and the protocols of request and answer", bad.name, sent)
	f.Says("agents", "memory %d MB at most, %d before; all run", f.agentMemory(), before)
	f.Demand(sent > 0, "nothing was shown")
	f.Demand(f.agentMemory() < before+moreAgentMemory, "an agent has %d MB", f.agentMemory())
	h.line(ctx)
	return nil
}

// connects knocks ten thousand times at the agents' doors.
func connects(ctx context.Context, f *fleet) error {
	bad, h, quiet, err := f.cast(ctx)
	if err != nil {
		return err
	}
	defer quiet()
	before, files := f.agentMemory(), f.agentFiles()
	h.enter("during")
	begin := time.Now()
	var at, silent, greeted, let atomic.Int64
	var wait sync.WaitGroup
	dialer := &net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}}
	for range knocksAtOnce {
		wait.Go(func() {
			for i := at.Add(1); i <= knocks && ctx.Err() == nil; i = at.Add(1) {
				conn, err := dialer.DialContext(ctx, "tcp", f.agents[int(i)%len(f.agents)].address)
				if err != nil {
					continue
				}
				if i%2 == 0 {
					_, _ = conn.Write([]byte("\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n"))
					greeted.Add(1)
				} else {
					silent.Add(1)
				}
				if i%8 == 0 { // some stay until they are thrown out
					time.AfterFunc(10*time.Second, func() { _ = conn.Close() })
					continue
				}
				_ = conn.Close()
			}
		})
	}
	// Meanwhile a stranger with good manners, and a member that comes and goes.
	stranger, err := newNode("stranger", "nobody")
	if err != nil {
		return err
	}
	for i := range strangers {
		for _, n := range []*node{stranger, bad} {
			r, err := newRogue(n.peer, f.genesis.String(), "")
			if err != nil {
				return err
			}
			a := f.agents[i%len(f.agents)]
			id, err := r.meet(ctx, a.public(), a.address)
			if err == nil && n == stranger {
				// TLS lets the dialler believe that it is in; a stream shows it.
				if _, err := r.ask(ctx, id, syncProtocol, request([]byte{1})); err == nil {
					let.Add(1)
				}
			}
			r.close()
		}
	}
	wait.Wait()
	took := time.Since(begin)
	quiet()
	f.Says("attacker", "%d connections in %.1f s from one address, %d that say nothing and %d that begin and stop; %d more of a stranger, %d of %s that comes and goes", knocks, took.Seconds(), silent.Load(), greeted.Load(), strangers, strangers, bad.name)
	f.Says("agents", "let the stranger in %d times; memory %d MB at most, %d before; descriptors %d at most, %d before", let.Load(), f.agentMemory(), before, f.agentFiles(), files)
	f.Demand(let.Load() == 0, "a stranger was let in")
	f.Demand(silent.Load()+greeted.Load() >= knocks*9/10, "the attacker's own machine refused: nothing was shown")
	f.Demand(f.agentMemory() < before+moreAgentMemory, "an agent has %d MB", f.agentMemory())
	h.line(ctx)
	return nil
}

// quarantinedByGossip has a quarantined node go on gossiping.
func quarantinedByGossip(ctx context.Context, f *fleet) error {
	r, err := f.raids(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	r.herald.enter("during")
	begin := time.Now()
	if err := f.decide(ctx, "node.quarantine", map[string]string{"name": r.bad.name, "reason": "staged"}); err != nil {
		return err
	}
	sent, tried := r.chatters(ctx, 1)
	sum, err := f.aftermath(ctx, r.bad.name, begin)
	if err != nil {
		return err
	}
	// A relay that carries its words is not believed either.
	for _, a := range f.agents {
		_ = r.herald.host.gossip(ctx, r.herald.ids[a], f.states(r.bad, ledger.TypeObserve, f.observation(r.bad, ledger.LinkUp, a.name), atSeq(120)))
	}
	probe := f.states(r.bad, ledger.TypeProbe, ledger.Probe{Nonce: nonce(), Subject: f.agents[0].name, Tick: f.tick()})
	answer, err := r.rogue.ask(ctx, r.ids[f.agents[0]], probeProtocol, request(probe))
	r.quiet()
	again, err2 := f.aftermath(ctx, r.bad.name, begin)
	if err2 != nil {
		return err2
	}
	f.Says("attacker", "%s, in quarantine by decision, tries to send %d frames, of which its connections take %d, and has another node relay more", r.bad.name, tried, sent)
	f.Says("detected", "quarantined: dropped by every agent p50 %s, p99 %s after the council signed; of %d frames that it made after that and they looked at, %d were let pass", percentile(sum.dropped, 50), percentile(sum.dropped, 99), again.judged, again.accepted)
	f.Says("agents", "its probe is still answered, so that it can be seen to be well: %d bytes (%v)", len(answer), err)
	f.Demand(again.accepted == 0, "%d frames of the quarantined were let pass", again.accepted)
	r.result(ctx)
	return nil
}
