package gossip

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
)

// stage is a prober and peers that answer or not, tick by tick.
type stage struct {
	*world
	prober *Prober
	tick   uint64
	silent map[string]bool
	said   []string
}

const stageFirst = 60_000

func newStage(subjects int, links ...string) *stage {
	s := &stage{world: newWorld(20, 1), tick: stageFirst, silent: map[string]bool{}}
	s.prober = NewProber(s.names[0], NewVows(0, 0))
	a := Assignment{Epoch: 100}
	for i := 1; i <= subjects; i++ {
		a.Subjects = append(a.Subjects, Duty{Name: s.names[i], Every: 3, Phase: uint64(i % 3)})
	}
	for _, l := range links {
		a.Links = append(a.Links, Duty{Name: l, Every: 3})
	}
	s.prober.Assign(a)
	return s
}

// run lets ticks pass and notes what is said: "tick kind subject from-to", ticks
// counted from the first.
func (s *stage) run(ticks int) {
	for range ticks {
		probes, words := s.prober.Tick(s.world, s.tick)
		for _, w := range words {
			s.said = append(s.said, fmt.Sprintf("%d %s %s %d-%d", s.tick-stageFirst, w.Kind, w.Subject, w.From-stageFirst, w.To-stageFirst))
		}
		for i, p := range probes {
			id := ledger.Hash{byte(i), byte(s.tick), byte(s.tick >> 8)}
			s.prober.Sent(p.Subject, p.Tick, id)
			if s.silent[p.Subject] {
				s.prober.Missed(p.Subject, id)
			} else {
				s.prober.Answered(p.Subject, &ledger.Ack{Challenge: id, Prober: s.prober.me, Tick: p.Tick})
			}
		}
		s.tick++
	}
}

func (s *stage) says(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.said, want) {
		t.Errorf("said:\n%s\nwant:\n%s", strings.Join(s.said, "\n"), strings.Join(want, "\n"))
	}
	s.said = nil
}

func TestProberSaysWhatIsDown(t *testing.T) {
	s := newStage(6)
	s.run(9)
	s.says(t)
	s.silent["n-003-000"] = true // probed when tick is a multiple of 3
	s.run(4)                     // missed at 9 and again at 10
	s.says(t, "11 node.down n-003-000 9-10")
	s.run(10) // not again within the window, until it is a verdict
	s.says(t)
	s.run(2)
	s.says(t, "23 node.down n-003-000 11-22")
	s.nodes["n-003-000"] = Node{Name: "n-003-000", Standing: Active, Down: true}
	s.run(20)
	s.says(t)
	clean, cause := s.prober.Watched(100)
	if len(clean) != 5 || !slices.Equal(cause, []string{"n-003-000"}) {
		t.Errorf("clean %v, cause %v", clean, cause)
	}
	delete(s.silent, "n-003-000")
	s.run(4)
	s.says(t, "46 node.up n-003-000 45-45")
	s.run(12) // the verdict stands: said again once a window
	s.says(t, "58 node.up n-003-000 57-57")
	s.nodes["n-003-000"] = Node{Name: "n-003-000", Standing: Active}
	s.run(30)
	s.says(t)
}

func TestProberSaysNothingWhenCutOff(t *testing.T) {
	s := newStage(6, "n-010-000")
	s.run(9)
	for _, name := range s.names {
		s.silent[name] = true
	}
	s.run(20)
	s.says(t, "11 link.down n-010-000 9-10", "23 link.down n-010-000 11-22") // of its own link it may
	clear(s.silent)
	s.run(6)
	s.says(t, "31 link.up n-010-000 30-30")
}

func TestProberSaysNothing(t *testing.T) {
	for name, spoil := range map[string]func(s *stage){
		"of one miss":        func(s *stage) { s.run(1); delete(s.silent, "n-003-000") },
		"in the beginning":   func(s *stage) { s.prober.duties.Bootstrap = true },
		"in quarantine":      func(s *stage) { s.nodes[s.names[0]] = Node{Name: s.names[0], Standing: Quarantined} },
		"of who is gone":     func(s *stage) { delete(s.nodes, "n-003-000") },
		"of whom it answers": func(s *stage) { s.prober.Acknowledge("n-003-000", s.tick+1, s.tick) },
	} {
		s := newStage(6)
		s.run(9)
		s.silent["n-003-000"] = true
		spoil(s)
		s.run(2)
		if len(s.said) != 0 {
			t.Errorf("%s: %v", name, s.said)
		}
	}
}

