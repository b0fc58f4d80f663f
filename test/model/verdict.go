package model

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/memorytest"
)

// Cause is what brings the offender down.
type Cause string

const (
	// ByEvidence: one honest agent holds two statements of the offender under one
	// seq. Whoever hears of it drops the offender at once; the ledger excludes it.
	ByEvidence Cause = "evidence"
	// ByWords: the offender sends each of its monitors a frame whose signature does
	// not verify, and each of them says node.bad; the ledger quarantines it.
	ByWords Cause = "words"
)

// Verdict is how a verdict spread. Times are from the first evidence at an
// honest agent; never: it did not happen.
type Verdict struct {
	Config      Config
	Cause       Cause
	Honest      int // agents, without the offender
	Certified   time.Duration
	Half        time.Duration // of the honest agents drop the offender
	Most        time.Duration // 99 %
	All         time.Duration
	Known       time.Duration // all of them have the certified verdict
	Left        int           // honest agents that do not drop it in the end
	Sent        float64       // bytes of an honest agent on average, in the whole run
	Received    float64
	Busiest     float64        // bytes that one honest agent sent at most
	By          [kinds]float64 // bytes sent, of Sent
	Submissions int
	Publishers  float64 // of each head
	Lost        int     // frames of gossip
}

// lasting is how long a run goes on: the slowest relay has spoken and every
// message was offered for the last time long before.
const lasting = 30 * time.Second

// prepare is how the ledger stands before a run: the offender has one minor
// offence behind it, so that one verdict of node.bad quarantines it.
func prepare(nodes int) (*book, error) {
	b, err := newBook(nodes, operatorsOf(nodes), nil)
	if err != nil {
		return nil, err
	}
	exhibit, err := b.Envelope(b.Fleet[0].Name, ledger.TypeRecord, b.State.Policy().Quota, ledger.Record{Text: "too much"})
	if err != nil {
		return nil, err
	}
	flood, err := b.Envelope("r1", ledger.TypeEvidence, 0, ledger.Evidence{Kind: ledger.EvidenceFlood, Exhibits: [][]byte{exhibit}})
	if err != nil {
		return nil, err
	}
	if err := b.Apply(ledger.CommandStatements, flood); err != nil {
		return nil, err
	}
	return b, b.Apply(ledger.CommandSeal)
}

// offender is the node that is convicted, of the first operator.
func (w *world) offender() *agent { return w.agents[0] }

// Spread runs one verdict from its first evidence on.
func Spread(config Config, cause Cause) (*Verdict, error) {
	b, err := prepare(config.Nodes)
	if err != nil {
		return nil, err
	}
	return spread(config, cause, b)
}

// spread is Spread from a ledger that it leaves as it is.
func spread(config Config, cause Cause, b *book) (*Verdict, error) {
	own := *b
	w := newWorld(config, &own)
	w.offender().silent = true
	for _, a := range w.agents {
		switch {
		case a.silent:
		case a.replica != none:
			w.clock.after(time.Duration(w.random.Int64N(int64(refreshEvery))), a.refresh)
		case !config.NoRepair:
			w.clock.after(time.Duration(w.random.Int64N(int64(peerEvery))), a.poll)
		}
	}
	first := never
	switch cause {
	case ByEvidence:
		if err := w.equivocate(); err != nil {
			return nil, err
		}
		first = 0
	case ByWords:
		first = w.misbehave()
	}
	w.clock.run(lasting, nil)
	return w.verdict(cause, first), nil
}

// equivocate gives one honest agent two statements of the offender.
func (w *world) equivocate() error {
	var honest []*agent
	for _, a := range w.agents {
		if !a.silent {
			honest = append(honest, a)
		}
	}
	a := honest[w.random.IntN(len(honest))]
	tick := w.book.Now / a.view().rules.TickMillis
	for _, kind := range [...]string{ledger.NodeDown, ledger.NodeUp} {
		body := ledger.Observe{Counter: 1, From: tick, Kind: kind, Subject: a.member.Name, To: tick}
		envelope, err := w.book.Envelope(w.offender().member.Name, ledger.TypeObserve, 7, body)
		if err != nil {
			return err
		}
		if _, ruling := a.judge.Statement(a.view(), memorytest.Trusting{}, gossip.Statements, envelope); ruling.Proof != nil {
			a.enforce()
			a.say(ledger.TypeEvidence, ruling.Proof.Evidence)
			return nil
		}
	}
	return fmt.Errorf("%v: two statements under one seq prove nothing", w.config)
}

