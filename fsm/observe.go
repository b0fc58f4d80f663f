package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// Word is what one operator's monitor said last of a subject.
type Word struct {
	Author   string `json:"author"`
	Down     bool   `json:"down,omitempty"`
	From     uint64 `json:"from"` // the first tick of which it speaks
	Operator string `json:"operator"`
	Seq      uint64 `json:"seq"`  // of the observation's entry
	Tick     uint64 `json:"tick"` // of the ledger, when it was accepted
	To       uint64 `json:"to"`   // the last tick of which it speaks
}

// TallyRecord is the record "tally/EPOCH/MATTER/SUBJECT": what a node's
// monitors of one epoch say of it. It leaves the state when its window is over.
type TallyRecord struct {
	Judged bool   `json:"judged,omitempty"` // node.bad: one draw gives one verdict
	Lapses uint64 `json:"lapses"`           // stamp
	Words  []Word `json:"words"`            // by operator
}

// LinkRecord is the record "link/A/B", A before B: what both ends say of their
// link. It leaves the state when nobody has spoken of it for long.
type LinkRecord struct {
	Down   bool   `json:"down,omitempty"`
	Lapses uint64 `json:"lapses"`
	Words  []Word `json:"words"` // at most one of each end
}

// VerdictEffect is the body of verdict: what the monitors' quorum said.
type VerdictEffect struct {
	Kind      string `json:"kind"` // node.down, node.up, node.bad
	Name      string `json:"name"`
	Operators uint64 `json:"operators"` // that said so
	Total     uint64 `json:"total"`     // that were drawn
}

// LinkEffect is the body of link.
type LinkEffect struct {
	Ends []string `json:"ends"`
	Kind string   `json:"kind"` // link.down, link.up
}

func tallyOf(epoch uint64, matter, subject string) string {
	return fmt.Sprintf("%s%d/%s/%s", tableTally, epoch, matter, subject)
}

func linkOf(a, b string) string {
	return tableLink + min(a, b) + "/" + max(a, b)
}

// observe is the statement observe.
func (t *transition) observe(st *ledger.Statement, a author) *problem {
	body, p := nodeStatement[ledger.Observe](t, st, a)
	if p != nil {
		return p
	}
	if err := body.Check(a.name); err != nil {
		return fromStatementError(err)
	}
	subject, ok := lookup[NodeRecord](&t.view, tableNode+body.Subject)
	if !ok {
		return refuse(UnknownNode, "body.subject", fmt.Sprintf("there is no node %q", body.Subject))
	}
	now, window := t.stamp/t.policy.TickMillis, t.policy.Protects().WindowTicks
	if body.To > now+1 || body.To+window < now {
		return refuse(OutOfWindow, "body.to", fmt.Sprintf("it is tick %d", now))
	}
	if body.Down() && t.reputation(a.name).muted(subject.Operator, t.meta.Epoch) {
		return refuse(Muted, "body.subject", fmt.Sprintf("%s was accused by %s", a.name, subject.Operator))
	}
	if body.Matter() == "link" {
		return t.observeLink(st, a, &body, subject)
	}
	return t.observeNode(st, a, &body, subject)
}

// nodeStatement checks what observe, attest and a node's evidence have in
// common, and decodes the body.
func nodeStatement[B any](t *transition, st *ledger.Statement, a author) (B, *problem) {
	var none B
	if !t.protects() {
		return none, refuse(FormatTooLow, "type", fmt.Sprintf("%s is of format %d", st.Payload.Type, protectionFormat))
	}
	if a.node == nil {
		return none, refuse(WrongRole, "author", fmt.Sprintf("%s is not for a %s", st.Payload.Type, a.role))
	}
	body, err := ledger.DecodeBody[B](st)
	if err != nil {
		return none, fromStatementError(err)
	}
	if p := t.checkNode(st, a.node); p != nil {
		return none, p
	}
	if p := t.checkSeq(st); p != nil {
		return none, p
	}
	return body, nil
}

