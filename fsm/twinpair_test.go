package fsm

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

func TestAgainstTwin(t *testing.T) {
	seen := map[Code]int{}
	standings := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		g := defaultGenesis()
		g.Format = rapid.SampledFrom([]uint64{ledger.Format, 2, 1}).Draw(rt, "format")
		g.Policy.ProposalLifetimeMillis = twinLifetime
		g.Policy.ClosedRetentionMillis = twinRetention
		g.Policy.EpochMillis = twinEpoch
		g.Policy.Quota = 5000
		g.Policy.Rules["operator.add"] = ledger.Rule{Threshold: 2, DelayMillis: 150_000}
		g.Operators = append([]ledger.Operator{}, g.Operators...)
		g.Council = append(g.Council, memberOf("dora@gamma"))
		w := newWorld(rt, g)
		w.verify = trusting{}
		p := &pair{rt: rt, w: w, twin: newTwin(g), seen: seen, ids: []string{}, envelopes: map[string][]byte{}}
		for range 60 { // not drawn: rapid prefers small numbers
			p.step()
			p.compare(standings)
		}
	})
	t.Logf("%v %v", seen, standings)
	if testing.Short() {
		return // a fifth of the histories: too few to meet everything
	}
	for _, c := range []Code{OK, RevokedKey, NameTaken, ThresholdUnreachable, ThresholdTooLow, ProposalClosed, AlreadyVoted, OperatorVoted, NotAuthor, Expired, NonceUsed, WrongEpoch, SeqTooOld, SeqUsed, QuotaExceeded, AlreadyDecided} {
		if seen[c] == 0 {
			t.Errorf("no history met the code %s: %v", c, seen)
		}
	}
	for _, s := range []string{ProposalOpen, ProposalDecided, ProposalExecuted, ProposalFailed, ProposalRejected, ProposalWithdrawn, ProposalExpired} {
		if standings[s] == 0 {
			t.Errorf("no history had a proposal %s: %v", s, standings)
		}
	}
}

// pair does everything twice.
type pair struct {
	rt        *rapid.T
	w         *world
	twin      *twin
	seen      map[Code]int
	ids       []string
	envelopes map[string][]byte
	counter   int
}

var twinPeople = []string{"alice", "bob", "carol", "dora", "erin"}

func (p *pair) draw(label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(p.rt, label)
}

func (p *pair) key(name string) string {
	if s, ok := p.twin.council[name]; ok {
		return s.key
	}
	return name
}

// expect applies a statement and compares the verdict with the twin's. The
// twin decides on a copy of the time: a refused statement moves no time.
func (p *pair) expect(s saying, decide func() Code) []byte {
	p.rt.Helper()
	s.key = p.key(s.author)
	envelope := p.w.sign(s)
	before := p.twin.clone()
	p.twin.advance(p.w.now)
	want := RevokedKey // what was due may have given the author another key
	if s.key == p.key(s.author) {
		want = decide()
	}
	got := p.w.apply(ledger.CommandStatements, envelope).Verdicts[0]
	if got.Code != want {
		p.rt.Fatalf("the ledger says %s (%s), the twin %s", got.Code, got.Detail, want)
	}
	if want != OK {
		*p.twin = *before
	}
	p.seen[want]++
	return envelope
}

// decided are the proposals that wait for their delay.
func (p *pair) decided() []string {
	return slices.DeleteFunc(slices.Clone(p.ids), func(id string) bool {
		one := p.twin.proposals[id]
		return one == nil || one.standing != ProposalDecided
	})
}

// silent are the governors who have not voted on a proposal.
func (p *pair) silent(id string) []string {
	one := p.twin.proposals[id]
	return slices.DeleteFunc(sortedKeys(p.twin.council), func(name string) bool {
		return slices.ContainsFunc(append(slices.Clone(one.approvals), one.rejections...), func(v twinVote) bool { return v.author == name })
	})
}

