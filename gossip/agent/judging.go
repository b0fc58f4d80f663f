package agent

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// judge decides about what arrives by the mesh: package gossip's rules, with
// signatures verified outside of its lock, and what follows from them.
type judge struct {
	agent *Agent
	heads *headGossip

	mu    sync.Mutex // guards rules
	rules *gossip.Judge
}

func newJudge(a *Agent) *judge {
	return &judge{agent: a, heads: newHeadGossip(), rules: gossip.NewJudge(a.config.Name, 0)}
}

var errNoState = errors.New("there is no certified state yet")

// Statement implements mesh.Judge.
func (j *judge) Statement(from mesh.Member, envelope []byte) mesh.Verdict {
	j.agent.cores.worked(time.Now())
	c, ruling := j.rule(gossip.Statements, envelope)
	if ruling.Reason == gossip.EarlyEpoch {
		if ruling.Reason = j.agent.awaitEpoch(from.Name, envelope); ruling.Reason == gossip.Good {
			c, ruling = j.rule(gossip.Statements, envelope)
		}
	}
	j.agent.metrics.ruled("statements", ruling.Reason)
	if c != nil && ruling.Reason == gossip.Good {
		j.agent.out.relay(c)
		if c.Observe != nil {
			j.agent.watch.accused(j.agent.view.Load().certified, c.Observe)
		}
	}
	if ruling.Reason == gossip.BadSignature {
		// Other refusals may be of an older program; this one no honest relay passes.
		j.agent.watch.blame(from.Name, ledger.CauseInvalid)
	}
	if p := ruling.Proof; p != nil && !ruling.Brought && gossip.Excludes(p.Offence.Kind) {
		// With what was said before, it proves to each who hears it that its author is
		// to be dropped, and sooner than evidence can be signed. Nothing of that author
		// is passed on after it.
		return mesh.Accept
	}
	return verdictOf(ruling)
}

func verdictOf(r gossip.Ruling) mesh.Verdict {
	if r.Reason == gossip.Replayed {
		return mesh.Known // GossipSub shows nothing twice: the ledger was quicker
	}
	switch r.Verdict() {
	case gossip.Accept:
		return mesh.Accept
	case gossip.Reject:
		return mesh.Reject
	}
	return mesh.Ignore
}

// rule gives the ruling on a statement, and acts on what it proves.
func (j *judge) rule(channel gossip.Channel, envelope []byte) (*gossip.Case, gossip.Ruling) {
	view := j.agent.view.Load().certified
	if view == nil {
		return nil, gossip.Ruling{Reason: gossip.UnknownAuthor}
	}
	c, reason := gossip.Screen(view, channel, append([]byte(nil), envelope...))
	if reason != gossip.Good {
		return nil, gossip.Ruling{Reason: reason}
	}
	j.mu.Lock()
	j.rules.Advance(view.State.Epoch())
	reason = j.rules.Known(c)
	j.mu.Unlock()
	if reason == gossip.Good {
		reason = c.Verify(j.agent.verify)
	}
	if reason == gossip.Good {
		j.agent.out.seen(c.Statement)
	}
	if reason != gossip.Good {
		return c, gossip.Ruling{Reason: reason}
	}
	ruling := j.admit(view, channel, c)
	j.act(&ruling)
	return c, ruling
}

// admit rules on a statement that was screened by view and verified since. A ban
// of ours ends once the ledger's own decision is in force, of which a view from
// before that does not know.
func (j *judge) admit(view *certified, channel gossip.Channel, c *gossip.Case) gossip.Ruling {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now := j.agent.view.Load().certified; now != view {
		if _, reason := gossip.Screen(now, channel, c.Statement.Envelope); reason != gossip.Good {
			return gossip.Ruling{Reason: reason}
		}
	}
	return j.rules.Admit(c)
}