// observeNode takes the word of one of the subject's monitors.
func (t *transition) observeNode(st *ledger.Statement, a author, body *ledger.Observe, subject *NodeRecord) *problem {
	epoch := *st.Payload.Epoch
	if subject.Standing == NodeExcluded {
		return refuse(NodeIsExcluded, "body.subject", fmt.Sprintf("%s is excluded", subject.Name))
	}
	electorate := t.Electorate()
	if electorate.Bootstrap {
		return refuse(NoElectorate, "", fmt.Sprintf("fewer than %d operators have nodes whose word counts", ledger.MinAccusers))
	}
	monitors := t.Monitors(subject, epoch, electorate)
	if !slices.Contains(monitors, ledger.Monitor{Operator: a.operator, Node: a.name}) {
		return refuse(NotMonitor, "body.subject", fmt.Sprintf("%s does not watch %s in epoch %d", a.name, subject.Name, epoch))
	}
	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)

	key := tallyOf(epoch, body.Matter(), subject.Name)
	tally := &TallyRecord{Lapses: t.windowEnd()}
	if old, ok := lookup[TallyRecord](&t.view, key); ok {
		if old.Judged {
			return nil // said, and of no more effect
		}
		tally.Words = t.current(old.Words)
	}
	tally.Words = say(tally.Words, t.wordOf(a, body, seq))
	t.put(key, tally)
	t.judge(key, tally, body.Matter(), subject, uint64(len(monitors)))
	return nil
}

func (t *transition) tick() uint64 { return t.stamp / t.policy.TickMillis }

func (t *transition) windowEnd() uint64 {
	return (t.tick() + t.policy.Protects().WindowTicks + 1) * t.policy.TickMillis
}

// current leaves out the words that are older than the window.
func (t *transition) current(words []Word) []Word {
	return slices.DeleteFunc(slices.Clone(words), func(w Word) bool {
		return w.Tick+t.policy.Protects().WindowTicks < t.tick()
	})
}

func (t *transition) wordOf(a author, body *ledger.Observe, seq uint64) Word {
	return Word{Author: a.name, Down: body.Down(), From: body.From, Operator: a.operator, Seq: seq, Tick: t.tick(), To: body.To}
}

// say puts a word in the place of its operator's last one.
func say(words []Word, w Word) []Word {
	words = slices.DeleteFunc(slices.Clone(words), func(old Word) bool { return old.Operator == w.Operator })
	at, _ := slices.BinarySearchFunc(words, w, func(a, b Word) int { return strings.Compare(a.Operator, b.Operator) })
	return slices.Insert(words, at, w)
}

// mute keeps whom a verdict found bad from accusing those who said so in
// return. An accusation alone mutes nobody: it is free, so whoever accuses the
// whole fleet once would never be accused itself.
func (t *transition) mute(accused string, accusers []Word) {
	p := t.policy.Protects()
	if p.MutedEpochs == 0 {
		return
	}
	r := t.reputation(accused)
	for _, w := range accusers {
		r.mute(w.Operator, t.meta.Epoch, t.meta.Epoch+p.MutedEpochs)
	}
	t.put(tableReputation+accused, r)
}

// judge gives the verdict if there is one: more than two thirds of the
// operators that were drawn, silent ones counted, and three at least.
func (t *transition) judge(key string, tally *TallyRecord, matter string, subject *NodeRecord, total uint64) {
	p := t.policy.Protects()
	down, up := sides(tally.Words)
	switch {
	case quorum(down, total) && matter == "bad":
		// A partition is no excuse: whoever takes a fifth of the fleet down, its
		// own nodes, would else be safe from being found bad.
		if t.breakerHolds(subject.Name, seqsOf(down)...) {
			return // the words stay: the verdict may follow when there is room
		}
		// One draw gives one verdict, or a draw that happened to fall to a
		// coalition would be worth an exclusion.
		t.put(key, &TallyRecord{Judged: true, Lapses: t.stamp + 2*t.policy.EpochMillis, Words: []Word{}})
		t.verdict(ledger.NodeBad, subject.Name, down, total)
		t.mute(subject.Name, down)
		t.punish(subject.Name, ledger.NodeBad, p.BadPoints, true, seqsOf(down)...)
	case quorum(down, total) && !t.reputation(subject.Name).Down:
		t.verdict(ledger.NodeDown, subject.Name, down, total)
		t.setDown(subject.Name, true, seqsOf(down)...)
		if p.DownPoints > 0 && !t.protection().Partition && !t.breakerHolds(subject.Name, seqsOf(down)...) {
			t.punish(subject.Name, ledger.NodeDown, p.DownPoints, true, seqsOf(down)...)
		}
	case quorum(up, total) && matter == "node":
		if t.reputation(subject.Name).Down {
			t.verdict(ledger.NodeUp, subject.Name, up, total)
			t.setDown(subject.Name, false, seqsOf(up)...)
			return
		}
		t.contradicted(key, tally, down, up, total)
	}
}

