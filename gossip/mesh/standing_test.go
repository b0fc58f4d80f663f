package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const cutWithin = time.Second // from Refresh, by the contract

// refresh tells all stations but one of a change of the directory.
func (f *fleet) refresh(but *station) {
	for _, s := range f.stations {
		if s != but {
			s.Refresh()
		}
	}
}

// strayFleet gives one more station, of which only it itself thinks that it is a
// member.
func (f *fleet) stray(t testing.TB, name string) *station {
	t.Helper()
	other := newFleet(t, 1, 1)
	s := other.stations[0]
	seed := sha256.Sum256([]byte(name))
	s.name, s.peerKey = name, ed25519.NewKeyFromSeed(seed[:])
	own := &directory{members: map[string]Member{}}
	f.directory.Members(func(m Member) bool {
		for _, peer := range f.stations {
			if peer.name == m.Name {
				m.Addresses = []string{peer.address} // it knows them all
			}
		}
		own.set(m)
		return true
	})
	own.set(Member{Name: name, Operator: "nobody", Standing: Active, Peer: s.peer(), Reputation: 10_000})
	return other.start(t, 0, func(c *Config) { c.Directory = own })
}

func TestWhoIsNoMemberIsNotConnected(t *testing.T) {
	f := newFleet(t, 4, 4)
	f.run(t)
	stray := f.stray(t, "stray")
	eventually(t, 10*time.Second, "the stray tried every member", func() bool {
		return countOf(stray.metrics.dials) >= len(f.stations)
	})
	for range 3 {
		for _, s := range f.stations {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if answer, err := stray.Probe(ctx, s.peer(), []byte("hello")); err == nil {
				t.Errorf("%s answered a stranger: %q", s.name, answer)
			}
			cancel()
			if len(s.Peers()) != len(f.stations)-1 {
				t.Errorf("%s is connected with %d, want the other members only", s.name, len(s.Peers()))
			}
		}
	}
	if err := stray.Publish(t.Context(), Heads, []byte("a head of a stranger")); err != nil {
		t.Fatal(err)
	}
	ours := f.stations[0]
	publish(t, ours, Heads, []byte("a head of ours"))
	for _, s := range f.stations[1:] {
		eventually(t, 10*time.Second, "our head arrives", func() bool { _, ok := s.court.has([]byte("a head of ours")); return ok })
		if _, ok := s.court.has([]byte("a head of a stranger")); ok {
			t.Errorf("%s heard a stranger", s.name)
		}
	}
	if _, err := ours.Probe(t.Context(), stray.peer(), []byte("x")); !errors.Is(err, ErrNoMember) {
		t.Errorf("probing a stranger: %v", err)
	}
}

// A quarantined peer is out of gossip within a second, though it goes on talking;
// it still probes and is probed; released, it gossips again.
func TestQuarantineCutsGossipAndLeavesProbes(t *testing.T) {
	f := newFleet(t, 6, 3)
	f.run(t)
	bad := f.stations[4]
	f.directory.stand(bad.peer(), Quarantined)
	decided := time.Now()
	f.refresh(bad) // it itself pretends not to know
	var after int
	for time.Since(decided) < 2*cutWithin {
		after++
		publish(t, bad, Heads, fmt.Appendf(nil, "a head by the quarantined, %d", after))
		time.Sleep(20 * time.Millisecond)
	}
	for _, s := range f.stations {
		if s == bad {
			continue
		}
		for n := 1; n <= after; n++ {
			if at, ok := s.court.has(fmt.Appendf(nil, "a head by the quarantined, %d", n)); ok {
				t.Errorf("%s accepted message %d of a quarantined peer %v after the decision", s.name, n, at.Sub(decided))
			}
		}
		for _, id := range s.channels[1].handle.ListPeers() {
			if id == bad.id {
				t.Errorf("%s still gossips with a quarantined peer", s.name)
			}
		}
		if answer, err := s.Probe(t.Context(), bad.peer(), []byte("are you there")); err != nil || !strings.HasPrefix(string(answer), "ack of "+s.name) {
			t.Errorf("%s probes the quarantined: %q, %v", s.name, answer, err)
		}
		if _, err := bad.Probe(t.Context(), s.peer(), []byte("are you there")); err != nil {
			t.Errorf("the quarantined probes %s: %v", s.name, err)
		}
		if _, err := bad.Ask(t.Context(), s.peer(), []byte("give me")); err == nil {
			t.Errorf("%s synced with a quarantined peer", s.name)
		}
	}
	f.directory.stand(bad.peer(), Active)
	f.refresh(nil)
	f.settle(t, f.stations...)
	publish(t, bad, Heads, []byte("a head by the released"))
	for _, s := range f.stations {
		if s != bad {
			eventually(t, 10*time.Second, s.name+" hears the released", func() bool { _, ok := s.court.has([]byte("a head by the released")); return ok })
		}
	}
}

func TestTheExcludedIsDisconnected(t *testing.T) {
	f := newFleet(t, 5, 5)
	f.run(t)
	bad := f.stations[0] // whose address all know
	f.directory.stand(bad.peer(), Excluded)
	f.refresh(bad)
	took := eventually(t, cutWithin, "all have disconnected the excluded", func() bool {
		for _, s := range f.stations[1:] {
			if s.linkedTo(bad) {
				return false
			}
		}
		return true
	})
	t.Logf("disconnected by all after %v", took.Round(time.Millisecond))
	eventually(t, 10*time.Second, "it was refused when it came back", func() bool {
		for _, s := range f.stations[1:] {
			if denials(s, stageSecured, "standing") == 0 {
				return false
			}
		}
		return true
	})
	for _, s := range f.stations[1:] {
		if s.linkedTo(bad) {
			t.Errorf("%s is connected with the excluded again", s.name)
		}
		if _, err := s.Probe(t.Context(), bad.peer(), []byte("x")); !errors.Is(err, ErrNoMember) {
			t.Errorf("%s probes the excluded: %v", s.name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := bad.Probe(ctx, s.peer(), []byte("x")); err == nil {
			t.Errorf("%s answers the excluded", s.name)
		}
		cancel()
	}
	f.settle(t, f.stations[1:]...)
}

// Who restarts is found again by those who lost it, and finds them.
func TestARestartedNodeIsBackSoon(t *testing.T) {
	f := newFleet(t, 4, 4)
	f.run(t)
	s := f.stations[3] // whose address nobody has configured
	s.stop()
	eventually(t, 10*time.Second, "the others noticed", func() bool {
		return !f.stations[0].linkedTo(s) && !f.stations[1].linkedTo(s) && !f.stations[2].linkedTo(s)
	})
	f.start(t, 3)
	began := time.Now()
	f.settle(t, f.stations...)
	t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
}
