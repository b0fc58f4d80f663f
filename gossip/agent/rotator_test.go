package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// shortKeys has keys end after some epochs of two seconds, and the council hold shares of
// their backups.
func shortKeys(t *testing.T) func(g *ledger.Genesis) {
	var recipients []string
	for range 3 {
		_, recipient, err := keys.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		recipients = append(recipients, recipient)
	}
	return func(g *ledger.Genesis) { shorten(g, recipients) }
}

func shorten(g *ledger.Genesis, recipients []string) {
	for i := range g.Council {
		g.Council[i].Recipient = recipients[i]
	}
	g.Policy.EpochMillis, g.Policy.TickMillis, g.Policy.KeyEpochs = 2_000, 500, 16
	k := ledger.DefaultKeys()
	k.RotateEpochs, k.LateEpochs = 15, 11 // due at once, with time for a machine that stalls
	g.Policy.Keys = &k
}

// hearing notes which statements an agent was given and let pass, by author.
type hearing struct {
	mu    sync.Mutex
	heard map[ledger.Hash]bool
}

func (h *hearing) look(f mesh.Frame) {
	if f.Direction != mesh.Received || f.Channel != string(mesh.Statements) || f.Verdict != mesh.Accept {
		return
	}
	if st, err := ledger.ParseStatement(f.Data); err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.heard[st.ID] = true
	}
}

func (h *hearing) has(id ledger.Hash) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[id]
}

// utterance is a statement that an agent made, and when.
type utterance struct {
	author string
	id     ledger.Hash
	epoch  uint64
	at     time.Time
}

// speak says a word as the watcher does. A node that had to wait for long may have nothing
// to say with, for a moment: it says so.
func (m *member) speak(t *testing.T, of string) (u utterance, said bool) {
	t.Helper()
	view := m.View().certified
	tick := uint64(time.Now().UnixMilli()) / view.Rules().TickMillis
	st, err := m.out.sign(ledger.TypeObserve, func(seq uint64) any {
		return ledger.Observe{Kind: ledger.LinkUp, Subject: of, From: tick, To: tick, Counter: seq + 1}
	})
	if err != nil {
		t.Logf("%s says nothing in epoch %d: %v", m.name, view.State.Epoch(), err)
		return utterance{}, false
	}
	m.judge.own(st, nil)
	m.out.add(newOutgoing(st))
	m.out.gossip(st)
	if err := m.out.kept.Add(st, gossip.UrgencyOf(st, true)); err != nil {
		t.Fatal(err)
	}
	return utterance{m.name, st.ID, *st.Payload.Epoch, time.Now()}, true
}

// rotating is a fleet whose keys end after seconds, and what it said.
type rotating struct {
	*fleet
	hearings map[string]*hearing
	said     []utterance
	keys     map[string][]ledger.Hash // that were seen in force, by node
	stalled  time.Duration            // the longest that the machine let the test wait
	slowest  time.Duration            // from what was said to its entry
	epochs   map[uint64]uint64        // their beginnings, as the ledger has them
}

func (r *rotating) begin(m *member) {
	r.hearings[m.name] = &hearing{heard: map[ledger.Hash]bool{}}
	r.observe = r.hearings[m.name].look
	r.start(m)
}