// misbehave has the offender send a false frame to each of its monitors, and
// gives when the first honest one has it.
func (w *world) misbehave() time.Duration {
	byName := map[string]*agent{}
	for _, a := range w.agents {
		byName[a.member.Name] = a
	}
	state := w.book.State
	n, _ := state.Node(w.offender().member.Name)
	first := never
	for _, m := range state.Monitors(&n, state.Epoch(), state.Electorate()) {
		a := byName[m.Node]
		if a.silent {
			continue
		}
		at := w.net.travel(w.offender().number, a.number)
		if first == never || at < first {
			first = at
		}
		w.clock.at(at, func() {
			tick := w.stamp() / a.view().rules.TickMillis
			a.say(ledger.TypeObserve, ledger.Observe{
				Cause: ledger.CauseInvalid, Counter: a.seq + 1, From: tick, Kind: ledger.NodeBad, Subject: n.Name, To: tick,
			})
		})
	}
	return first
}

func (w *world) verdict(cause Cause, first time.Duration) *Verdict {
	v := &Verdict{Config: w.config, Cause: cause, Certified: never, Submissions: w.core.submissions, Lost: w.net.lost}
	var enforcing, certain []time.Duration
	for i, a := range w.agents {
		if a.silent {
			continue
		}
		v.Honest++
		if a.enforcing != never {
			enforcing = append(enforcing, a.enforcing-first)
		}
		if a.certain != never {
			certain = append(certain, a.certain-first)
		}
		sent := 0.0
		for k := range refreshing { // what costs as much without a verdict is left out
			sent += float64(w.net.sent[i][k])
			v.By[k] += float64(w.net.sent[i][k])
			v.Received += float64(w.net.received[i][k])
		}
		v.Sent += sent
		v.Busiest = max(v.Busiest, sent)
	}
	v.Sent, v.Received = v.Sent/float64(v.Honest), v.Received/float64(v.Honest)
	for k := range v.By {
		v.By[k] /= float64(v.Honest)
	}
	v.Left = v.Honest - len(enforcing)
	slices.Sort(enforcing)
	slices.Sort(certain)
	at := func(list []time.Duration, share int) time.Duration {
		if n := (v.Honest*share + 99) / 100; n <= len(list) {
			return list[n-1]
		}
		return never
	}
	v.Half, v.Most, v.All, v.Known = at(enforcing, 50), at(enforcing, 99), at(enforcing, 100), at(certain, 100)
	for _, one := range w.core.versions[1:] {
		n, _ := one.view.state.Node(w.offender().member.Name)
		if n.Standing != gossip.Active {
			v.Certified = one.at - first
			break
		}
	}
	v.Publishers = float64(w.published) / float64(max(len(w.headOf), 1))
	return v
}

// String is a line of the table.
func (v *Verdict) String() string {
	loss, who := fmt.Sprintf("%g %%", 100*v.Config.Loss), "none"
	if v.Config.Withholding {
		who = "a third"
	}
	return fmt.Sprintf("| %d | %s | %s | %s | %s | %s | %s | %s | %s | %d | %s / %s | %s |", v.Config.Nodes, v.Cause, loss, who,
		inMillis(v.Certified), inMillis(v.Half), inMillis(v.Most), inMillis(v.All), inMillis(v.Known), v.Left,
		kilobytes(v.Sent), kilobytes(v.Received), kilobytes(v.Busiest))
}

// VerdictColumns heads the lines of a table of verdicts.
const VerdictColumns = `| nodes | by | loss | withhold | certified, ms | 50 % drop, ms | 99 % | all | all know the verdict | left | kB sent / received a node | most sent by one, kB |
|---|---|---|---|---|---|---|---|---|---|---|---|`

func inMillis(d time.Duration) string {
	if d == never {
		return "never"
	}
	return fmt.Sprintf("%d", d.Milliseconds())
}

func kilobytes(bytes float64) string { return fmt.Sprintf("%.1f", bytes/1_000) }
