package agent

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// counted sums a counter of some members' over its labels that hold a word.
func counted(members []*member, of func(*metrics) *prometheus.CounterVec, word string) int {
	total := 0.0
	for _, m := range members {
		lines := make(chan prometheus.Metric, 256)
		of(m.metrics).Collect(lines)
		close(lines)
		for line := range lines {
			var d dto.Metric
			if line.Write(&d) == nil && strings.Contains(d.String(), word) {
				total += d.GetCounter().GetValue()
			}
		}
	}
	return int(total)
}

// submitted is how often members brought evidence to the ledger, their own or
// another's.
func submitted(members []*member) int {
	return counted(members, func(m *metrics) *prometheus.CounterVec { return m.verdicts }, ledger.TypeEvidence)
}

// pleas counts the evidence statements that agents gossip.
type pleas struct {
	mu  sync.Mutex
	ids map[ledger.Hash]bool
}

func (s *pleas) look(f mesh.Frame) {
	if f.Direction != mesh.Sent || f.Channel != string(mesh.Statements) || !bytes.Contains(f.Data[:min(len(f.Data), 256)], []byte("quorate/evidence.v1")) {
		return
	}
	if st, err := ledger.ParseStatement(f.Data); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ids[st.ID] = true
	}
}

func (s *pleas) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// checkEarly is for running members: what one of them says of the next epoch is
// taken in by who hears of that epoch a little later, and not by who never does.
func (f *fleet) checkEarly(members []*member) {
	f.t.Helper()
	judge, author := members[0].judge, members[1]
	said := func(seq, epoch uint64) []byte {
		b, err := ledger.Sign(author.key, ledger.Payload{Author: author.name, Epoch: &epoch, Seq: &seq, Ledger: f.cluster.Hash, Type: ledger.TypeObserve},
			ledger.Observe{Counter: seq + 1, Kind: ledger.NodeUp, Subject: members[2].name})
		if err != nil {
			f.t.Fatal(err)
		}
		return b
	}
	epoch := judge.agent.View().State.Epoch()
	from := mesh.Member{Name: members[2].name}
	if v := judge.Statement(from, said(30_000, epoch+2)); v != mesh.Ignore {
		f.t.Errorf("of the epoch after the next: %s", v)
	}
	judge.agent.early.mu.Lock()
	judge.agent.early.patience = 2 * patience
	judge.agent.early.mu.Unlock()
	verdict := make(chan mesh.Verdict, 1)
	waits := said(30_001, epoch+1)
	go func() { verdict <- judge.Statement(from, waits) }()
	f.await("it waits", members[:1], func(*member) bool {
		judge.agent.early.mu.Lock()
		defer judge.agent.early.mu.Unlock()
		return judge.agent.early.hops[from.Name] == 1
	})
	if v := judge.Statement(from, said(30_002, epoch+1)); v != mesh.Ignore {
		f.t.Errorf("another of the same author: %s, while one of them waits", v)
	}
	forged := said(30_003, epoch+1)
	forged[len(forged)-1] ^= 1
	if v := judge.Statement(from, forged); v != mesh.Reject {
		f.t.Errorf("signed by nobody: %s", v)
	}
	judge.agent.change(func(*View) {}) // of no consequence
	select {
	case v := <-verdict:
		f.t.Errorf("before its epoch: %s", v)
	default:
	}
	f.decide("epoch.advance", struct{}{})
	if v := <-verdict; v != mesh.Accept {
		f.t.Errorf("once its epoch has begun: %s", v)
	}
	if v := judge.Statement(from, waits); v != mesh.Known {
		f.t.Errorf("the same once more: %s", v)
	}
	checkPlaces(f.t)
}

// checkPlaces is for what waits for its epoch: who has how many places.
func checkPlaces(t *testing.T) {
	t.Helper()
	e := newEarly()
	for i := range maxEarlyHop {
		if _, ok := e.enter("one", fmt.Sprint("author ", i)); !ok {
			t.Errorf("a hop has no more than %d places", i)
		}
	}
	if _, more := e.enter("one", "more"); more {
		t.Error("one hop takes more places than its own")
	}
	if _, twice := e.enter("other", "author 0"); twice {
		t.Error("an author has two places")
	}
	if _, other := e.enter("other", "more"); !other {
		t.Error("one hop takes the places of others")
	}
	e.leave("one", "author 0")
	if _, again := e.enter("one", "author 0"); !again {
		t.Error("a place that was left stays taken")
	}
	for i := range maxEarly {
		e.enter(fmt.Sprint("hop ", i), fmt.Sprint("of hop ", i))
	}
	if len(e.authors) != maxEarly {
		t.Errorf("%d wait, %d may", len(e.authors), maxEarly)
	}
}

