package fsm

import (
	"fmt"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// twin is the rules of proposals, votes, thresholds and replay once more, as
// naively as they can be written: maps and slices, nothing shared with the code
// under test. It says which code each statement gets and how each proposal
// stands.
type twin struct {
	now, epoch, epochStart uint64
	council                map[string]twinSeat
	operators              map[string]bool
	rules                  map[string]ledger.Rule
	versions               map[string]int
	decisions              int
	clock                  int // orders votes and seats
	proposals              map[string]*twinProposal
	pending                bool
	nonces                 map[string]uint64          // author/nonce: expiry
	seqs                   map[string]map[uint64]bool // author/epoch: seqs used
	top                    map[string]uint64
}

type twinSeat struct {
	operator, key string
	since         int
}

type twinVote struct {
	author, operator string
	at               int
}

type twinProposal struct {
	action                string
	args                  any
	author                string
	base                  map[string]int
	approvals, rejections []twinVote
	standing              string
	expires, due, closed  uint64
}

const (
	twinEpoch     = 600_000
	twinLifetime  = 400_000
	twinRetention = 900_000
)

func newTwin(g *ledger.Genesis) *twin {
	w := &twin{
		now: g.Created, epochStart: g.Created, council: map[string]twinSeat{}, operators: map[string]bool{}, rules: map[string]ledger.Rule{},
		versions: map[string]int{}, proposals: map[string]*twinProposal{}, nonces: map[string]uint64{}, seqs: map[string]map[uint64]bool{}, top: map[string]uint64{},
	}
	for _, m := range g.Council {
		w.council[m.Name] = twinSeat{operator: m.Operator, key: m.Name, since: 0}
	}
	for _, o := range g.Operators {
		w.operators[o.Name] = true
	}
	for action, rule := range g.Policy.Rules {
		w.rules[action] = rule
	}
	w.clock = 1
	return w
}

func (w *twin) voices() int {
	seen := map[string]bool{}
	for _, s := range w.council {
		seen[s.operator] = true
	}
	return len(seen)
}

func (w *twin) threshold(action string, args any) int {
	n := int(w.rules[action].Threshold)
	if p, ok := args.(twinPolicy); ok && int(p.all["policy.change"].Threshold) > n {
		n = int(p.all["policy.change"].Threshold)
	}
	if half := w.voices()/2 + 1; n < half {
		n = half
	}
	return n
}

func (w *twin) counting(votes []twinVote) []twinVote {
	left := []twinVote{}
	for _, v := range votes {
		if s, ok := w.council[v.author]; ok && s.since < v.at && s.operator == v.operator {
			left = append(left, v)
		}
	}
	return left
}

// advance lets time pass up to now: what is due happens in order.
func (w *twin) advance(now uint64) {
	if now > w.now {
		w.now = now
	}
	for {
		ids := []string{}
		for id, p := range w.proposals {
			held := w.pending && (p.action == "council.change" || p.action == "policy.change")
			if p.standing == ProposalOpen && p.expires <= w.now || p.standing == ProposalDecided && p.due <= w.now && !held {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			break
		}
		when := func(id string) uint64 {
			if w.proposals[id].standing == ProposalOpen {
				return w.proposals[id].expires
			}
			return w.proposals[id].due
		}
		sort.Slice(ids, func(i, j int) bool {
			if when(ids[i]) != when(ids[j]) {
				return when(ids[i]) < when(ids[j])
			}
			return ids[i] < ids[j]
		})
		p := w.proposals[ids[0]]
		if p.standing == ProposalOpen {
			w.close(p, ProposalExpired)
			continue
		}
		w.execute(p)
	}
	for id, p := range w.proposals {
		if p.closed != 0 && p.closed+twinRetention <= w.now {
			delete(w.proposals, id)
		}
	}
	for nonce, expires := range w.nonces {
		if expires <= w.now {
			delete(w.nonces, nonce)
		}
	}
	if passed := (w.now - w.epochStart) / twinEpoch; passed > 0 {
		w.epoch += passed
		w.epochStart += passed * twinEpoch
	}
}

func (w *twin) close(p *twinProposal, standing string) { p.standing, p.closed = standing, w.now }

func (w *twin) execute(p *twinProposal) {
	mine := false
	approvals := w.counting(p.approvals)
	for _, v := range approvals {
		mine = mine || v == p.approvals[0] && v.author == p.author
	}
	ok := mine && len(approvals) >= w.threshold(p.action, p.args)
	for table, version := range p.base {
		ok = ok && w.versions[table] == version
	}
	if !ok || w.check(p.action, p.args) != OK {
		w.close(p, ProposalFailed)
		return
	}
	w.clock++
	w.decisions++
	switch args := p.args.(type) {
	case operatorArgs:
		w.operators[args.Name] = true
		w.versions["operators"] = w.decisions
	case twinCouncil:
		delete(w.council, args.remove)
		if args.add != "" {
			w.council[args.add] = twinSeat{operator: args.operator, key: args.key, since: w.clock}
		}
		w.versions["council"] = w.decisions
		w.pending = true
	case twinPolicy:
		changed := false
		for action, rule := range args.all {
			changed = changed || rule.Threshold != w.rules[action].Threshold
		}
		w.pending = w.pending || changed
		w.rules = args.all
		w.versions["policy"] = w.decisions
	}
	w.close(p, ProposalExecuted)
}

type twinCouncil struct{ remove, add, operator, key string }
type twinPolicy struct{ all map[string]ledger.Rule }

// check is what an action finds in the state.
func (w *twin) check(action string, args any) Code {
	switch a := args.(type) {
	case operatorArgs:
		if w.operators[a.Name] {
			return NameTaken
		}
	case twinCouncil:
		if _, in := w.council[a.remove]; a.remove != "" && !in {
			return UnknownGovernor
		}
		if _, in := w.council[a.add]; a.add != "" && in && a.add != a.remove {
			return NameTaken
		}
		operators := map[string]bool{}
		for name, s := range w.council {
			if name != a.remove {
				operators[s.operator] = true
			}
		}
		if a.add != "" {
			if !w.operators[a.operator] {
				return UnknownOperator
			}
			operators[a.operator] = true
		}
		for action, rule := range w.rules {
			if action != "council.reseat" && int(rule.Threshold) > len(operators) {
				return ThresholdUnreachable
			}
		}
	case twinPolicy:
		high, low, same := false, false, true
		for action, rule := range a.all {
			high = high || action != "council.reseat" && int(rule.Threshold) > w.voices()
			low = low || action != "council.reseat" && ledger.ChangesAuthority(action) && int(rule.Threshold) < w.voices()/2+1
			same = same && rule.Threshold == w.rules[action].Threshold && rule.DelayMillis == w.rules[action].DelayMillis
		}
		switch {
		case high:
			return ThresholdUnreachable
		case low:
			return ThresholdTooLow
		case same:
			return NothingChanges
		}
	}
	return OK
}

func tablesOf(action string) []string {
	switch action {
	case "operator.add":
		return []string{"operators"}
	case "council.change":
		return []string{"council", "operators"}
	}
	return []string{"policy", "council"}
}

func (w *twin) propose(id, author, action string, args any) Code {
	if _, seated := w.council[author]; !seated {
		return RevokedKey
	}
	open := 0
	for _, p := range w.proposals {
		if p.author == author && (p.standing == ProposalOpen || p.standing == ProposalDecided) {
			open++
		}
	}
	if open >= 32 {
		return TooManyProposals
	}
	if c := w.check(action, args); c != OK {
		return c
	}
	w.clock++
	p := &twinProposal{action: action, args: args, author: author, base: map[string]int{}, standing: ProposalOpen, expires: w.now + twinLifetime}
	for _, table := range tablesOf(action) {
		p.base[table] = w.versions[table]
	}
	p.approvals = []twinVote{{author, w.council[author].operator, w.clock}}
	w.proposals[id] = p
	w.decide(p)
	return OK
}

func (w *twin) decide(p *twinProposal) {
	if p.standing == ProposalOpen && len(w.counting(p.approvals)) >= w.threshold(p.action, p.args) {
		delay := w.rules[p.action].DelayMillis
		if a, ok := p.args.(twinPolicy); ok && a.all[p.action].DelayMillis > delay {
			delay = a.all[p.action].DelayMillis
		}
		p.standing, p.due = ProposalDecided, w.now+delay
	}
	w.advance(w.now)
}

func (w *twin) vote(id, author string, approve bool) Code {
	seat, seated := w.council[author]
	if !seated {
		return RevokedKey
	}
	p := w.proposals[id]
	if p == nil {
		return UnknownProposal
	}
	if p.standing != ProposalOpen && p.standing != ProposalDecided {
		return ProposalClosed
	}
	votes := append(w.counting(p.approvals), w.counting(p.rejections)...)
	for _, v := range votes {
		if v.author == author {
			return AlreadyVoted
		}
	}
	for _, v := range votes {
		if v.operator == seat.operator {
			return OperatorVoted
		}
	}
	if !approve && p.standing == ProposalDecided {
		return AlreadyDecided
	}
	w.clock++
	v := twinVote{author, seat.operator, w.clock}
	if approve {
		p.approvals = append(p.approvals, v)
		w.decide(p)
		return OK
	}
	p.rejections = append(p.rejections, v)
	if w.voices()-len(w.counting(p.rejections)) < w.threshold(p.action, p.args) {
		w.close(p, ProposalRejected)
	}
	w.advance(w.now)
	return OK
}

func (w *twin) withdraw(id, author string) Code {
	if _, seated := w.council[author]; !seated {
		return RevokedKey
	}
	p := w.proposals[id]
	switch {
	case p == nil:
		return UnknownProposal
	case p.standing != ProposalOpen && p.standing != ProposalDecided:
		return ProposalClosed
	case p.author != author:
		return NotAuthor
	}
	w.clock++
	w.close(p, ProposalWithdrawn)
	return OK
}

func (w *twin) recordNonce(author, nonce string, expires uint64) Code {
	switch {
	case w.council[author].key == "":
		return RevokedKey
	case expires <= w.now:
		return Expired
	case expires > w.now+30*24*3_600_000:
		return ExpiresTooFar
	}
	if _, used := w.nonces[author+"/"+nonce]; used {
		return NonceUsed
	}
	w.nonces[author+"/"+nonce] = expires
	return OK
}

func (w *twin) recordSeq(author string, epoch, seq uint64) Code {
	space := fmt.Sprint(author, "/", epoch)
	used := w.seqs[space]
	switch {
	case epoch != w.epoch && epoch+1 != w.epoch:
		return WrongEpoch
	case seq >= 5000:
		return QuotaExceeded
	case used != nil && seq+1024 <= w.top[space]:
		return SeqTooOld
	case used[seq]:
		return SeqUsed
	}
	if used == nil {
		used = map[uint64]bool{}
		w.seqs[space] = used
	}
	used[seq] = true
	w.top[space] = max(w.top[space], seq)
	return OK
}

func TestAgainstTwin(t *testing.T) {
	seen := map[Code]int{}
	standings := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		g := defaultGenesis()
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
func (p *pair) expect(envelope []byte, decide func() Code) {
	p.rt.Helper()
	before := p.twin.clone()
	p.twin.advance(p.w.now)
	want := decide()
	got := p.w.apply(ledger.CommandStatements, envelope).Verdicts[0]
	if got.Code != want {
		p.rt.Fatalf("the ledger says %s (%s), the twin %s", got.Code, got.Detail, want)
	}
	if want != OK {
		*p.twin = *before
	}
	p.seen[want]++
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
		typ := ledger.TypeApprove
		if !approve {
			typ = ledger.TypeReject
		}
		// A memo makes it another statement than any before.
		body := ledger.Ballot{Memo: fmt.Sprint(p.counter), Proposal: idOf(p.envelopes[id])}
		p.expect(w.sign(saying{author: author, key: p.key(author), typ: typ, body: body}), func() Code { return p.twin.vote(id, author, approve) })
	case "withdraw":
		if len(p.ids) == 0 {
			return
		}
		id := p.draw("proposal", p.ids...)
		body := ledger.Ballot{Memo: fmt.Sprint(p.counter), Proposal: idOf(p.envelopes[id])}
		p.expect(w.sign(saying{author: author, key: p.key(author), typ: ledger.TypeWithdraw, body: body}), func() Code { return p.twin.withdraw(id, author) })
	case "nonce":
		author := p.draw("author", "alice", "bob")
		nonce := p.draw("nonce", "a", "b")
		expires := w.now + rapid.SampledFrom([]uint64{0, 1, 900_000, 900_000, 31 * 24 * 3_600_000}).Draw(p.rt, "expires")
		p.expect(w.sign(saying{author: author, key: p.key(author), typ: ledger.TypeRecord, body: ledger.Record{Text: fmt.Sprint(p.counter)},
			change: func(x *ledger.Payload) { x.Nonce, x.Expires, x.Epoch, x.Seq = filler(nonce, 16), expires, nil, nil }}),
			func() Code { return p.twin.recordNonce(author, nonce, expires) })
	case "seq":
		author := p.draw("replica", "r1", "r2")
		epoch := rapid.Uint64Range(0, 3).Draw(p.rt, "epoch")
		if now := w.state.Epoch(); rapid.Bool().Draw(p.rt, "near") {
			epoch = now - min(now, epoch%2)
		}
		near := p.twin.top[fmt.Sprint(author, "/", epoch)]
		seq := rapid.OneOf(rapid.Uint64Range(0, 8), rapid.Uint64Range(near, near+20), rapid.Uint64Range(0, 1100), rapid.Uint64Range(0, 6000)).Draw(p.rt, "seq")
		p.expect(w.sign(saying{author: author, typ: ledger.TypeRecord, body: ledger.Record{Text: fmt.Sprint(p.counter)},
			change: func(x *ledger.Payload) { x.Nonce, x.Expires, x.Epoch, x.Seq = nil, 0, &epoch, &seq }}),
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
	envelope := p.w.sign(saying{author: author, key: p.key(author), typ: ledger.TypePropose, body: ledger.Propose{Action: action, Args: raw, Base: base}})
	id := idOf(envelope).String()
	p.envelopes[id] = envelope
	if p.counter%5 == 0 {
		p.ids = append(p.ids, id) // votes on what may have been refused
	}
	p.expect(envelope, func() Code { return p.twin.propose(id, author, action, twinArgs) })
	if _, accepted := p.w.state.Proposal(idOf(envelope)); accepted {
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

// clone copies what a refused statement must not have moved.
func (w *twin) clone() *twin {
	c := *w
	c.council, c.operators, c.rules, c.versions = copyMap(w.council), copyMap(w.operators), copyMap(w.rules), copyMap(w.versions)
	c.nonces, c.top = copyMap(w.nonces), copyMap(w.top)
	c.seqs = map[string]map[uint64]bool{}
	for k, v := range w.seqs {
		c.seqs[k] = copyMap(v)
	}
	c.proposals = map[string]*twinProposal{}
	for k, v := range w.proposals {
		q := *v
		c.proposals[k] = &q
	}
	return &c
}

func copyMap[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
