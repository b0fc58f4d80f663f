package fsm

import (
	"fmt"
	"sort"

	"github.com/quorate/quorate/ledger"
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
	if p, ok := args.(twinPolicy); ok {
		n = max(n, int(p.all["policy.change"].Threshold))
		for name, old := range w.rules {
			next := p.all[name]
			if name != "council.reseat" && (next.Threshold < old.Threshold || next.DelayMillis < old.DelayMillis) {
				n = max(n, int(old.Threshold))
			}
		}
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
		if a, ok := p.args.(twinPolicy); ok {
			delay = max(delay, a.all[p.action].DelayMillis)
			for name, old := range w.rules {
				next := a.all[name]
				if name != "council.reseat" && (next.Threshold < old.Threshold || next.DelayMillis < old.DelayMillis) {
					delay = max(delay, old.DelayMillis)
				}
			}
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