// checkTurns is for running members of whom nobody was proven anything but the
// excluded: each offence has one who brings it first, and whoever hears of it
// waits, until the ledger has it or too much time has passed.
func checkTurns(t *testing.T, members []*member, excluded string) {
	t.Helper()
	accused := members[0]
	first := 0
	const offences = 20
	for seq := range uint64(offences) {
		o := ledger.Offence{Kind: ledger.EvidenceEquivocation, Offender: accused.name, KeyID: accused.identity.Load().active, Seq: seq}
		for _, m := range members[1:] {
			turn := turnOf(m.View().certified, m.name, &o)
			if turn == 0 {
				first++
			}
			if turn < 0 || turn >= proofTurns*proofTurn+proofSpread {
				t.Errorf("%s waits %s", m.name, turn)
			}
		}
	}
	// Its monitors are one node of each other operator, and not all of them run.
	if first == 0 || first > offences {
		t.Errorf("%d were first to bring %d offences", first, offences)
	}

	d := newDocket(members[1].Agent)
	proof := &gossip.Proof{Offence: ledger.Offence{Kind: ledger.EvidenceFlood, Offender: accused.name, KeyID: accused.identity.Load().active, Seq: 1}}
	d.open(proof)
	now := time.Now().Add(time.Second)
	if got, _ := d.next(now); got != proof {
		t.Errorf("after its turn has come: %+v", got)
	}
	epoch := epochOf(members[1].View()).Epoch + 100 // which does not come meanwhile
	d.said(&proof.Offence, epoch)
	if got, wait := d.next(now.Add(proofPatience - 1)); got != nil || wait <= 0 {
		t.Errorf("after it was brought: %+v, %s", got, wait)
	}
	now = time.Now()
	d.brought(&proof.Offence)
	if got, wait := d.next(now.Add(proofPatience - 1)); got != nil || wait <= 0 || wait > retryMost {
		t.Errorf("while another brings it: %+v, %s", got, wait)
	}
	now = time.Now()
	d.refused(&proof.Offence)
	if got, _ := d.next(now.Add(proofRefused - 1)); got != nil {
		t.Error("it is brought before the ledger can show why it refused the other's")
	}
	if got, _ := d.next(time.Now().Add(proofRefused + time.Second)); got != proof {
		t.Error("it is not brought, though the ledger refused the other's")
	}
	d.said(&proof.Offence, epoch)
	d.brought(&proof.Offence)
	if got, _ := d.next(time.Now().Add(2 * proofPatience)); got != proof {
		t.Error("it is forgotten, though the ledger never got it")
	}
	now = time.Now()
	for range proofTries {
		now = now.Add(time.Hour)
		if got, _ := d.next(now); got != proof {
			t.Fatal("it is forgotten, though it could not be said")
		}
	}
	for rest := uint64(1); rest <= 4; rest *= 2 {
		d.said(&proof.Offence, epoch)
		now = now.Add(time.Hour)
		c := d.cases[proof.Offence.Key()]
		if got, _ := d.next(now); got != nil || c == nil || c.epoch != epoch+rest {
			t.Fatalf("it was said often enough for this epoch: %+v, %+v", got, c)
		}
		c.epoch = epochOf(members[1].View()).Epoch
		if got, _ := d.next(now); got != proof {
			t.Fatal("it is not brought, though its epoch has come")
		}
	}
	clear(d.cases)
	d.open(&gossip.Proof{Offence: ledger.Offence{Kind: ledger.EvidenceFlood, Offender: excluded, Seq: 2}})
	if got, _ := d.next(time.Now()); got != nil || len(d.cases) != 0 {
		t.Errorf("against whom the ledger excluded: %+v", got)
	}

	// When all places are taken, what excludes has one all the same.
	for seq := range uint64(proofQueue) {
		d.open(&gossip.Proof{Offence: ledger.Offence{Kind: ledger.EvidenceFlood, Offender: accused.name, KeyID: accused.identity.Load().active, Seq: seq}})
	}
	grave := &gossip.Proof{Offence: ledger.Offence{Kind: ledger.EvidenceEquivocation, Offender: accused.name, KeyID: accused.identity.Load().active, Seq: 1}}
	minor := &gossip.Proof{Offence: ledger.Offence{Kind: ledger.EvidenceFlood, Offender: accused.name, KeyID: accused.identity.Load().active, Seq: proofQueue}}
	d.open(grave)
	d.open(minor)
	if d.cases[grave.Offence.Key()] == nil || d.cases[minor.Offence.Key()] != nil || len(d.cases) != proofQueue {
		t.Errorf("of %d cases, the grave one: %+v", len(d.cases), d.cases[grave.Offence.Key()])
	}
}
