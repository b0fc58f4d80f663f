package mesh

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Once GossipSub's stream to a peer broke while the connection lived, it has forgotten
// what the peer subscribes to, and tells it nothing: until it is connected anew.
func TestGossipIsBegunAgain(t *testing.T) {
	f := newFleet(t, 2, 2)
	f.run(t)
	a, b := f.stations[0], f.stations[1]
	eventually(t, 10*time.Second, "its stream to the other breaks", func() bool {
		broke := false
		for _, c := range a.live.Load().host.swarm.ConnsToPeer(b.id) {
			for _, s := range c.GetStreams() {
				if s.Protocol() == gossipProtocol && s.Stat().Direction == network.DirOutbound {
					broke = s.Reset() == nil
				}
			}
		}
		return broke
	})
	eventually(t, 10*time.Second, "GossipSub forgets the other", func() bool { return len(a.channels[1].handle.ListPeers()) == 0 })
	said := 0
	eventually(t, time.Minute, "it is heard again", func() bool {
		said++ // what is published to nobody is lost
		publish(t, a, Heads, fmt.Appendf(nil, "head %d", said))
		for n := 1; n <= said; n++ {
			if _, ok := b.court.has(fmt.Appendf(nil, "head %d", n)); ok {
				return true
			}
		}
		return false
	})
	if n := valueOf(a.metrics.rejoins); n < 1 {
		t.Errorf("the connection was closed %d times", n)
	}
}

// Who hears no gossip is connected anew ever more rarely; whose gossip goes both ways is
// left alone, and so is whom the ledger holds.
func TestMutePeersAreMetEverMoreRarely(t *testing.T) {
	s := newFleet(t, 1, 1).start(t, 0)
	s.stop() // nothing else looks at its links
	m := s.Mesh
	begun := time.Now()
	m.mu.Lock()
	for id, member := range map[peer.ID]Member{
		"mute": {Standing: Active}, "fine": {Standing: Active}, "deaf": {Standing: Active}, "held": {Standing: Quarantined}, "stranger": {Standing: Active},
	} {
		m.links[id] = &link{member: member, since: begun, whole: id == "mute"}
	}
	m.mu.Unlock()
	for _, id := range []peer.ID{"fine", "deaf", "held"} {
		m.told(id)
	}
	m.speaks("stranger", true) // it never said that it wants gossip
	for _, id := range []peer.ID{"fine", "deaf"} {
		m.speaks(id, true)
	}
	subscribed := map[peer.ID]bool{"fine": true, "mute": true}
	var at []time.Duration
	for after := time.Duration(0); after < 10*time.Minute; after += time.Second {
		list := m.broken(subscribed, begun.Add(after))
		if len(list) == 0 {
			continue
		}
		if len(list) != 2 || list[0] != "deaf" || list[1] != "mute" {
			t.Fatalf("after %v: %v", after, list)
		}
		at = append(at, after)
	}
	want := []time.Duration{5, 10, 20, 40, 80, 160, 280, 400, 520}
	if len(at) != len(want) {
		t.Fatalf("at %v, want %v", at, want)
	}
	for i := range want {
		if at[i] != want[i]*time.Second {
			t.Errorf("at %v, want %v", at, want)
		}
	}
	m.speaks("mute", true)
	m.speaks("fine", false)
	if list := m.broken(subscribed, begun.Add(time.Hour)); len(list) != 2 || list[0] != "deaf" || list[1] != "fine" {
		t.Errorf("%v", list)
	}
}