func (p *pair) step() {
	w := p.w
	p.counter++
	author := p.draw("author", twinPeople...)
	if author == "erin" {
		if _, seated := p.twin.council["erin"]; !seated {
			author = "alice" // erin may never have had a key
		}
	}
	switch p.draw("step", "time", "tick", "seal", "seal", "propose", "propose", "propose", "vote", "vote", "vote", "vote", "withdraw", "nonce", "nonce", "seq", "seq") {
	case "time":
		w.now += rapid.Uint64Range(1, 400_000).Draw(p.rt, "millis")
	case "tick":
		if len(w.apply(ledger.CommandTick).Entries) > 0 {
			p.twin.advance(w.now)
		}
	case "seal":
		if len(w.apply(ledger.CommandSeal).Entries) > 0 {
			p.twin.advance(w.now)
			p.twin.pending = false
		}
	case "propose":
		p.propose(author)
	case "vote":
		if len(p.ids) == 0 {
			return
		}
		id, approve := p.draw("proposal", p.ids...), p.draw("vote", "yes", "yes", "no") == "yes"
		if waiting := p.decided(); len(waiting) > 0 && p.draw("which", "any", "decided") == "decided" {
			id = p.draw("proposal", waiting...) // few are, and not for long
			if late := p.silent(id); len(late) > 0 {
				author, approve = p.draw("author", late...), p.draw("vote", "no", "yes") == "yes"
			}
		}
		typ := ledger.TypeApprove
		if !approve {
			typ = ledger.TypeReject
		}
		// A memo makes it another statement than any before.
		body := ledger.Ballot{Memo: fmt.Sprint(p.counter), Proposal: idOf(p.envelopes[id])}
		p.expect(saying{author: author, typ: typ, body: body}, func() Code { return p.twin.vote(id, author, approve) })
	case "withdraw":
		if len(p.ids) == 0 {
			return
		}
		id := p.draw("proposal", p.ids...)
		body := ledger.Ballot{Memo: fmt.Sprint(p.counter), Proposal: idOf(p.envelopes[id])}
		p.expect(saying{author: author, typ: ledger.TypeWithdraw, body: body}, func() Code { return p.twin.withdraw(id, author) })
	case "nonce":
		author := p.draw("author", "alice", "bob")
		nonce := p.draw("nonce", "a", "b")
		expires := w.now + rapid.SampledFrom([]uint64{0, 1, 900_000, 900_000, 31 * 24 * 3_600_000}).Draw(p.rt, "expires")
		p.expect(saying{author: author, typ: ledger.TypeRecord, body: ledger.Record{Text: fmt.Sprint(p.counter)},
			change: func(x *ledger.Payload) { x.Nonce, x.Expires, x.Epoch, x.Seq = filler(nonce, 16), expires, nil, nil }},
			func() Code { return p.twin.recordNonce(author, nonce, expires) })
	case "seq":
		author := p.draw("replica", "r1", "r2")
		epoch := rapid.Uint64Range(0, 3).Draw(p.rt, "epoch")
		if now := w.state.Epoch(); rapid.Bool().Draw(p.rt, "near") {
			epoch = now - min(now, epoch%2)
		}
		near := p.twin.top[fmt.Sprint(author, "/", epoch)]
		seq := rapid.OneOf(rapid.Uint64Range(0, 8), rapid.Uint64Range(near, near+20), rapid.Uint64Range(0, 1100), rapid.Uint64Range(4_990, 5_010), rapid.Uint64Range(0, 6000)).Draw(p.rt, "seq")
		p.expect(saying{author: author, typ: ledger.TypeRecord, body: ledger.Record{Text: fmt.Sprint(p.counter)},
			change: func(x *ledger.Payload) { x.Nonce, x.Expires, x.Epoch, x.Seq = nil, 0, &epoch, &seq }},
			func() Code { return p.twin.recordSeq(author, epoch, seq) })
	}
}

