package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// crowd is a View of a fleet whose nodes are all active, and down by no verdict.
type crowd struct {
	rules   gossip.Rules
	stables []ledger.Stable
	nodes   map[string]gossip.Node
	names   []string
}

func newCrowd(operators, nodes int, p ledger.Protection) *crowd {
	c := &crowd{nodes: map[string]gossip.Node{}, rules: gossip.Rules{
		Ledger: ledger.Hash{1}, Format: 2, Quota: 65_536, EpochMillis: 300_000, TickMillis: 10_000, Protection: p,
	}}
	for i := range operators {
		s := ledger.Stable{Operator: fmt.Sprintf("op-%03d", i)}
		for j := range nodes {
			name := fmt.Sprintf("n-%03d-%03d", i, j)
			s.Nodes = append(s.Nodes, name)
			c.names = append(c.names, name)
			c.nodes[name] = gossip.Node{Name: name, Operator: s.Operator, Standing: gossip.Active, Ordinal: uint64(len(c.names))}
		}
		c.stables = append(c.stables, s)
	}
	return c
}

func (c *crowd) Rules() gossip.Rules                          { return c.rules }
func (c *crowd) Author(ledger.Hash) (gossip.Author, bool)     { return gossip.Author{}, false }
func (c *crowd) LinkDown(string, string) bool                 { return false }
func (c *crowd) Electorate() (s []ledger.Stable, few bool)    { return c.stables, false }
func (c *crowd) AttestWindow(string) (first uint64, ok bool)  { return 0, false }
func (c *crowd) Node(name string) (n gossip.Node, found bool) { n, found = c.nodes[name]; return }
func (c *crowd) Nodes() iter.Seq[gossip.Node] {
	return func(yield func(gossip.Node) bool) {
		for _, name := range c.names {
			if !yield(c.nodes[name]) {
				return
			}
		}
	}
}

func (c *crowd) Seed(epoch uint64) (ledger.Hash, bool) {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, epoch)), true
}

// assignments is gossip.Assign for everybody, from one draw of each subject.
func (c *crowd) assignments(epoch uint64, links map[string][]string) map[string]gossip.Assignment {
	seed, _ := c.Seed(epoch)
	all := map[string]gossip.Assignment{}
	every := c.rules.Protection.ProbeTicks
	duty := func(me, name string) gossip.Duty {
		h := sha256.Sum256([]byte(me + "/" + name + string(seed[:])))
		return gossip.Duty{Name: name, Every: every, Phase: uint64(h[0]) % every, Offset: binary.BigEndian.Uint16(h[1:])}
	}
	for _, name := range c.names {
		a := all[name]
		a.Epoch = epoch
		for _, m := range ledger.Draw(seed, name, c.nodes[name].Operator, c.stables, int(c.rules.Protection.Monitors)) {
			a.Askers = append(a.Askers, m.Node)
			w := all[m.Node]
			w.Epoch = epoch
			w.Subjects = append(w.Subjects, duty(m.Node, name))
			all[m.Node] = w
		}
		for _, far := range links[name] {
			a.Links = append(a.Links, duty(name, far))
			a.Askers = append(a.Askers, far)
		}
		a.Subjects = all[name].Subjects
		all[name] = a
	}
	return all
}

// uttered is a statement that a node signed.
type uttered struct {
	epoch, seq uint64
	body       any // ledger.Probe, ledger.Ack, ledger.Observe
}

// life is an honest node: the real prober, vows and seqs on a disk that crashes.
type life struct {
	name, boot string
	disk       *crashDisk
	copied     []byte // of the seqs, from some time ago
	seqs       *Seqs
	prober     *gossip.Prober
	skew       uint64 // ticks that its clock is ahead of the slowest
	said       []uttered
	planted    string
}

func (l *life) start(t testing.TB, c *crowd, a gossip.Assignment) {
	t.Helper()
	l.disk = l.disk.again()
	seqs, err := openSeqs(l.disk, "seqs", testKey, l.boot)
	if err != nil {
		t.Fatal(err)
	}
	l.seqs = seqs
	acked, accused := seqs.Ticks(c.rules.TickMillis)
	l.prober = gossip.NewProber(l.name, gossip.NewVows(acked, accused))
	l.prober.Assign(a)
}

// sign does what an agent does: the vow, the seq, the signature.
func (l *life) sign(c *crowd, typ string, body any) (uttered, bool) {
	if err := l.seqs.Vow(body, c.rules.TickMillis); err != nil {
		return uttered{}, false
	}
	space := ledger.SeqSpaceOf(typ)
	seq, err := l.seqs.Next(c.rules.Epoch, space, c.rules.QuotaOf(space))
	if err != nil {
		return uttered{}, false
	}
	if o, ok := body.(ledger.Observe); ok {
		o.Counter = seq + 1
		body = o
	}
	u := uttered{c.rules.Epoch, seq, body}
	l.said = append(l.said, u)
	return u, true
}

