package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/replica"
)

// traffic is what clients do: records, proposals that governors approve or
// reject through different replicas, replays of what was said before, forged
// approvals, linearizable reads.
type traffic struct {
	world *world
	wg    sync.WaitGroup

	mu    sync.Mutex
	said  []*said // the newest, for replays
	tally tally
}

// said is an envelope that somebody submitted.
type said struct {
	id       ledger.Hash
	envelope []byte
	seq      uint64 // where it was acknowledged; 0 for not yet
}

// tally counts the answers.
type tally struct {
	Acknowledged, Certified, Rejected, Unknown, Refused, Reads, Decided, Forged int
}

// start lets clients loose until the world quits.
func (t *traffic) start(clients int) {
	for i := range clients {
		t.wg.Go(func() { t.client(i) })
	}
}

func (t *traffic) client(i int) {
	chance := chanceFor(t.world.plan.Seed, fmt.Sprint("client ", i))
	for count := 0; t.world.sleep(between(chance, t.world.plan.Pace/12, t.world.plan.Pace)); count++ {
		who := t.world.governor(chance.IntN(len(t.world.council)))
		switch draw := chance.IntN(100); {
		case draw < 62:
			t.submit(chance, t.record(who, fmt.Sprint("client ", i, " statement ", count)), chance.IntN(3) == 0)
		case draw < 74:
			t.replay(chance)
		case draw < 86:
			t.read(chance)
		default:
			t.propose(chance, who)
		}
	}
}

// process is one that runs, by chance; nil when none does.
func (t *traffic) process(chance *rand.Rand) *process {
	up := t.world.up()
	if len(up) == 0 {
		return nil
	}
	return up[chance.IntN(len(up))]
}

func (t *traffic) sign(who principal, typ string, body any, nonce []byte) *said {
	payload := ledger.Payload{Author: who.name, Generation: t.world.generation.Load(), Ledger: t.world.hash, Type: typ}
	if form, _ := ledger.ReplayForm(typ); form != ledger.ReplayNone {
		payload.Nonce = nonce
		payload.Expires = uint64(time.Now().Add(nonceLife).UnixMilli())
	}
	envelope, err := ledger.Sign(who.key, payload, body)
	if err != nil {
		t.world.t.Errorf("sign %s: %v", typ, err)
		return nil
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		t.world.t.Errorf("sign %s: %v", typ, err)
		return nil
	}
	s := &said{id: st.ID, envelope: envelope}
	t.mu.Lock()
	t.said = append(t.said, s)
	if len(t.said) > keptStatements {
		t.said = slices.Delete(t.said, 0, 1)
	}
	t.mu.Unlock()
	return s
}

func nonceOf(text string) []byte {
	seed := seedOf(text)
	return seed[:16]
}

func (t *traffic) record(who principal, text string) *said {
	return t.sign(who, ledger.TypeRecord, ledger.Record{Text: text}, nonceOf(text))
}

// submit submits statements through one replica, and notes what it answers.
func (t *traffic) submit(chance *rand.Rand, s *said, certified bool) error {
	p := t.process(chance)
	if p == nil || s == nil {
		return replica.ErrNoLeader
	}
	return t.submitAt(p, s, certified)
}

func (t *traffic) submitAt(p *process, s *said, certified bool) error {
	wait := replica.WaitCommitted
	if certified {
		wait = replica.WaitCertified
	}
	t.mu.Lock()
	before := s.seq
	t.mu.Unlock()
	minority := p.node.minority.Load()
	ctx, cancel := context.WithTimeout(context.Background(), submitLimit)
	receipt, err := p.replica.Submit(ctx, [][]byte{s.envelope}, wait)
	cancel()
	if p.dead.Load() {
		return replica.ErrUnknownOutcome // said by a dead process: nobody heard it
	}
	if receipt == nil {
		t.count(err)
		return err
	}
	v := receipt.Verdicts[0]
	t.world.checks.acknowledged(ack{s.id, v.Seq, p.node.name(), receipt.Level == replica.LevelCertified}, before)
	if minority != 0 && p.node.minority.Load() == minority && before == 0 && !v.Duplicate {
		t.world.checks.fail(invariantMinority, "%s acknowledged statement %s (%s) while partition %d left it without a quorum",
			p.node.name(), s.id, receipt.Level, minority)
	}
	t.mu.Lock()
	s.seq = v.Seq
	t.tally.Acknowledged++
	if receipt.Level == replica.LevelCertified {
		t.tally.Certified++
	}
	t.mu.Unlock()
	return err
}

