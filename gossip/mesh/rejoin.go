package mesh

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// muted is a peer that was connected anew because gossip with it was broken.
type muted struct {
	pause time.Duration // doubles
	again time.Time     // the next attempt
}

// speaks says whether GossipSub has a stream to a peer now.
func (m *Mesh) speaks(p peer.ID, now bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now {
		m.speaking[p] = struct{}{}
	} else {
		delete(m.speaking, p)
	}
}

// rejoin connects peers anew with which gossip is broken. Two nodes that dial each other
// have two connections, of which one closes, with a stream of GossipSub's on it. When one
// of its streams ends, whichever and however many there are, GossipSub forgets what the
// peer subscribes to; and the peer, whose own newest stream is whole, does not tell it
// again. It would hear no gossip of us, for as long as the connection lives. Only new
// streams both ways mend that.
func (m *Mesh) rejoin(ctx context.Context, h *host, now time.Time) {
	subscribed := map[peer.ID]bool{}
	for _, c := range m.channels {
		for _, id := range c.handle.ListPeers() {
			subscribed[id] = true
		}
	}
	if ctx.Err() != nil {
		return // then nobody is listed
	}
	for _, id := range m.broken(subscribed, now) {
		m.metrics.rejoins.Inc()
		m.log.Info("gossip with a peer is broken: it is connected anew", "peer", id.String())
		_ = h.swarm.ClosePeer(id)
	}
}

// told takes note that a peer said what it subscribes to.
func (m *Mesh) told(p peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.links[p]; l != nil {
		l.told = true
	}
}

// broken are the active members that are connected, for some time, and with which
// gossip does not go both ways, though it did, or though they said what they subscribe to.
// Who never did is left alone: it may want none. One that stays broken is met ever more
// rarely.
func (m *Mesh) broken(subscribed map[peer.ID]bool, now time.Time) []peer.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []peer.ID
	for id, l := range m.links {
		_, speaks := m.speaking[id]
		was := m.muted[id]
		switch {
		case l.member.Standing != Active:
		case speaks && subscribed[id]:
			l.whole = true
			delete(m.muted, id)
		case !l.whole && !(l.told && speaks):
		case now.Sub(l.since) >= rejoinFirst && !now.Before(was.again):
			pause := min(max(2*was.pause, rejoinFirst), rejoinLast)
			m.muted[id] = muted{pause, now.Add(pause)}
			list = append(list, id)
		}
	}
	maps.DeleteFunc(m.muted, func(_ peer.ID, was muted) bool { return now.Sub(was.again) > 2*rejoinLast })
	slices.Sort(list)
	return list
}