func TestProberContradictsSlander(t *testing.T) {
	s := newStage(6)
	s.run(12)
	if _, ok := s.prober.Accused(s.world, "n-003-000", stageFirst+7, stageFirst+8); ok {
		t.Error("it speaks of ticks in which it did not ask")
	}
	if _, ok := s.prober.Accused(s.world, "n-015-000", stageFirst, stageFirst+9); ok {
		t.Error("it speaks of whom it does not watch")
	}
	w, ok := s.prober.Accused(s.world, "n-003-000", stageFirst+7, stageFirst+9)
	if !ok || w.Kind != ledger.NodeUp || w.From != stageFirst+9 || w.To != stageFirst+9 {
		t.Errorf("%+v, %v", w, ok)
	}
	if _, ok := s.prober.Accused(s.world, "n-003-000", stageFirst+7, stageFirst+9); ok {
		t.Error("it says so twice")
	}
}

func TestStrangersDoNotUseUpAcks(t *testing.T) {
	s := newStage(1)
	a := s.prober.duties
	a.Askers = []string{"monitor"}
	s.prober.Assign(a)
	acks := 0
	for i := range 1_000 {
		if s.prober.Acknowledge(fmt.Sprintf("stranger-%d", i), 500, 500) {
			acks++
		}
	}
	if acks != strangerAcks || !s.prober.Acknowledge("monitor", 500, 500) || s.prober.Acknowledge("monitor", 500, 500) {
		t.Errorf("%d strangers had acks", acks)
	}
}

// A clock that is set back says nothing until it has caught up; ticks of another
// length begin anew.
func TestProberAndClocks(t *testing.T) {
	s := newStage(6)
	s.run(9)
	s.tick -= 5
	if probes, words := s.prober.Tick(s.world, s.tick); len(probes)+len(words) != 0 {
		t.Errorf("set back: %v, %v", probes, words)
	}
	s.rules.TickMillis = 20_000
	s.tick = stageFirst / 2
	s.run(9)
	s.silent["n-003-000"] = true
	s.run(6)
	if len(s.said) == 0 || s.prober.vows.acked["n-003-000"] != 0 {
		t.Errorf("in longer ticks: %v", s.said)
	}
}

// In any order of probes and accusations of few peers and more than a table
// holds, what vows let through never contradicts itself.
func TestVowsHold(t *testing.T) {
	type span struct{ from, to uint64 }
	rapid.Check(t, func(t *rapid.T) {
		v := NewVows(rapid.Uint64Range(0, 20).Draw(t, "acked"), rapid.Uint64Range(0, 20).Draw(t, "accused"))
		firstAck, firstAccusation := v.accusedFloor+1, v.ackedFloor+1
		acks, spans := map[string][]uint64{}, map[string][]span{}
		now := uint64(10)
		crowd := rapid.SampledFrom([]int{2, MaxVows + 300}).Draw(t, "peers")
		steps := rapid.IntRange(1, 100).Draw(t, "steps")
		if crowd > 2 {
			steps += crowd
		}
		for i := range steps {
			name := fmt.Sprint(i % crowd)
			now += uint64(rapid.IntRange(0, 9).Draw(t, "time") / 8)
			if i%3 > 0 == (rapid.IntRange(0, 9).Draw(t, "kind") > 0) {
				tick := now + rapid.Uint64Range(0, 4).Draw(t, "off") - 2
				if v.Acknowledge(name, tick, now) {
					if tick < firstAck || tick > now+1 || tick+1 < now {
						t.Fatalf("at %d, tick %d is acknowledged", now, tick)
					}
					acks[name] = append(acks[name], tick)
				}
				continue
			}
			from := now - min(now, rapid.Uint64Range(0, 8).Draw(t, "from"))
			if first, ok := v.Accuse(name, from, now); ok {
				if first < from || first > now || first < firstAccusation {
					t.Fatalf("at %d, from %d: %d", now, from, first)
				}
				spans[name] = append(spans[name], span{first, now})
			}
		}
		for name, list := range spans {
			for _, s := range list {
				for _, tick := range acks[name] {
					if tick >= s.from && tick <= s.to {
						t.Fatalf("%s: accused of %d to %d, acknowledged %d", name, s.from, s.to, tick)
					}
				}
			}
		}
		if len(v.acked) > MaxVows || len(v.accused) > MaxVows {
			t.Fatalf("%d and %d peers are remembered", len(v.acked), len(v.accused))
		}
	})
}

// Whoever no longer fits the table is not forgotten: its tick holds for all.
func TestVowsForgetNobody(t *testing.T) {
	v, w := NewVows(0, 0), NewVows(0, 0)
	v.Acknowledge("first", 100, 100)
	w.Accuse("first", 90, 100)
	for i := range MaxVows {
		v.Acknowledge(fmt.Sprint(i), 101, 101)
		w.Accuse(fmt.Sprint(i), 101, 101)
	}
	if from, ok := v.Accuse("first", 90, 105); !ok || from != 101 {
		t.Errorf("it is accused from tick %d", from)
	}
	if w.Acknowledge("first", 100, 100) {
		t.Error("it is acknowledged in a tick for which it was accused")
	}
}