// act drops whom a ruling proves an offender, at once, and brings the evidence
// to the ledger unless it is on its way.
func (j *judge) act(r *gossip.Ruling) {
	if r.Proof == nil {
		return
	}
	offence := r.Proof.Offence
	if gossip.Excludes(offence.Kind) {
		j.agent.banish(offence)
	}
	if r.Brought {
		j.agent.docket.brought(&offence)
		return
	}
	j.agent.logger.Warn("an offence is proven", "kind", offence.Kind, "offender", offence.Offender, "epoch", offence.Epoch)
	j.agent.docket.open(r.Proof)
}

// banish drops the author of self-proving evidence before the ledger decides.
func (a *Agent) banish(o ledger.Offence) {
	a.change(func(v *View) {
		if _, there := v.Banned[o.Offender]; there || len(v.Banned) >= maxBans || v.State == nil {
			return
		}
		if !convicts(v.State, &o) {
			return
		}
		if v.Banned == nil {
			v.Banned = map[string]Ban{}
		}
		v.Banned[o.Offender] = Ban{Offence: o, Standing: fsm.NodeExcluded, Since: time.Now()}
	})
}

// convicts reports whether the key of an offence convicts its offender: it is the
// node's, or was until it was rotated out. A key that ended otherwise may have been
// anybody's.
func convicts(s *fsm.State, o *ledger.Offence) bool {
	if _, ok := s.Node(o.Offender); !ok {
		return false
	}
	key, ok := s.Key(o.KeyID)
	return ok && key.Role == fsm.RoleNode && key.Holder == o.Offender && key.RevokedFrom == nil &&
		(key.Ended == fsm.KeyRotated || key.Ended == "" && !key.Revoked)
}

// note takes the statements of entries that were certified, so that what contradicts
// them is found, and what was decided is not brought again.
func (j *judge) note(entries [][]byte) {
	view := j.agent.view.Load().certified
	if view == nil {
		return
	}
	rules := view.Rules()
	for _, raw := range entries {
		e, err := ledger.ParseEntry(raw)
		if err != nil || e.Kind != ledger.KindStatement {
			continue
		}
		st, err := ledger.ParseStatement(e.Content)
		if err != nil || st.Payload.Epoch == nil {
			continue
		}
		j.agent.out.seen(st)
		if st.Payload.Type == ledger.TypeObserve {
			if o, err := ledger.DecodeBody[ledger.Observe](st); err == nil {
				j.agent.watch.accused(view, &o)
			}
		}
		j.mu.Lock()
		j.rules.Advance(rules.Epoch)
		proof := j.rules.Note(&rules, st)
		if st.Payload.Type == ledger.TypeEvidence {
			if offence := offenceOf(&rules, st); offence != nil {
				j.rules.Settle(offence)
			}
		}
		j.mu.Unlock()
		j.act(&gossip.Ruling{Proof: proof})
	}
}

// offenceOf is what an evidence statement that the ledger accepted proved.
func offenceOf(rules *gossip.Rules, st *ledger.Statement) *ledger.Offence {
	body, err := ledger.DecodeBody[ledger.Evidence](st)
	if err != nil {
		return nil
	}
	exhibits := make([]*ledger.Statement, len(body.Exhibits))
	for i, envelope := range body.Exhibits {
		if exhibits[i], err = ledger.ParseStatement(envelope); err != nil {
			return nil
		}
	}
	if len(exhibits) == 0 {
		return nil
	}
	offence, err := ledger.Judge(body.Kind, exhibits, rules.QuotaOf(ledger.SeqSpaceOf(exhibits[0].Payload.Type)))
	if err != nil {
		return nil
	}
	return offence
}