func (t *traffic) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rejected *replica.RejectedError
	switch {
	case errors.As(err, &rejected):
		t.tally.Rejected++
	case errors.Is(err, replica.ErrUnknownOutcome):
		t.tally.Unknown++
	default:
		t.tally.Refused++
	}
}

// replay submits something again that was said before, whatever came of it.
func (t *traffic) replay(chance *rand.Rand) {
	t.mu.Lock()
	var s *said
	if len(t.said) > 0 {
		s = t.said[chance.IntN(len(t.said))]
	}
	t.mu.Unlock()
	_ = t.submit(chance, s, false)
}

// read makes a linearizable read: it must see all that was acknowledged before.
func (t *traffic) read(chance *rand.Rand) {
	p := t.process(chance)
	if p == nil {
		return
	}
	most, minority := t.world.checks.acknowledgedTo(), p.node.minority.Load()
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	view, err := p.replica.View(ctx, replica.Linearizable)
	if err != nil || p.dead.Load() {
		return
	}
	t.mu.Lock()
	t.tally.Reads++
	t.mu.Unlock()
	if minority != 0 && p.node.minority.Load() == minority {
		t.world.checks.fail(invariantMinority, "%s answered a linearizable read while partition %d left it without a quorum", p.node.name(), minority)
	}
	if view.Size <= most {
		t.world.checks.fail(invariantAcknowledged, "a linearizable read at %s sees %d entries, entry %d was acknowledged before", p.node.name(), view.Size, most)
	}
}

// propose lets a governor propose something, and others vote on it.
func (t *traffic) propose(chance *rand.Rand, who principal) {
	p := t.process(chance)
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	view, err := p.replica.View(ctx, replica.Certified)
	if err != nil {
		return
	}
	t.world.seated(view.State)
	action, args := t.drawAction(chance, view.State)
	raw, err := canon.Marshal(args)
	if err != nil {
		t.world.t.Errorf("encode %s: %v", action, err)
		return
	}
	base, err := view.State.BaseFor(action, raw)
	if err != nil {
		return
	}
	s := t.sign(who, ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base}, nonceOf(fmt.Sprint("propose ", chance.Uint64())))
	if s == nil || t.submitAt(p, s, false) != nil {
		return
	}
	for _, i := range chance.Perm(len(t.world.council)) {
		other := t.world.governor(i)
		if other.name == who.name {
			continue
		}
		typ := ledger.TypeApprove
		if chance.IntN(6) == 0 {
			typ = ledger.TypeReject
		}
		if chance.IntN(4) == 0 {
			t.forge(chance, other, s.id)
		}
		_ = t.submit(chance, t.sign(other, typ, ledger.Ballot{Proposal: s.id}, nil), chance.IntN(4) == 0)
		if !t.world.sleep(between(chance, 0, 20*time.Second)) {
			return
		}
	}
	t.mu.Lock()
	t.tally.Decided++
	t.mu.Unlock()
}

// forge submits an approval that its author did not sign.
func (t *traffic) forge(chance *rand.Rand, author principal, proposal ledger.Hash) {
	s := t.sign(author, ledger.TypeApprove, ledger.Ballot{Proposal: proposal, Memo: "forged"}, nil)
	if s == nil {
		return
	}
	forged := &said{id: s.id, envelope: slices.Clone(s.envelope)}
	t.mu.Lock()
	t.said = slices.DeleteFunc(t.said, func(one *said) bool { return one == s })
	t.tally.Forged++
	t.mu.Unlock()
	forged.envelope[len(forged.envelope)-1-chance.IntN(1000)] ^= 1 // inside the signature
	_ = t.submit(chance, forged, false)
}

// drawAction draws something to decide.
func (t *traffic) drawAction(chance *rand.Rand, state *fsm.State) (string, any) {
	switch draw := chance.IntN(10); {
	case draw < 4:
		return "epoch.advance", struct{}{}
	case draw < 7:
		who := t.world.governor(chance.IntN(len(t.world.council)))
		fresh := t.world.newKey(fmt.Sprint(who.name, " ", chance.Uint64()))
		return "council.change", councilArgs{Add: []ledger.Member{{Name: who.name, Operator: who.operator, Public: fresh.Public().Bytes()}}, Remove: []string{who.name}}
	}
	policy := state.Policy()
	policy.TickMillis = 10_000 + chance.Uint64N(50_000)
	return "policy.change", policyArgs{policy}
}

type councilArgs struct {
	Add    []ledger.Member `json:"add,omitempty"`
	Remove []string        `json:"remove,omitempty"`
}

type policyArgs struct {
	Policy ledger.Policy `json:"policy"`
}
