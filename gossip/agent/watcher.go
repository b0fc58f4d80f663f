package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// watcher probes whom this node watches, answers probes, and says what it saw:
// package gossip's Prober with a clock, a network and a key.
type watcher struct {
	agent *Agent

	mu       sync.Mutex // guards what follows
	prober   *gossip.Prober
	epoch    uint64 // of the duties
	size     uint64 // of the view that they were drawn from
	duties   gossip.Assignment
	blamed   map[string]bool // hops complained of in this epoch
	attested uint64          // windows that begin before this epoch were attested
}

func newWatcher(a *Agent) *watcher {
	return &watcher{agent: a}
}

// run begins every tick.
func (w *watcher) run(ctx context.Context) error {
	var probing errgroup.Group
	probing.SetLimit(probesAtOnce)
	defer probing.Wait() //nolint:errcheck // the functions return nil
	for {
		view := w.agent.view.Load().certified
		changed := w.agent.changed.wait()
		if view == nil || view.State.Meta().Format < 2 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			case <-time.After(time.Second):
			}
			continue
		}
		tickTime := time.Duration(view.Rules().TickMillis) * time.Millisecond
		now := time.Now()
		tick := uint64(now.UnixMilli()) / view.Rules().TickMillis
		begun := time.UnixMilli(int64(tick * view.Rules().TickMillis))
		for probes := range slices.Chunk(w.tick(view, tick), ledger.MaxProbeSubjects) {
			shared := w.challenge(probes)
			for _, p := range probes {
				at := begun.Add(tickTime * time.Duration(p.Offset) >> 16)
				if err := sleep(ctx, time.Until(at)); err != nil {
					return err
				}
				probing.Go(func() error { w.probe(ctx, p, shared); return nil })
			}
		}
		if err := sleep(ctx, time.Until(begun.Add(tickTime))); err != nil {
			return err
		}
	}
}

// begin makes the prober, with what an earlier life vowed, once the length of a
// tick is known. The lock is held.
func (w *watcher) begin(view *certified) {
	if w.prober == nil {
		acked, accused := w.agent.identity.Load().seqs.Ticks(view.Rules().TickMillis)
		w.prober = gossip.NewProber(w.agent.config.Name, gossip.NewVows(acked, accused))
	}
}

// tick takes new duties if there are, says what is to be said, and gives the
// probes to send.
func (w *watcher) tick(view *certified, tick uint64) []gossip.Probe {
	w.mu.Lock()
	rules := view.Rules()
	w.begin(view)
	if w.size != view.Size || w.epoch != rules.Epoch {
		if w.epoch != rules.Epoch {
			w.blamed = nil
		}
		w.duties = gossip.Assign(view, w.agent.config.Name, rules.Epoch, w.agent.config.Gossip.Links)
		w.prober.Assign(w.duties)
		w.size, w.epoch = view.Size, rules.Epoch
	}
	probes, words := w.prober.Tick(view, tick)
	var attest *ledger.Attest
	if first, drawn := view.AttestWindow(w.agent.config.Name); drawn && first+1 > w.attested && w.late(&rules) {
		w.attested = first + 1
		if a, ok := gossip.Attestation(view, w.agent.config.Name, w.prober.Watched); ok {
			attest = a
		}
	}
	w.mu.Unlock()
	for _, o := range words {
		w.agent.out.observe(o)
	}
	if attest != nil {
		if err := w.agent.out.say(ledger.TypeAttest, func(uint64) any { return attest }); err != nil {
			w.agent.logger.Warn("nothing was attested", "error", err)
		}
	}
	return probes
}

// late spreads the attestations of a fleet over an epoch: by the node's key.
func (w *watcher) late(rules *gossip.Rules) bool {
	meta := w.agent.view.Load().State.Meta()
	share := rules.EpochMillis / 2 * uint64(w.agent.identity.Load().active[0]) / 256
	return uint64(time.Now().UnixMilli()) >= meta.EpochStart+share
}

// challenge gives the statement that asks all subjects of probes, of one tick. It is
// signed when the first of them is asked: a signature costs more than all else that
// a probe does.
func (w *watcher) challenge(probes []gossip.Probe) func() (*ledger.Statement, error) {
	return sync.OnceValues(func() (*ledger.Statement, error) {
		return w.agent.out.sign(ledger.TypeProbe, func(uint64) any {
			body := ledger.Probe{Nonce: make([]byte, ledger.ProbeNonceBytes), Tick: probes[0].Tick}
			_, _ = rand.Read(body.Nonce) // never fails
			if len(probes) == 1 {
				body.Subject = probes[0].Subject
				return body
			}
			for _, p := range probes {
				body.Subjects = append(body.Subjects, p.Subject)
			}
			slices.Sort(body.Subjects)
			return body
		})
	})
}