func (u *uttered) statement(author string) *ledger.Statement {
	typ := ledger.TypeObserve
	switch u.body.(type) {
	case ledger.Probe:
		typ = ledger.TypeProbe
	case ledger.Ack:
		typ = ledger.TypeAck
	}
	raw, err := canon.Marshal(u.body)
	if err != nil {
		panic(err)
	}
	p := ledger.Payload{Author: author, Body: raw, Epoch: &u.epoch, Seq: &u.seq, Ledger: ledger.Hash{1}, Type: typ}
	whole, err := canon.Marshal(p)
	if err != nil {
		panic(err)
	}
	return &ledger.Statement{ID: sha256.Sum256(whole), KeyID: sha256.Sum256([]byte(author)), Payload: p}
}

// arrival is a probe or an ack on its way.
type arrival struct {
	from, to string
	probe    *ledger.Probe
	ack      *ledger.Ack
	id       ledger.Hash
}

// What is planted in nodes, so that they convict themselves.
const (
	plantedVows = "vows" // they acknowledge whatever comes
	plantedBoot = "boot" // a restored copy of their disk looks as if it were none
)

// mischief is what befalls an honest fleet.
type mischief struct {
	seed       uint64
	operators  int
	nodes      int // of each operator
	ticks      int
	lossPer100 int
	latePer100 int // arrive up to three ticks late
	restarts   int // of 1,000 nodes in each tick
	planted    string
}

// live lets the fleet live and gives what everybody signed.
func live(t testing.TB, m mischief) (*crowd, map[string]*life) {
	t.Helper()
	random := rand.New(rand.NewPCG(m.seed, 2))
	p := ledger.DefaultProtection()
	p.Monitors = 12
	c := newCrowd(m.operators, m.nodes, p)
	links := map[string][]string{}
	for i, name := range c.names {
		far := c.names[(i+7)%len(c.names)]
		links[name], links[far] = append(links[name], far), append(links[far], name)
	}
	const first = 1_000 // tick
	fleet := map[string]*life{}
	duties := c.assignments(first/30, links)
	c.rules.Epoch = first / 30
	for _, name := range c.names {
		l := &life{name: name, boot: "0", disk: newCrashDisk(random.Uint64()), skew: uint64(random.IntN(2)), planted: m.planted}
		created(t, l.disk, l.boot)
		l.start(t, c, duties[name])
		fleet[name] = l
	}
	late := map[uint64][]arrival{}
	for tick := uint64(first); tick < first+uint64(m.ticks); tick++ {
		if epoch := tick / 30; epoch != c.rules.Epoch {
			c.rules.Epoch = epoch
			duties = c.assignments(epoch, links)
			for _, name := range c.names {
				fleet[name].prober.Assign(duties[name])
			}
		}
		for range m.restarts * len(c.names) / 1_000 {
			befall(t, random, fleet[c.names[random.IntN(len(c.names))]], c, duties)
		}
		queue := late[tick]
		delete(late, tick)
		for _, name := range c.names {
			l := fleet[name]
			_ = l.seqs.Fresh(c.rules.Epoch)
			probes, words := l.prober.Tick(c, tick+l.skew)
			for _, w := range words {
				l.sign(c, ledger.TypeObserve, w)
			}
			for _, q := range probes {
				body := ledger.Probe{Nonce: make([]byte, 16), Subject: q.Subject, Tick: q.Tick}
				if u, ok := l.sign(c, ledger.TypeProbe, body); ok {
					id := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", name, u.epoch, u.seq))
					l.prober.Sent(q.Subject, q.Tick, id)
					queue = append(queue, arrival{from: name, to: q.Subject, probe: &body, id: id})
				}
			}
		}
		random.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
		for len(queue) > 0 {
			a := queue[0]
			queue = queue[1:]
			if random.IntN(100) < m.lossPer100 {
				continue
			}
			if random.IntN(100) < m.latePer100 {
				at := tick + 1 + uint64(random.IntN(3))
				late[at] = append(late[at], a)
				continue
			}
			if answer, ok := deliver(c, fleet, a, tick); ok {
				queue = append(queue, answer)
			}
		}
	}
	return c, fleet
}

// befall restarts a node, crashes its disk at some step, boots its machine or
// restores an old copy of its disk.
func befall(t testing.TB, random *rand.Rand, l *life, c *crowd, duties map[string]gossip.Assignment) {
	t.Helper()
	switch random.IntN(6) {
	case 0:
		l.copied = slices.Clone(l.disk.files["seqs"])
	case 1:
		if l.planted != plantedBoot {
			l.boot += "+"
		}
		if l.copied != nil {
			l.disk.files["seqs"] = slices.Clone(l.copied)
		}
	case 2:
		l.disk.steps = random.IntN(4)
		return // it goes on, until its disk fails, and longer
	case 3:
		delete(l.disk.files, "seqs")
	}
	l.start(t, c, duties[l.name])
}