// talk has everybody speak ten times a second until each has had so many keys.
func (r *rotating) talk(t *testing.T, wanted int) {
	t.Helper()
	silent := 0
	for deadline, last := time.Now().Add(patience), time.Now(); ; {
		enough := true
		for i, m := range r.agents {
			if u, said := m.speak(t, r.agents[(i+1)%len(r.agents)].name); said {
				r.said = append(r.said, u)
			} else {
				silent++
			}
			me, _ := m.View().State.Node(m.name)
			if !slices.Contains(r.keys[m.name], me.Key) {
				r.keys[m.name] = append(r.keys[m.name], me.Key)
			}
			enough = enough && len(r.keys[m.name]) >= wanted && m.identity.Load().active == me.Key
		}
		if enough {
			if silent > spared(len(r.said)) && r.stalled < 200*time.Millisecond {
				t.Errorf("%d times an agent had nothing to say with, %d times it had", silent, len(r.said))
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("keys seen: %v; %+v", r.keys, r.agents[0].Status())
		}
		time.Sleep(100 * time.Millisecond)
		r.stalled = max(r.stalled, time.Since(last)-100*time.Millisecond)
		last = time.Now()
	}
}

// excused reports whether a statement may be lost for reasons of the machine: where the
// test, or what was said before, had to wait for a part of a second, or its epochs,
// of two seconds each, were over before it could be anywhere.
func (r *rotating) excused(u *utterance) bool {
	over, known := r.epochs[u.epoch+2]
	return r.stalled > 200*time.Millisecond || r.slowest > 500*time.Millisecond || known && over < uint64(u.at.UnixMilli())+1_500
}

// spared is how many statements of so many may be lost where nothing excuses it: other
// goroutines than those of the test may have had to wait. What is lost at each boundary of
// an epoch is more.
func spared(of int) int { return of / 100 }

// onLedger reads the ledger to its end, until it has what was said or takes it no more.
func (r *rotating) onLedger(t *testing.T) {
	t.Helper()
	c, err := client.New(client.Options{Servers: r.agents[0].config.API.Servers, Genesis: r.cluster.Hash})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	missing := map[ledger.Hash]*utterance{}
	for i := range r.said {
		missing[r.said[i].id] = &r.said[i]
	}
	last := r.said[len(r.said)-1].epoch
	from := uint64(1)
	for deadline := time.Now().Add(patience); len(missing) > 0 && r.epochs[last+2] == 0; {
		list, err := c.Entries(r.cluster.Context(), from, client.MaxEntriesPage)
		if errors.Is(err, client.ErrNotFound) || len(list) == 0 {
			time.Sleep(100 * time.Millisecond)
		} else if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			from++
			entry, err := ledger.ParseEntry(e.Entry)
			if err != nil {
				t.Fatal(err)
			}
			switch entry.Kind {
			case ledger.KindStatement:
				if st, err := ledger.ParseStatement(entry.Content); err == nil && missing[st.ID] != nil {
					r.slowest = max(r.slowest, time.UnixMilli(int64(entry.Stamp)).Sub(missing[st.ID].at))
					delete(missing, st.ID)
				}
			case ledger.KindEffect:
				var effect ledger.Effect
				var epoch fsm.EpochEffect
				if canon.Unmarshal(entry.Content, &effect) == nil && effect.Type == fsm.EffectEpoch && canon.Unmarshal(effect.Body, &epoch) == nil {
					r.epochs[epoch.Epoch] = epoch.Start
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("epoch %d does not end", last+1)
		}
	}
	var lost []*utterance
	for _, u := range missing {
		if !r.excused(u) {
			lost = append(lost, u)
		}
	}
	if len(lost) > spared(len(r.said)) {
		for _, u := range lost {
			t.Errorf("what %s said in epoch %d, %d ms after it began, is not on the ledger", u.author, u.epoch, uint64(u.at.UnixMilli())-r.epochs[u.epoch])
		}
	}
	t.Logf("%d statements, %d not on the ledger; the longest stall was %s, the slowest took %s", len(r.said), len(missing), r.stalled, r.slowest)
	if len(missing) == len(r.said) {
		t.Errorf("none of %d statements is on the ledger", len(r.said))
	}
}

// everywhere checks that everybody heard what the others said, by gossip.
func (r *rotating) everywhere(t *testing.T) {
	t.Helper()
	lost := 0
	var unheard []string
	for _, m := range r.agents {
		for i := range r.said {
			if u := &r.said[i]; u.author != m.name && !r.hearings[m.name].has(u.id) {
				lost++
				if !r.excused(u) {
					unheard = append(unheard, fmt.Sprintf("%s did not hear what %s said in epoch %d, %d ms after it began", m.name, u.author, u.epoch, uint64(u.at.UnixMilli())-r.epochs[u.epoch]))
				}
			}
		}
	}
	if len(unheard) > spared(3*len(r.said)) {
		t.Error(strings.Join(unheard, "\n"))
	}
	if lost == 3*len(r.said) {
		t.Errorf("of %d statements none was heard", len(r.said))
	}
}

// Agents whose keys end after seconds rotate them, and the peer keys with them, by
// themselves and in time, and what they say meanwhile, ten times a second, is heard
// by all others and gets onto the ledger. One is restarted in between.
func TestAgentsRotateByThemselves(t *testing.T) {
	r := &rotating{fleet: newFleet(t, 3, 4, shortKeys(t), nil), hearings: map[string]*hearing{}, keys: map[string][]ledger.Hash{}, epochs: map[uint64]uint64{}}
	for _, m := range r.agents {
		r.begin(m)
	}
	r.connected(r.agents, 3)
	// GossipSub grafts who is connected a heartbeat later.
	r.await("it hears the others", r.agents, func(m *member) bool {
		of := r.agents[0]
		if m == of {
			of = r.agents[1]
		}
		u, said := m.speak(t, of.name)
		if !said {
			return false
		}
		time.Sleep(50 * time.Millisecond)
		for _, other := range r.agents {
			if other != m && !r.hearings[other.name].has(u.id) {
				return false
			}
		}
		return true
	})
	r.talk(t, 2)
	r.onLedger(t)
	r.everywhere(t)
	second := r.agents[1]
	second.stop()
	r.begin(second)
	r.connected(r.agents, 3)
	r.said = nil
	r.talk(t, 3)
	r.onLedger(t)
	r.await("its key has a backup on the ledger, and the file of one that ended is destroyed", r.agents, func(m *member) bool {
		me, _ := m.View().State.Node(m.name)
		for _, id := range r.keys[m.name] {
			key, _ := m.View().State.Key(id)
			_, recorded := m.View().State.Backup(id)
			if over := key.ValidTo; recorded && over != nil && *over+5 < m.View().State.Epoch() && m.identity.Load().key(id) != nil {
				return false
			}
		}
		backup, ok := m.View().State.Backup(me.Key)
		files, err := filepath.Glob(filepath.Join(m.config.Dir, "backups", m.name+"-"+me.Key.String()[:8]+"-*.backup"))
		if !ok || err != nil || len(files) != 1 {
			return false
		}
		file, err := keys.ReadBackup(files[0])
		return err == nil && backup.Threshold == 2 && len(backup.Shares) == 3 && backup.Ciphertext == ledger.Hash(file.Hash())
	})
	r.await("nothing is wrong with its keys", r.agents, func(m *member) bool {
		status := m.Status()
		return status.Key != nil && status.Key.Held && status.Trouble[troubleKey]+status.Trouble[troubleRotation]+status.Trouble[troublePeerKey]+status.Trouble[troubleBackup] == ""
	})
	for _, m := range r.agents {
		if key, ok := m.View().State.Key(r.keys[m.name][0]); !ok || key.Ended != fsm.KeyRotated {
			t.Errorf("%s: its first key ended: %+v", m.name, key)
		}
	}
}
