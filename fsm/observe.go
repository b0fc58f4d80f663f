package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// Word is what one operator's monitor, or one end of a link, said last.
type Word struct {
	At       uint64 `json:"at"` // stamp of its entry
	Author   string `json:"author"`
	Down     bool   `json:"down,omitempty"`
	From     uint64 `json:"from"` // ticks of which it speaks
	Operator string `json:"operator"`
	Seq      uint64 `json:"seq"` // of its entry
	To       uint64 `json:"to"`
}

// TallyRecord is the record "tally/EPOCH/MATTER/SUBJECT": what a node's
// monitors of one epoch say of it. It leaves the state when its window is over.
type TallyRecord struct {
	Judged bool   `json:"judged,omitempty"` // node.bad: a verdict was given, and is once an epoch
	Lapses uint64 `json:"lapses"`           // stamp
	Words  []Word `json:"words"`            // by operator
}

// LinkRecord is the record "link/A/B", A before B: what both ends say of their
// link. It leaves the state when nobody has spoken of it for long.
type LinkRecord struct {
	Down   bool   `json:"down,omitempty"`
	Lapses uint64 `json:"lapses"`
	Words  []Word `json:"words"` // at most one of each end, by author
}

// mutual reports whether the link is down by the word of both ends.
func (l *LinkRecord) mutual() bool {
	return l.Down && len(l.Words) == 2 && l.Words[0].Down && l.Words[1].Down
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
	if subject.Standing == NodeExcluded {
		return refuse(NodeIsExcluded, "body.subject", fmt.Sprintf("%s is excluded", subject.Name))
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
	if p := t.checkNode(st, a); p != nil {
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
	operators := t.electorOperators()
	if t.bootstrap(len(operators)) {
		return refuse(NoElectorate, "", fmt.Sprintf("fewer than %d operators have nodes whose word counts", ledger.MinAccusers))
	}
	panel := t.panel(subject, epoch, operators)
	if !t.watches(&panel, a.operator, a.name) {
		return refuse(NotMonitor, "body.subject", fmt.Sprintf("%s does not watch %s in epoch %d", a.name, subject.Name, epoch))
	}
	if body.Down() && t.reputation(a.name).muted(subject.Operator, t.meta.Epoch) {
		return refuse(Muted, "body.subject", fmt.Sprintf("%s was accused by %s", a.name, subject.Operator))
	}
	key := tallyOf(epoch, body.Matter(), subject.Name)
	tally := &TallyRecord{Lapses: t.windowEnd()}
	if old, ok := lookup[TallyRecord](&t.view, key); ok {
		if old.Judged {
			t.useSeq(st, t.append(ledger.KindStatement, st.Envelope))
			return nil // said, and of no more effect
		}
		tally.Words = t.counting(old.Words, &panel)
	}
	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	tally.Words = say(tally.Words, t.word(a, body, seq))
	t.put(key, tally)
	t.judge(key, tally, body.Matter(), subject, uint64(len(panel.operators)))
	return nil
}

func (t *transition) word(a author, body *ledger.Observe, seq uint64) Word {
	return Word{At: t.stamp, Author: a.name, Down: body.Down(), From: body.From, Operator: a.operator, Seq: seq, To: body.To}
}

func (t *transition) windowMillis() uint64 {
	return t.policy.Protects().WindowTicks * t.policy.TickMillis
}

func (t *transition) windowEnd() uint64 { return t.stamp + t.windowMillis() + 1 }

func (t *transition) current(w Word) bool { return w.At+t.windowMillis() >= t.stamp }

// counting leaves out the words that are older than the window, and those of
// who is drawn no more: it left, or is quarantined, excluded or down.
func (t *transition) counting(words []Word, p *panel) []Word {
	return slices.DeleteFunc(slices.Clone(words), func(w Word) bool {
		return !t.current(w) || !t.watchesStill(p, &w)
	})
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
	causes := seqsOf(down)
	switch {
	case quorum(down, total) && matter == "bad":
		if t.breakerHolds(subject, p.BadPoints, causes...) {
			return // the words stay: the verdict may follow when there is room
		}
		// Its epoch's statements are accepted until the next epoch ends.
		t.put(key, &TallyRecord{Judged: true, Lapses: t.meta.EpochStart + 2*t.policy.EpochMillis + 1, Words: []Word{}})
		t.verdict(ledger.NodeBad, subject.Name, down, total)
		t.mute(subject.Name, down)
		t.punish(subject.Name, ledger.NodeBad, p.BadPoints, true, causes...)
	case quorum(down, total) && !t.reputation(subject.Name).Down:
		seq := t.verdict(ledger.NodeDown, subject.Name, down, total)
		t.setDown(subject.Name, seq, causes...)
	case matter == "node" && t.reputation(subject.Name).Down:
		if quorum(up, total) {
			t.verdict(ledger.NodeUp, subject.Name, up, total)
			t.setDown(subject.Name, 0, seqsOf(up)...)
		}
	case matter == "node":
		t.contradict(key, tally, total)
	}
}

// contradict judges the accusations that more than two thirds of the drawn
// contradict: they reached the accused in a tick of which the accusation speaks.
// Each is judged once.
func (t *transition) contradict(key string, tally *TallyRecord, total uint64) {
	down, up := sides(tally.Words)
	for _, w := range down {
		against := slices.DeleteFunc(slices.Clone(up), func(u Word) bool { return u.From > w.To || u.To < w.From })
		if !quorum(against, total) {
			continue
		}
		tally = &TallyRecord{Lapses: tally.Lapses, Words: slices.DeleteFunc(slices.Clone(tally.Words), func(old Word) bool { return old == w })}
		t.put(key, tally)
		p, r := t.policy.Protects(), t.reputation(w.Author)
		points := r.miss(&p, t.meta.Epoch)
		t.put(tableReputation+w.Author, r)
		if points > 0 {
			t.punish(w.Author, offenceAccusation, points, false, seqsOf(append(against, w))...)
		}
	}
}

// offenceAccusation is the kind of offence that a contradicted accusation is.
const offenceAccusation = "accusation"

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

func (t *transition) verdict(kind, name string, words []Word, total uint64) uint64 {
	return t.appendEffect(EffectVerdict, &VerdictEffect{Kind: kind, Name: name, Operators: uint64(len(words)), Total: total}, seqsOf(words)...)
}

// observeLink takes the word of one end. A link is down when both ends say so
// in one window, or one does and the far end is down by its monitors' verdict; it
// is up again when the last word of both is that.
func (t *transition) observeLink(st *ledger.Statement, a author, body *ledger.Observe, far *NodeRecord) *problem {
	key := linkOf(a.name, far.Name)
	old, there := lookup[LinkRecord](&t.view, key)
	if !there {
		old = &LinkRecord{}
	}
	others := slices.DeleteFunc(slices.Clone(old.Words), func(w Word) bool { return w.Author == a.name })
	if len(others) == len(old.Words) && t.count(countLinks(a.name)) >= maxLinks {
		return refuse(TooManyLinks, "body.subject", fmt.Sprintf("at most %d links of one node", maxLinks))
	}
	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useSeq(st, seq)
	link := &LinkRecord{Down: old.Down, Lapses: t.stamp + linkRetentionEpochs*t.policy.EpochMillis, Words: append(others, t.word(a, body, seq))}
	slices.SortFunc(link.Words, func(x, y Word) int { return strings.Compare(x.Author, y.Author) })

	words, kind := link.Words, ledger.LinkUp
	down, up := sides(words)
	fresh := slices.DeleteFunc(slices.Clone(down), func(w Word) bool { return !t.current(w) })
	switch gone := t.reputation(far.Name).Down; {
	case !link.Down && body.Down() && (len(fresh) == 2 || gone):
		link.Down, words, kind = true, fresh, ledger.LinkDown
	case link.Down && len(up) == 2:
		link.Down = false
	}
	t.put(key, link)
	if link.Down != old.Down {
		t.appendEffect(EffectLink, &LinkEffect{Ends: []string{min(a.name, far.Name), max(a.name, far.Name)}, Kind: kind}, seqsOf(words)...)
	}
	if link.mutual() != old.mutual() {
		t.watchPartition(seqsOf(words)...)
	}
	return nil
}