// probe asks a node for an ack: by the shared challenge, or by one of its own if its
// program may not know of any other.
func (w *watcher) probe(ctx context.Context, p gossip.Probe, shared func() (*ledger.Statement, error)) {
	a := w.agent
	view := a.view.Load()
	n, ok := view.State.Node(p.Subject)
	if !ok {
		return
	}
	challenge := shared
	if !a.mesh.SharesProbes(n.Peer) {
		challenge = w.challenge([]gossip.Probe{p})
	}
	st, err := challenge()
	if err != nil {
		return // what was not asked is not missed
	}
	w.mu.Lock()
	w.prober.Sent(p.Subject, p.Tick, st.ID)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	ack, err := a.mesh.Probe(ctx, ed25519.PublicKey(n.Peer), st.Envelope)
	if err == nil {
		err = w.acked(p.Subject, ack)
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		w.mu.Lock()
		w.prober.Missed(p.Subject, st.ID)
		w.mu.Unlock()
	}
	a.metrics.probed(err == nil, time.Since(began))
}

var errNoAck = errors.New("the answer is no ack of this probe")

func (w *watcher) acked(subject string, envelope []byte) error {
	c, ruling := w.agent.judge.rule(gossip.Acks, envelope)
	if ruling.Reason != gossip.Good || c.Statement.Payload.Author != subject {
		return errNoAck
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.prober.Answered(subject, c.Ack) {
		return errNoAck
	}
	return nil
}

// accused looks whether somebody who is accused is one that we reach.
func (w *watcher) accused(view *certified, o *ledger.Observe) {
	if o.Kind != ledger.NodeDown {
		return
	}
	w.mu.Lock()
	w.begin(view)
	word, ok := w.prober.Accused(view, o.Subject, o.From, o.To)
	w.mu.Unlock()
	if ok {
		w.agent.out.observe(word)
	}
}

// blame takes note of a frame that no honest relay lets pass. A hop that this node is
// drawn to watch is complained of, once an epoch: GossipSub hears no more than a
// few such frames of one peer.
func (w *watcher) blame(hop, cause string) {
	w.mu.Lock()
	watched := w.prober != nil && slices.ContainsFunc(w.duties.Subjects, func(d gossip.Duty) bool { return d.Name == hop })
	if !watched || w.duties.Bootstrap {
		w.mu.Unlock()
		return
	}
	complain := !w.blamed[hop]
	if w.blamed == nil {
		w.blamed = map[string]bool{}
	}
	w.blamed[hop] = true
	w.prober.Complain(hop)
	w.mu.Unlock()
	view := w.agent.view.Load().certified
	if !complain || view == nil {
		return
	}
	tick := uint64(time.Now().UnixMilli()) / view.Rules().TickMillis
	w.agent.out.observe(ledger.Observe{Kind: ledger.NodeBad, Cause: cause, Subject: hop, From: tick, To: tick})
}

// Probe implements mesh.Judge: it answers a probe.
func (j *judge) Probe(from mesh.Member, envelope []byte) ([]byte, error) {
	c, ruling := j.rule(gossip.Probes, envelope)
	j.agent.metrics.ruled("probes", ruling.Reason)
	if ruling.Reason != gossip.Good {
		return nil, errors.New(string(ruling.Reason))
	}
	if c.Statement.Payload.Author != from.Name {
		return nil, errors.New(string(gossip.NotItsOwn))
	}
	view := j.agent.view.Load().certified
	now := uint64(time.Now().UnixMilli()) / view.Rules().TickMillis
	w := j.agent.watch
	w.mu.Lock()
	w.begin(view)
	may := w.prober.Acknowledge(from.Name, c.Probe.Tick, now)
	w.mu.Unlock()
	if !may {
		return nil, errors.New("not for that tick")
	}
	st, err := j.agent.out.sign(ledger.TypeAck, func(uint64) any {
		return ledger.Ack{Challenge: c.Statement.ID, Prober: from.Name, Tick: c.Probe.Tick}
	})
	if err != nil {
		return nil, err
	}
	return st.Envelope, nil
}

// brought reports whether evidence of an offence is on its way.
func (j *judge) brought(offence *ledger.Offence) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rules.Brought(offence)
}

// own takes note of a statement that we signed, as others will. offence is what it
// is evidence of, nil for all else.
func (j *judge) own(st *ledger.Statement, offence *ledger.Offence) {
	view := j.agent.view.Load().certified
	rules := view.Rules()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rules.Advance(rules.Epoch)
	j.rules.Note(&rules, st)
	if offence != nil {
		j.rules.Bring(offence)
	}
}
