package model

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/memorytest"
)

// Rest is what a node costs while nothing happens: probes, heads that are signed
// anew, attestations, and what they add to the ledger. Rates are of a node on
// average, on the wire.
type Rest struct {
	Nodes, Operators int
	Seed             uint64
	Subjects         float64 // of a node
	MostSubjects     int
	Probes           float64 // that a node sends in an epoch
	MostProbes       int
	Attestations     float64 // of the fleet, a day
	Sent, Received   float64 // bytes a second
	By               [kinds]float64
	Accused          int // observations: nobody is down, so none is made
}

// resting is how long a fleet is watched.
const resting = 120 * time.Second

// AtRest runs a fleet at rest.
func AtRest(nodes int, seed uint64) (*Rest, error) {
	r, err := newRest(nodes, seed)
	if err != nil {
		return nil, err
	}
	for _, a := range r.w.agents {
		r.w.clock.after(time.Duration(r.w.random.Int64N(int64(refreshEvery))), a.refresh)
	}
	r.attest()
	r.tick()
	r.w.clock.run(resting, nil)
	return r.finish(), nil
}

// Duties gives what a node of a fleet is to do, and runs nothing.
func Duties(nodes int, seed uint64) (*Rest, error) {
	r, err := newRest(nodes, seed)
	if err != nil {
		return nil, err
	}
	return r.out, nil
}

func newRest(nodes int, seed uint64) (*rest, error) {
	b, err := newBook(nodes, operatorsOf(nodes), nil)
	if err != nil {
		return nil, err
	}
	w := newWorld(Config{Nodes: nodes, Seed: seed}, b)
	r := &rest{w: w, out: &Rest{Nodes: nodes, Operators: w.operators, Seed: seed}, byName: map[string]int{}}
	for i, a := range w.agents {
		r.byName[a.member.Name] = i
	}
	r.assign()
	return r, nil
}

// rest is a fleet at rest under way.
type rest struct {
	w      *world
	out    *Rest
	byName map[string]int
	duties []gossip.Assignment
	prober []*gossip.Prober
	asked  uint64
	probe  int // bytes of one, and of its answer
	ack    int
}

// aroundProbe is bytes of the stream that carries a probe or its answer: its
// protocol's name, lengths, yamux's frames of opening and closing.
const aroundProbe = 90

// assign gives every node its duties: package gossip's own.
func (r *rest) assign() {
	view := r.w.agents[0].view()
	epoch, ticks := view.rules.Epoch, view.rules.EpochTicks()
	for _, a := range r.w.agents {
		duties := gossip.Assign(view, a.member.Name, epoch, nil)
		prober := gossip.NewProber(a.member.Name, gossip.NewVows(0, 0))
		prober.Assign(duties)
		r.duties, r.prober = append(r.duties, duties), append(r.prober, prober)
		sent := 0
		for i := range duties.Subjects {
			for tick := range ticks {
				if duties.Subjects[i].Due(tick) {
					sent++
				}
			}
		}
		r.out.Subjects += float64(len(duties.Subjects)) / float64(len(r.w.agents))
		r.out.Probes += float64(sent) / float64(len(r.w.agents))
		r.out.MostSubjects, r.out.MostProbes = max(r.out.MostSubjects, len(duties.Subjects)), max(r.out.MostProbes, sent)
	}
}

// tick has every prober do what is due, each ten seconds.
func (r *rest) tick() {
	view := r.w.agents[0].view()
	length := time.Duration(view.rules.TickMillis) * time.Millisecond
	tick := r.w.stamp() / view.rules.TickMillis
	for i, p := range r.prober {
		probes, words := p.Tick(r.w.agents[i].view(), tick)
		r.out.Accused += len(words)
		for _, one := range probes {
			r.w.clock.after(length*time.Duration(one.Offset)>>16, func() { r.send(i, one) })
		}
	}
	r.w.clock.after(length, r.tick)
}

// judged is how many probes go by for one whose statements are made and judged
// for real; the others are as long.
const judged = 64

func (r *rest) send(from int, p gossip.Probe) {
	r.asked++
	challenge := ledger.LeafHash(fmt.Append(nil, "challenge ", r.asked))
	if r.asked%judged == 1 {
		challenge = r.measure(from, p)
	}
	to := r.byName[p.Subject]
	r.prober[from].Sent(p.Subject, p.Tick, challenge)
	r.w.net.carry(from, to, r.probe+aroundProbe, probes, func() {
		now := r.w.stamp() / r.w.agents[to].view().rules.TickMillis
		if !r.prober[to].Acknowledge(r.w.agents[from].member.Name, p.Tick, now) {
			return
		}
		r.w.net.carry(to, from, r.ack+aroundProbe, probes, func() {
			ack := &ledger.Ack{Challenge: challenge, Prober: r.w.agents[from].member.Name, Tick: p.Tick}
			r.prober[from].Answered(p.Subject, ack)
		})
	})
}