func (p *pair) propose(author string) {
	var args, twinArgs any
	action := p.draw("action", "operator.add", "council.change", "policy.change")
	switch action {
	case "operator.add":
		a := operatorArgs{Name: p.draw("operator", "delta", "eta", "theta", "alpha")}
		args, twinArgs = a, a
	case "council.change":
		a := twinCouncil{}
		change := councilArgs{}
		if a.remove = p.draw("remove", append([]string{""}, twinPeople...)...); a.remove != "" {
			change.Remove = []string{a.remove}
		}
		if a.add = p.draw("add", append([]string{""}, twinPeople...)...); a.add != "" {
			a.operator, a.key = p.draw("seat", "alpha", "beta", "gamma", "delta"), fmt.Sprintf("%s-%d", a.add, p.counter)
			change.Add = []ledger.Member{memberOf(a.add + "@" + a.operator + "#" + a.key)}
		}
		if a.add == "" && a.remove == "" {
			return
		}
		args, twinArgs = change, a
	case "policy.change":
		policy := p.w.state.Policy()
		rules := map[string]ledger.Rule{}
		for name, rule := range policy.Rules {
			rules[name] = rule
		}
		name := p.draw("rule", "operator.add", "council.change", "policy.change", "node.admit")
		rules[name] = ledger.Rule{
			Threshold:   rapid.Uint64Range(1, 4).Draw(p.rt, "threshold"),
			DelayMillis: rapid.SampledFrom([]uint64{0, 0, 50_000, 700_000}).Draw(p.rt, "delay"),
		}
		policy.Rules = rules
		args, twinArgs = policyArgs{Policy: policy}, twinPolicy{rules}
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		p.rt.Fatal(err)
	}
	// What is due by now moves versions before the statement is looked at.
	due := begin(p.w.state, max(p.w.now, p.w.state.stamp), nil)
	due.runDue()
	base := map[string]uint64{}
	for _, table := range tablesOf(action) {
		base[table] = due.meta.Versions[table]
	}
	id := ""
	envelope := p.expect(saying{
		author: author, typ: ledger.TypePropose, body: ledger.Propose{Action: action, Args: raw, Base: base},
		seen: func(envelope []byte) { id = idOf(envelope).String() },
	}, func() Code { return p.twin.propose(id, author, action, twinArgs) })
	p.envelopes[id] = envelope
	// Now and then there are votes on what was refused.
	if _, accepted := p.w.state.Proposal(idOf(envelope)); accepted || p.counter%5 == 0 {
		p.ids = append(p.ids, id)
	}
}

// compare compares all that both know.
func (p *pair) compare(standings map[string]int) {
	s := p.w.state
	if s.Epoch() != p.twin.epoch {
		p.rt.Fatalf("epoch %d, the twin's %d", s.Epoch(), p.twin.epoch)
	}
	if s.PendingHandover() != p.twin.pending {
		p.rt.Fatalf("pending handover %v, the twin's %v", s.PendingHandover(), p.twin.pending)
	}
	council := map[string]string{}
	for _, g := range s.Council() {
		council[g.Name] = g.Operator
	}
	for name, seat := range p.twin.council {
		if council[name] != seat.operator {
			p.rt.Fatalf("the twin seats %s for %s, the ledger for %q", name, seat.operator, council[name])
		}
	}
	if len(council) != len(p.twin.council) || len(s.Operators()) != len(p.twin.operators) {
		p.rt.Fatalf("council or operators differ: %v %v", council, p.twin.council)
	}
	all := s.Proposals("", ledger.Hash{}, 1000)
	if len(all) != len(p.twin.proposals) {
		p.rt.Fatalf("%d proposals, the twin has %d", len(all), len(p.twin.proposals))
	}
	for _, mine := range all {
		standings[mine.Standing]++
		theirs := p.twin.proposals[mine.ID.String()]
		if theirs == nil || theirs.standing != mine.Standing {
			p.rt.Fatalf("proposal %s is %s, the twin's %+v", mine.ID, mine.Standing, theirs)
		}
	}
}
