package mesh

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/quorate/quorate/ledger/keys"
)

// Whatever comes and goes: the places that are held are those given, no more than
// there are; and a hop that holds none gets one, as does an author of a hop that
// holds less than its share.
func TestPlacesHold(t *testing.T) {
	const total, least, hops = 1 << 18, 1 << 10, 21
	var data [8 << 10]byte
	rapid.Check(t, func(t *rapid.T) {
		p := newPlaces(total, least)
		held := map[*pb.Message]int{} // those that GossipSub goes on with
		for range rapid.IntRange(1, 30).Draw(t, "frames") {
			p.next()
			hop := peer.ID(fmt.Sprint(rapid.IntRange(0, hops-1).Draw(t, "hop")))
			for range rapid.IntRange(1, 20).Draw(t, "messages") {
				m := newMessage("", data[:rapid.IntRange(0, len(data)).Draw(t, "size")])
				by := line{hop, keys.ID{byte(rapid.IntRange(0, 3).Draw(t, "author"))}}
				before := p.hops[hop]
				given := p.enter(m, by)
				if !given && before == 0 {
					t.Fatalf("a hop that holds none gets none: %d of %d are busy", p.busy, total)
				}
				switch {
				case !given:
				case rapid.IntRange(0, 3).Draw(t, "then") > 0:
					p.take(m)
					held[m] = max(least, len(m.Data))
				case rapid.Bool().Draw(t, "at once"):
					p.take(m)
					p.leave(m)
				}
			}
			for m := range held {
				if rapid.IntRange(0, 4).Draw(t, "done") == 0 {
					p.leave(m)
					p.leave(m) // twice is once
					delete(held, m)
				}
			}
		}
		p.next()
		sum := 0
		for _, cost := range held {
			sum += cost
		}
		if p.busy != sum || sum > total+hops*len(data) || len(p.held) != len(held) || len(p.held) > p.most(hops) {
			t.Fatalf("%d bytes of %d messages are busy, want %d of %d", p.busy, len(p.held), sum, len(held))
		}
		for m := range held {
			p.leave(m)
		}
		if p.busy != 0 || len(p.hops)+len(p.lines)+len(p.held) != 0 {
			t.Fatalf("after all have left: %+v", p)
		}
	})
}

// One that brings without end holds a third, and half of that of one author; the
// rest is for others.
func TestPlacesAreShared(t *testing.T) {
	const total, least = 1 << 20, 1 << 10
	p := newPlaces(total, least)
	fill := func(by line) (n int) {
		for p.enter(newMessage("", nil), by) {
			n++
		}
		return n
	}
	evil, good, other := peer.ID("evil"), peer.ID("good"), peer.ID("other")
	one := fill(line{evil, keys.ID{1}})
	rest := 0
	for n := range 50 {
		rest += fill(line{evil, keys.ID{byte(2 + n)}})
	}
	if one*least > total/5+least || (one+rest)*least > total/3 || one+rest < total/least/4 {
		t.Errorf("one hop holds %d, of one author %d", one+rest, one)
	}
	if n := fill(line{good, keys.ID{1}}); n < one/2 {
		t.Errorf("another hop gets %d", n)
	}
	if !p.enter(newMessage("", nil), line{good, keys.ID{9}}) {
		t.Error("the other hop brings nothing of another author")
	}
	for n := range 200 {
		fill(line{peer.ID(fmt.Sprint(n)), keys.ID{1}})
	}
	if !p.enter(newMessage("", make([]byte, 2*least)), line{other, keys.ID{1}}) {
		t.Error("the 203rd hop gets none")
	}
	p.next() // GossipSub went on with none of them
	if p.busy != 0 {
		t.Errorf("%d are busy after a frame that was dropped", p.busy)
	}
}

// slow is a judge on a machine that has other things to do.
type slow struct{ *court }

func (s *slow) Statement(from Member, envelope []byte) Verdict {
	time.Sleep(10 * time.Millisecond)
	return s.court.Statement(from, envelope)
}

// While one node gives every other far more than they can judge, in frames of
// many, no statement of an honest author is lost on its way.
func TestAFloodTakesNothingFromOthers(t *testing.T) {
	f := newFleet(t, 7, 7)
	for i := range 6 {
		f.start(t, i, func(c *Config) { c.Judge = &slow{c.Judge.(*court)} })
	}
	honest := f.stations[:6]
	f.settle(t, honest...)
	const frames, each = 20, 60
	in := newIntruder(t, f.stations[6].peerKey)
	var flood [][]byte
	for i := range frames {
		rpc := &pb.RPC{}
		for j := range each {
			rpc.Publish = append(rpc.Publish, newMessage(honest[0].channels[0].wire, f.stations[6].statement(i*each+j)))
		}
		body, err := proto.Marshal(rpc)
		if err != nil {
			t.Fatal(err)
		}
		flood = append(flood, append(binary.AppendUvarint(nil, uint64(len(body))), body...))
	}
	for _, s := range honest {
		if err := in.dial(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		stream := in.open(s, gossipProtocol)
		go func() {
			defer func() { _ = stream.Close() }()
			for _, frame := range flood {
				if _, err := stream.Write(frame); err != nil {
					return
				}
			}
		}()
	}
	for n := range 10 {
		for _, s := range honest {
			said := s.statement(1_000 + n)
			publish(t, s, Statements, said)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for n := range 10 {
		for _, s := range honest {
			said := s.statement(1_000 + n)
			for _, to := range honest {
				if to != s {
					eventually(t, 30*time.Second, fmt.Sprintf("%s hears statement %d of %s", to.name, n, s.name), func() bool { _, ok := to.court.has(said); return ok })
				}
			}
		}
	}
	for _, s := range honest {
		if n := drops(s, "validation-queue"); n > 0 {
			t.Errorf("%s gave up %d messages that it had marked as seen", s.name, n)
		}
		if drops(s, "author") == 0 {
			t.Errorf("%s dropped nothing of the flood", s.name)
		}
	}
}
