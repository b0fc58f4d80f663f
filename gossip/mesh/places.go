package mesh

import (
	"sync"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/quorate/quorate/ledger/keys"
)

// places are the room for messages of one topic that are being judged or wait for
// it. They are given before GossipSub marks a message as seen and tells others not
// to send it: what has none is as if it had not come, so that another hop's copy
// counts, and what has one is judged, whatever else comes.
//
// A hop may hold half of the room that is left, and of that one author as much as
// the hop leaves to others; a hop that holds none always gets one. So the share of
// each shrinks as more want some, and a flood takes no place from what other hops
// bring, nor, from hops that relay it, all that they need for others. Authors are
// as the message claims: who lies about it divides his own share.
type places struct {
	total int // bytes, and one message more of each hop
	least int // bytes that a message counts at least

	mu    sync.Mutex
	busy  int
	hops  map[peer.ID]int
	lines map[line]int
	held  map[*pb.Message]*place
	frame []*pb.Message // those of the frame that was inspected last
}

// line is what one hop brings of one author; without author for what has none.
type line struct {
	hop    peer.ID
	author keys.ID
}

// place is what one message holds.
type place struct {
	line
	cost  int
	taken bool // GossipSub goes on with the message
}

func newPlaces(total, least int) *places {
	return &places{total: total, least: least, hops: map[peer.ID]int{}, lines: map[line]int{}, held: map[*pb.Message]*place{}}
}

// most is how many messages hold places at one time, with so many hops.
func (p *places) most(hops int) int { return p.total/p.least + hops }

// next begins a frame. GossipSub looks at one frame at a time, and drops those of a
// hop out of favour without a word: what it did not go on with of the last frame
// holds no place any more.
func (p *places) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, message := range p.frame {
		if h := p.held[message]; h != nil && !h.taken {
			p.release(message)
		}
	}
	clear(p.frame)
	p.frame = p.frame[:0]
}

// enter says whether there is a place for a message of the frame. If so, it is
// held until leave, or until next unless take comes before.
func (p *places) enter(message *pb.Message, from line) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	cost := max(p.least, len(message.GetData()))
	room := (p.total - p.busy) / 2
	hop, author := p.hops[from.hop], p.lines[from]
	if hop > 0 && (hop+cost > room || author+cost > room-hop) {
		return false
	}
	p.busy += cost
	p.hops[from.hop] += cost
	p.lines[from] += cost
	p.held[message] = &place{line: from, cost: cost}
	p.frame = append(p.frame, message)
	return true
}

// take notes that GossipSub goes on with a message: it says so when it is done
// with it.
func (p *places) take(message *pb.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.held[message]; h != nil {
		h.taken = true
	}
}

// leave frees a message's place, if it holds one.
func (p *places) leave(message *pb.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(message)
}

// release requires p.mu.
func (p *places) release(message *pb.Message) {
	h := p.held[message]
	if h == nil {
		return
	}
	delete(p.held, message)
	p.busy -= h.cost
	if p.hops[h.hop] -= h.cost; p.hops[h.hop] == 0 {
		delete(p.hops, h.hop)
	}
	if p.lines[h.line] -= h.cost; p.lines[h.line] == 0 {
		delete(p.lines, h.line)
	}
}