// contradicted punishes those whose accusation more than two thirds of the
// drawn contradict: they reached the accused in a tick of which it speaks. Who
// saw it down before it came back is right, however many see it up since. The
// first time is free, and times long ago are forgotten.
func (t *transition) contradicted(key string, tally *TallyRecord, down, up []Word, total uint64) {
	p := t.policy.Protects()
	left := slices.Clone(tally.Words)
	for _, w := range down {
		against := slices.DeleteFunc(slices.Clone(up), func(u Word) bool { return u.To < w.From || w.To < u.From })
		if !quorum(against, total) {
			continue
		}
		left = slices.DeleteFunc(left, func(old Word) bool { return old.Seq == w.Seq }) // each word is judged once
		t.put(key, &TallyRecord{Lapses: tally.Lapses, Words: left})
		misses := t.miss(w.Author)
		if misses > 1 {
			points := p.MinorPoints << min(misses-2, 4)
			t.punish(w.Author, "accusation", points, false, seqsOf(append(against, w))...)
		}
	}
}

// miss counts an accusation that was contradicted, and gives how many there
// are that are not forgotten.
func (t *transition) miss(name string) uint64 {
	r := t.reputation(name)
	if r.MissEpoch+t.policy.Protects().ForgetEpochs <= t.meta.Epoch {
		r.Misses = 0
	}
	r.Misses++
	r.MissEpoch = t.meta.Epoch
	t.put(tableReputation+name, r)
	return r.Misses
}

func sides(words []Word) (down, up []Word) {
	for _, w := range words {
		if w.Down {
			down = append(down, w)
		} else {
			up = append(up, w)
		}
	}
	return down, up
}

func quorum(words []Word, total uint64) bool {
	n := uint64(len(words))
	return n >= ledger.MinAccusers && n*3 > total*2
}

// seqsOf is the causes that words are, ascending.
func seqsOf(words []Word) []uint64 {
	seqs := make([]uint64, len(words))
	for i, w := range words {
		seqs[i] = w.Seq
	}
	slices.Sort(seqs)
	return seqs
}

func (t *transition) verdict(kind, name string, words []Word, total uint64) {
	t.appendEffect(EffectVerdict, &VerdictEffect{Kind: kind, Name: name, Operators: uint64(len(words)), Total: total}, seqsOf(words)...)
}

// observeLink takes the word of one end. A link is down when both ends say so,
// or one does and the far end is down by its monitors' verdict; it is up again
// when both say so.
func (t *transition) observeLink(st *ledger.Statement, a author, body *ledger.Observe, far *NodeRecord) *problem {
	key := linkOf(a.name, far.Name)
	old, there := lookup[LinkRecord](&t.view, key)
	if !there && (t.count(countLinks(a.name)) >= maxLinks || t.count(countLinks(far.Name)) >= maxLinks) {
		return refuse(TooManyLinks, "body.subject", fmt.Sprintf("at most %d links of one node", maxLinks))
	}
	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	link := &LinkRecord{Lapses: t.stamp + linkRetentionEpochs*t.policy.EpochMillis}
	if there {
		link.Down = old.Down
		link.Words = slices.DeleteFunc(slices.Clone(old.Words), func(w Word) bool { return w.Author == a.name })
	}
	link.Words = append(link.Words, t.wordOf(a, body, seq))
	slices.SortFunc(link.Words, func(x, y Word) int { return strings.Compare(x.Author, y.Author) })

	words := t.current(link.Words)
	down, up := sides(words)
	gone := t.reputation(far.Name).Down
	changed := false
	switch {
	case !link.Down && (len(down) == 2 || len(down) == 1 && down[0].Author == a.name && gone):
		link.Down, changed = true, true
	case link.Down && len(up) == 2:
		link.Down, changed = false, true
	}
	t.put(key, link)
	if changed {
		kind := ledger.LinkUp
		if link.Down {
			kind = ledger.LinkDown
		}
		t.appendEffect(EffectLink, &LinkEffect{Ends: []string{min(a.name, far.Name), max(a.name, far.Name)}, Kind: kind}, seqsOf(words)...)
	}
	return nil
}