// Head implements mesh.Judge.
func (j *judge) Head(from mesh.Member, note []byte) mesh.Verdict {
	a := j.agent
	if j.heads.knows(note) {
		return mesh.Ignore
	}
	note = append([]byte(nil), note...)
	h, err := a.offerHead(note, false)
	var conflict *ConflictError
	var notCertified *ledger.NotCertifiedError
	var badSignature *ledger.BadSignatureError
	switch {
	case errors.As(err, &conflict):
		return mesh.Accept // everybody should see it
	case errors.As(err, &badSignature):
		a.watch.blame(from.Name, ledger.CauseHeads)
		return mesh.Reject
	case errors.As(err, &notCertified):
		return mesh.Ignore // a link that we lack may certify it
	case errors.Is(err, errGap) && h != nil: // see below
	case err != nil && !errors.Is(err, errBehind):
		if h == nil {
			if _, bad := ledger.ParseCheckpoint(note); bad != nil {
				return mesh.Reject
			}
			return mesh.Ignore
		}
	}
	if h == nil || !j.heads.saw(h) {
		return mesh.Ignore // and nobody is asked twice for what one head covers
	}
	if errors.Is(err, errGap) {
		select {
		case a.ahead <- claim{peer: from, head: h}:
		default: // enough others are waiting
		}
	}
	return mesh.Accept
}

// Entries implements mesh.Judge. Nothing is gossiped there: who lacks entries
// asks the peer that has a newer head.
func (j *judge) Entries(mesh.Member, []byte) mesh.Verdict { return mesh.Ignore }

// headGossip says which heads to publish: each size once over all agents, as far
// as they see each other, and the same size again when its signatures are
// fresher by publishHeadEvery.
type headGossip struct {
	mu      sync.Mutex
	newest  *head // seen by gossip, or published
	pending *head
	wake    chan struct{}
}

func newHeadGossip() *headGossip { return &headGossip{wake: make(chan struct{}, 1)} }

// fresher reports whether h says something that the newest head does not.
func (g *headGossip) fresher(h *head) bool {
	n := g.newest
	return n == nil || h.Size > n.Size || h.Size == n.Size && h.signed >= n.signed+uint64(publishHeadEvery/time.Second)
}

// knows reports whether this very note was the newest.
func (g *headGossip) knows(note []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newest != nil && string(g.newest.note) == string(note)
}

// saw reports whether a head that came by gossip is worth relaying.
func (g *headGossip) saw(h *head) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.fresher(h) {
		return false
	}
	g.newest = h
	return true
}

// offer has a head published unless another agent does it first.
func (g *headGossip) offer(h *head) {
	g.mu.Lock()
	worth := g.fresher(h)
	if worth {
		g.pending = h
	}
	g.mu.Unlock()
	if worth {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
}

// take gives the head to publish, if it still is one.
func (g *headGossip) take() *head {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.pending
	g.pending = nil
	if h == nil || !g.fresher(h) {
		return nil
	}
	g.newest = h
	return h
}

// gossipHeads publishes the heads that replicas gave, after a little chance, so that
// not all agents do.
func (a *Agent) gossipHeads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.judge.heads.wake:
		}
		if err := sleep(ctx, rand.N(headJitter)); err != nil {
			return err
		}
		if h := a.judge.heads.take(); h != nil {
			if err := a.mesh.Publish(ctx, mesh.Heads, h.note); err != nil {
				a.logger.Debug("a head was not published", "error", err)
			}
		}
	}
}

// slim gives the part of a replica's note that certifies its head: the newest
// ML-DSA-65 lines of so many replicas as must sign it. That is half of the note, and
// less than half of what verifying all of it takes.
func slim(full *ledger.Checkpoint, authority ledger.Authority) []byte {
	newest := slices.Clone(full.Cosignatures)
	slices.SortStableFunc(newest, func(x, y ledger.Cosignature) int { return cmp.Compare(y.Time, x.Time) })
	few := &ledger.Checkpoint{Head: full.Head}
	for _, c := range newest {
		if uint64(len(few.Cosignatures)) < authority.CosignThreshold {
			few.Add(c.WithoutMLDSA44())
		}
	}
	return few.Note()
}