// measure makes a probe and its ack, and has both judged.
func (r *rest) measure(from int, p gossip.Probe) ledger.Hash {
	a, b := r.w.agents[from], r.w.agents[r.byName[p.Subject]]
	probe := r.say(a, ledger.TypeProbe, ledger.Probe{Nonce: make([]byte, 16), Subject: p.Subject, Tick: p.Tick})
	ack := r.say(b, ledger.TypeAck, ledger.Ack{Challenge: probe.ID, Prober: a.member.Name, Tick: p.Tick})
	_, asked := b.judge.Statement(b.view(), memorytest.Trusting{}, gossip.Probes, probe.Envelope)
	_, answered := a.judge.Statement(a.view(), memorytest.Trusting{}, gossip.Acks, ack.Envelope)
	if asked.Reason != gossip.Good || answered.Reason != gossip.Good {
		panic(fmt.Sprintf("a probe is %s, its ack %s", asked.Reason, answered.Reason))
	}
	r.probe, r.ack = len(probe.Envelope), len(ack.Envelope)
	return probe.ID
}

func (r *rest) say(a *agent, typ string, body any) *ledger.Statement {
	a.seq++
	envelope, err := r.w.book.Envelope(a.member.Name, typ, a.seq, body)
	if err != nil {
		panic(err)
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		panic(err)
	}
	return st
}

// attest spreads the attestations of those who are drawn evenly over the window,
// as they are on average; in truth all of them come in half an epoch.
func (r *rest) attest() {
	view := r.w.agents[0].view()
	var drawn []int
	for i, a := range r.w.agents {
		if _, attests := view.AttestWindow(a.member.Name); attests {
			drawn = append(drawn, i)
		}
	}
	window := time.Duration(view.rules.EpochMillis*view.rules.Protection.AttestEpochs) * time.Millisecond
	r.out.Attestations = float64(len(drawn)) * float64(24*time.Hour) / float64(window)
	if len(drawn) == 0 {
		return
	}
	every := window / time.Duration(len(drawn))
	for k, i := range drawn {
		a, duties := r.w.agents[i], r.duties[i]
		r.w.clock.after(every*time.Duration(k)+every/2, func() {
			watched := func(uint64) (clean, cause []string) {
				for _, d := range duties.Subjects {
					clean = append(clean, d.Name)
				}
				return clean, nil
			}
			if body, ok := gossip.Attestation(a.view(), a.member.Name, watched); ok {
				a.say(ledger.TypeAttest, body)
			}
		})
	}
}

func (r *rest) finish() *Rest {
	net := r.w.net
	for i := range r.w.agents {
		for k := range kinds {
			r.out.By[k] += float64(net.sent[i][k])
			r.out.Received += float64(net.received[i][k])
		}
	}
	per := resting.Seconds() * float64(len(r.w.agents))
	r.out.Received /= per
	for k := range r.out.By {
		r.out.By[k] /= per
		r.out.Sent += r.out.By[k]
	}
	if refused := r.w.codes; len(refused) > 1 || refused[fsm.OK] == 0 && len(refused) > 0 {
		panic(fmt.Sprintf("the rules refuse what is said at rest: %v", refused))
	}
	return r.out
}

// RestColumns heads the lines of a table of fleets at rest.
const RestColumns = `| nodes | subjects (most) | probes an epoch (most) | attestations a day | sent / received a node, kB/s | of it sent as probes, statements, heads, control, following and submitting |
|---|---|---|---|---|---|`

// String is a line of the table.
func (r *Rest) String() string {
	k := func(bytes float64) string { return fmt.Sprintf("%.2f", bytes/1_000) }
	return fmt.Sprintf("| %d | %.1f (%d) | %.0f (%d) | %.0f | %s / %s | %s, %s, %s, %s, %s |", r.Nodes, r.Subjects, r.MostSubjects, r.Probes, r.MostProbes,
		r.Attestations, k(r.Sent), k(r.Received), k(r.By[probes]), k(r.By[statements]), k(r.By[heads]+r.By[refreshing]), k(r.By[control]),
		k(r.By[following]+r.By[submitting]))
}