func deliver(c *crowd, fleet map[string]*life, a arrival, tick uint64) (answer arrival, ok bool) {
	l := fleet[a.to]
	if a.ack != nil {
		l.prober.Answered(a.from, a.ack)
		return arrival{}, false
	}
	if !l.prober.Acknowledge(a.from, a.probe.Tick, tick+l.skew) && l.planted != plantedVows {
		return arrival{}, false
	}
	body := ledger.Ack{Challenge: a.id, Prober: a.from, Tick: a.probe.Tick}
	if _, signed := l.sign(c, ledger.TypeAck, body); !signed {
		return arrival{}, false
	}
	return arrival{from: a.to, to: a.from, ack: &body}, true
}

// convictions judges everything that a node signed against everything else that
// it signed, as far as two statements have anything in common.
func convictions(t testing.TB, c *crowd, l *life) (found []string, pairs int) {
	t.Helper()
	judge := func(kind string, quota uint64, list ...*uttered) {
		var exhibits []*ledger.Statement
		for _, u := range list {
			exhibits = append(exhibits, u.statement(l.name))
		}
		pairs++
		o, err := ledger.Judge(kind, exhibits, quota)
		var nothing *ledger.StatementError
		if err == nil {
			found = append(found, fmt.Sprintf("%s: %+v %+v", o.Key(), list[0], list[len(list)-1]))
		} else if !errors.As(err, &nothing) || nothing.Code != "proves_nothing" {
			t.Fatalf("judging %+v: %v", list, err)
		}
	}
	type slot struct {
		epoch, seq uint64
		space      ledger.SeqSpace
	}
	seqs, acks, words := map[slot]*uttered{}, map[string][]*uttered{}, map[string][]*uttered{}
	for i := range l.said {
		u := &l.said[i]
		s := slot{u.epoch, u.seq, ledger.SpaceProbe}
		switch b := u.body.(type) {
		case ledger.Ack:
			acks[b.Prober] = append(acks[b.Prober], u)
		case ledger.Observe:
			words[b.Subject] = append(words[b.Subject], u)
			s.space = ledger.SpaceMain
		}
		if other, there := seqs[s]; there {
			judge(ledger.EvidenceEquivocation, 0, other, u)
		}
		seqs[s] = u
		if quota := c.rules.QuotaOf(s.space); u.seq >= quota {
			judge(ledger.EvidenceFlood, quota, u)
		}
	}
	for subject, said := range words {
		for i, u := range said {
			for _, other := range said[:i] {
				judge(ledger.EvidenceObservation, 0, other, u)
			}
			for _, ack := range acks[subject] {
				judge(ledger.EvidenceContradiction, 0, u, ack)
			}
		}
	}
	return found, pairs
}

func accusations(l *life) (n int) {
	for _, u := range l.said {
		if o, ok := u.body.(ledger.Observe); ok && o.Down() {
			n++
		}
	}
	return n
}

// A thousand honest nodes that lose messages, get them late, restart, crash, lose
// their records and come back with old copies of them never sign what convicts
// them.
func TestHonestNodesNeverConvictThemselves(t *testing.T) {
	m := mischief{seed: 1, operators: 25, nodes: 40, ticks: 75, lossPer100: 12, latePer100: 10, restarts: 12}
	if testing.Short() {
		m.nodes = 8
	}
	c, fleet := live(t, m)
	signed, accused, pairs := 0, 0, 0
	for _, name := range c.names {
		found, judged := convictions(t, c, fleet[name])
		if len(found) > 0 {
			t.Fatalf("seed %d: %s convicts itself %d times, as by %s", m.seed, name, len(found), found[0])
		}
		signed, accused, pairs = signed+len(fleet[name].said), accused+accusations(fleet[name]), pairs+judged
	}
	t.Logf("%d nodes signed %d statements, %d of them accusations; %d pairs prove nothing", len(c.names), signed, accused, pairs)
	if accused < len(c.names)/10 || pairs == 0 {
		t.Errorf("only %d accusations, %d pairs: nothing was tried", accused, pairs)
	}
}

// The judgement above is not blind: it finds nodes that keep no vows, and those
// that do not notice that their disk is an old copy.
func TestPlantedConvictionsAreFound(t *testing.T) {
	for planted, kind := range map[string]string{plantedVows: ledger.EvidenceContradiction, plantedBoot: ledger.EvidenceEquivocation} {
		c, fleet := live(t, mischief{seed: 2, operators: 12, nodes: 4, ticks: 60, lossPer100: 30, latePer100: 5, restarts: 60, planted: planted})
		n := 0
		for _, name := range c.names {
			found, _ := convictions(t, c, fleet[name])
			for _, f := range found {
				if strings.Contains(f, "/"+kind+"/") {
					n++
				}
			}
		}
		t.Logf("planted %s: %d convictions of %s", planted, n, kind)
		if n == 0 {
			t.Errorf("planted %s: no %s is found", planted, kind)
		}
	}
}
