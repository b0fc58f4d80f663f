package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
)

func newMessage(topic string, data []byte) *pb.Message { return &pb.Message{Topic: &topic, Data: data} }

// intruder is a bare host with somebody's key, under no rules of ours.
type intruder struct {
	*host
	gate *gater
	t    testing.TB
}

func newIntruder(t testing.TB, key ed25519.PrivateKey) *intruder {
	t.Helper()
	gate := newGater(func(peer.ID) (Member, bool) { return Member{}, true }, func(denialStage, string) {})
	h, err := newHost(key, gate)
	if err != nil {
		t.Fatal(err)
	}
	h.admit = func(peer.ID) bool { return true }
	h.permit = func(peer.ID, protocol.ID) bool { return true }
	h.denied = func(denialStage, string) {}
	t.Cleanup(h.close)
	return &intruder{h, gate, t}
}

func (in *intruder) dial(ctx context.Context, to *station) error {
	targets := resolve(ctx, []string{to.address})
	defer in.gate.aim(to.id, targets)()
	in.Peerstore().AddAddrs(to.id, targets, peerstore.PermanentAddrTTL)
	in.swarm.Backoff().Clear(to.id)
	_, err := in.swarm.DialPeer(ctx, to.id)
	return err
}

// open opens a stream of a protocol.
func (in *intruder) open(to *station, id protocol.ID) network.Stream {
	in.t.Helper()
	s, err := in.NewStream(in.t.Context(), to.id, id)
	if err != nil {
		in.t.Fatal(err)
	}
	return s
}

// closedWithin says whether the other side ends s within limit.
func closedWithin(s network.Stream, limit time.Duration) bool {
	_ = s.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, s)
	var timeout net.Error
	return err == nil || !errors.As(err, &timeout) || !timeout.Timeout()
}

// halfOpen counts the connections to s whose peer is not known yet, from one
// address or, without one, from all.
func (s *station) halfOpen(from ...netip.Addr) int {
	g := s.gate.opening
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(from) == 1 {
		return g.keys[from[0]]
	}
	return g.busy
}

func length(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// Frames that are too large or make no sense are refused, each alone, and the
// node goes on serving others.
func TestOversizedAndMalformedFrames(t *testing.T) {
	f := newFleet(t, 3, 3)
	for i := range 2 {
		f.start(t, i)
	}
	f.settle(t, f.stations[0], f.stations[1])
	victim, friend := f.stations[0], f.stations[1]
	in := newIntruder(t, f.stations[2].peerKey)
	if err := in.dial(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	garbage := bytes.Repeat([]byte{0xa7, 0x00, 0xff, 0x13}, 1_000)
	for _, c := range []struct {
		name     string
		protocol protocol.ID
		data     []byte
	}{
		{"a probe that promises too much", ProtocolProbe, append(length(MaxProbeBytes+1), garbage...)},
		{"a probe that promises 4 GB", ProtocolProbe, append(length(1<<32-1), garbage...)},
		{"a sync request that is too large", ProtocolSync, append(length(MaxSyncRequestBytes+1), garbage...)},
		{"addresses that are no JSON", ProtocolPeers, append(length(4_000), garbage...)},
		{"a frame of gossip that is too large", gossipProtocol, append([]byte{0x81, 0x80, 0x10}, bytes.Repeat(garbage, 70)...)},
		{"a frame of gossip that is no protobuf", gossipProtocol, append([]byte{0xa0, 0x1f}, garbage...)},
		{"an endless length of gossip", gossipProtocol, bytes.Repeat([]byte{0xff}, 64)},
	} {
		s := in.open(victim, c.protocol)
		_, _ = s.Write(c.data) // may be cut off
		_ = s.CloseWrite()
		if !closedWithin(s, 3*time.Second) {
			t.Errorf("%s: the stream stays open", c.name)
		}
		_ = s.Reset()
	}
	if _, err := in.NewStream(t.Context(), victim.id, "/quorate/none/1"); err == nil {
		t.Error("a protocol that nobody speaks was agreed on")
	}
	if _, err := friend.Probe(t.Context(), victim.peer(), []byte("still there")); err != nil {
		t.Errorf("after it: %v", err)
	}
	for _, size := range []int{0, MaxStatementBytes + 1} {
		if err := friend.Publish(t.Context(), Statements, make([]byte, size)); err == nil {
			t.Errorf("%d bytes were published", size)
		}
	}
	if _, err := friend.Probe(t.Context(), victim.peer(), make([]byte, MaxProbeBytes+1)); err == nil {
		t.Error("a probe that is too large was sent")
	}
	envelope := friend.statement(1)
	publish(t, friend, Statements, envelope)
	eventually(t, 5*time.Second, "gossip goes on", func() bool { _, ok := victim.court.has(envelope); return ok })
}

// A peer that opens streams and says nothing, or a byte now and then, holds no
// more than its share, and not for long.
func TestSlowStreamsAreCutOff(t *testing.T) {
	f := newFleet(t, 3, 3)
	for i := range 2 {
		f.start(t, i)
	}
	f.settle(t, f.stations[0], f.stations[1])
	victim, friend := f.stations[0], f.stations[1]
	in := newIntruder(t, f.stations[2].peerKey)
	if err := in.dial(t.Context(), victim); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	began := time.Now()
	var ended, opened atomic.Int32
	var last atomic.Int64
	var all sync.WaitGroup
	hold := func(s network.Stream, dribble bool) {
		opened.Add(1)
		all.Go(func() {
			defer ended.Add(1)
			defer func() { last.Store(int64(time.Since(began))) }()
			if dribble {
				_, _ = s.Write(length(1_000))
				all.Go(func() {
					for range 100 {
						if _, err := s.Write([]byte{'x'}); err != nil {
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			_ = s.SetReadDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.Copy(io.Discard, s)
			_ = s.Reset()
		})
	}
	for range 12 { // nothing said, not even a protocol
		s, err := in.swarm.NewStream(network.WithNoDial(t.Context(), "test"), victim.id)
		if err != nil {
			break
		}
		_, _ = s.Write([]byte{0x13}) // opens it at the other end, with the first byte of a greeting
		hold(s, false)
	}
	for range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if s, err := in.NewStream(ctx, victim.id, ProtocolProbe); err == nil {
			hold(s, true)
		}
		cancel()
	}
	most := runtime.NumGoroutine() - before
	for range 5 { // others are served meanwhile
		sent := time.Now()
		if _, err := friend.Probe(t.Context(), victim.peer(), []byte("are you there")); err != nil {
			t.Errorf("a probe beside slow streams: %v", err)
		}
		if took := time.Since(sent); took > time.Second {
			t.Errorf("a probe beside slow streams took %v", took)
		}
	}
	all.Wait()
	t.Logf("%d slow streams, %d goroutines more at most, all ended after %v", opened.Load(), most, time.Duration(last.Load()).Round(time.Millisecond))
	if limit := negotiateTimeout + probeTimeout + 3*time.Second; time.Duration(last.Load()) > limit {
		t.Errorf("the last slow stream ended after %v, want %v", time.Duration(last.Load()), limit)
	}
	if opened.Load() < 10 {
		t.Errorf("only %d streams were opened: nothing was shown", opened.Load())
	}
}

// Ten thousand connects of one attacker are refused in bounded time; what members
// say to each other arrives as before; a member that comes at that time gets in.
func TestTenThousandConnects(t *testing.T) {
	const connects, members = 10_000, 5
	f := newFleet(t, members+1, 3)
	for i := range members {
		f.start(t, i)
	}
	f.settle(t, f.stations[:members]...)
	victim := f.stations[0]
	before := f.latencies(t, f.stations[1], f.stations[2:members], 40, 0)

	attacker := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 5 * time.Second}
	var next, failed atomic.Int32
	var most atomic.Int32
	var attack sync.WaitGroup
	began := time.Now()
	for range 24 {
		attack.Go(func() {
			for next.Add(1) <= connects {
				c, err := attacker.Dial("tcp", victim.address)
				if err != nil {
					failed.Add(1)
					continue
				}
				most.Store(max(most.Load(), int32(victim.halfOpen(netip.MustParseAddr("127.0.0.2")))))
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				_, _ = c.Write([]byte("\x13/multistream/1.0.0\n"))
				_, _ = c.Read(make([]byte, 1)) // until it is closed, or greeted
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		})
	}
	f.start(t, members)
	f.settle(t, f.stations...)
	joined := time.Since(began)
	during := f.latencies(t, f.stations[1], []*station{victim}, 24, 1_000)
	stillOn := next.Load() < connects
	attack.Wait()
	took := time.Since(began)
	t.Logf("%d connects (%d not even made) in %v; half open at most %d; a member joined %v after it began; honest p50 %v and p99 %v before, %v and %v during",
		connects, failed.Load(), took.Round(time.Millisecond), most.Load(), joined.Round(time.Millisecond),
		before[len(before)/2], before[len(before)-1], during[len(during)/2], during[len(during)-1])
	if !stillOn {
		t.Log("the attack was over before the last honest message: this machine is quick")
	}
	if took > time.Minute {
		t.Errorf("the attack took %v", took)
	}
	if most.Load() > maxHalfOpenPerIP {
		t.Errorf("%d connections half open, want at most %d of one address", most.Load(), maxHalfOpenPerIP)
	}
	if denied := denials(victim, stageAccept, "rate"); denied < connects/2 {
		t.Errorf("only %d connects were refused for their rate", denied)
	}
	if len(victim.Peers()) != members {
		t.Errorf("%d peers after it, want %d", len(victim.Peers()), members)
	}
	if worst := during[len(during)-1]; worst > time.Second {
		t.Errorf("an honest message took %v during the attack", worst)
	}
}

// latencies are of n statements from one station to others, sorted; all must arrive.
func (f *fleet) latencies(t testing.TB, from *station, to []*station, n, first int) []time.Duration {
	t.Helper()
	var all []time.Duration
	for i := range n {
		envelope := from.statement(first + i)
		sent := time.Now()
		publish(t, from, Statements, envelope)
		for _, s := range to {
			var at time.Time
			eventually(t, 10*time.Second, fmt.Sprintf("%s hears statement %d", s.name, first+i), func() (ok bool) { at, ok = s.court.has(envelope); return ok })
			all = append(all, at.Sub(sent))
		}
		time.Sleep(time.Second / 12) // an author's rate, with time to recover
	}
	slices.Sort(all)
	return all
}

// Connections that say nothing hold only what is kept for strangers: a member
// still gets in from where members are known.
func TestSilentConnectionsLeaveRoomForMembers(t *testing.T) {
	f := newFleet(t, 3, 3)
	for i := range 2 {
		f.start(t, i)
	}
	f.settle(t, f.stations[0], f.stations[1])
	victim := f.stations[0]
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	for i := range 200 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(2+i/20))}, Timeout: time.Second}
		if c, err := d.Dial("tcp", victim.address); err == nil {
			held = append(held, c)
		}
	}
	eventually(t, acceptTimeout/2, "many are half open", func() bool { return victim.halfOpen() >= maxHalfOpen/2 })
	open := victim.halfOpen()
	f.start(t, 2)
	f.settle(t, f.stations...)
	t.Logf("%d connections made, %d half open, and a member got in", len(held), open)
	if open > maxHalfOpen*3/4 {
		t.Errorf("%d half open, want at most %d", open, maxHalfOpen*3/4)
	}
	eventually(t, acceptTimeout+5*time.Second, "silent connections are closed", func() bool { return victim.halfOpen() == 0 })
}

// A hop that GossipSub does not score, since it never identified itself, is not
// heard either once it has said enough that is invalid.
func TestInvalidMessagesSilenceAnUnscoredHop(t *testing.T) {
	f := newFleet(t, 2, 2)
	f.run(t)
	victim, evil := f.stations[0], f.stations[1]
	frame := func() *pubsub.RPC {
		topic := victim.channels[0].wire
		return &pubsub.RPC{RPC: pb.RPC{Publish: []*pb.Message{{Topic: &topic, Data: []byte("x")}}}}
	}
	c, judged := victim.channels[0], 0
	for range 10 * rejectsPerHopBurst {
		if victim.inspect(evil.id, frame()) != nil {
			break
		}
		if got := victim.validate(c, evil.id, []byte("no statement")); got != pubsub.ValidationReject {
			t.Fatalf("an invalid message: %v", got)
		}
		judged++
	}
	if judged != rejectsPerHopBurst {
		t.Errorf("%d invalid messages were judged, want %d", judged, rejectsPerHopBurst)
	}
	if victim.inspect(f.stations[1].id, frame()) == nil {
		t.Error("it is heard again at once")
	}
}

// A member whose frames are invalid is looked at five times, and no more.
func TestInvalidMessagesGraylistTheHop(t *testing.T) {
	f := newFleet(t, 8, 4)
	f.run(t)
	evil := f.stations[7]
	const messages = 12
	for n := range messages {
		envelope := evil.statement(n)
		envelope[len(envelope)-1] ^= 1
		publish(t, evil, Statements, envelope)
		// One at a time, so that none is in judgement when the last word is spoken.
		eventually(t, 5*time.Second, "it is judged or dropped", func() bool {
			for _, s := range f.stations[:7] {
				if s.court.judgedFrom(evil.name) < min(n+1, 5) {
					return false
				}
			}
			return true
		})
	}
	good := f.stations[0].statement(0)
	publish(t, f.stations[0], Statements, good)
	for _, s := range f.stations[1:7] {
		eventually(t, 5*time.Second, s.name+" hears the honest", func() bool { _, ok := s.court.has(good); return ok })
	}
	for _, s := range f.stations[:7] {
		if n := s.court.judgedFrom(evil.name); n != 5 {
			t.Errorf("%s judged %d of %d invalid messages, want 5", s.name, n, messages)
		}
		if bad := valueOf(s.metrics.messages.WithLabelValues(string(Statements), "reject")); bad != 5 {
			t.Errorf("%s rejected %d, want only the five of the evil hop", s.name, bad)
		}
	}
}

// A flood by one author is passed on no faster than an author may speak, and
// others' statements pass at the same time.
func TestAFloodIsLimitedPerAuthor(t *testing.T) {
	f := newFleet(t, 5, 5)
	f.run(t)
	flooder, other := f.stations[4], f.stations[0]
	const flood = 500
	began := time.Now()
	for n := range flood {
		publish(t, flooder, Statements, flooder.statement(n))
	}
	honest := other.statement(0)
	publish(t, other, Statements, honest)
	for _, s := range f.stations[1:4] {
		eventually(t, 10*time.Second, s.name+" hears the honest", func() bool { _, ok := s.court.has(honest); return ok })
	}
	eventually(t, 10*time.Second, "the flood is over", func() bool { return valueOf(flooder.metrics.out.WithLabelValues(string(Statements))) > 0 })
	time.Sleep(300 * time.Millisecond) // what is on its way
	allowed := int(statementsAuthorBurst + statementsPerAuthor*time.Since(began).Seconds() + 1)
	for _, s := range f.stations[:4] {
		accepted := valueOf(s.metrics.messages.WithLabelValues(string(Statements), "accept"))
		if accepted > allowed+1 {
			t.Errorf("%s passed %d statements on, want at most %d of the flooder", s.name, accepted, allowed)
		}
		if drops(s, "author") == 0 && drops(s, "rate") == 0 {
			t.Errorf("%s dropped nothing of %d", s.name, flood)
		}
	}
	t.Logf("%d statements in %v; at most %d of them are passed on", flood, time.Since(began).Round(time.Millisecond), allowed)
}

// What one hop loses by its own rate, another hop may still bring: a peer can't
// take messages from everybody by relaying too many of them first.
func TestAHopLosesOnlyItsOwnCopies(t *testing.T) {
	f := newFleet(t, 3, 3)
	f.run(t)
	s, fast, slow := f.stations[0], f.stations[1], f.stations[2]
	head := func(n int) *pubsub.RPC {
		wire, data := s.channels[1].wire, fmt.Appendf(nil, "head %d", n)
		rpc := &pubsub.RPC{}
		rpc.Publish = append(rpc.Publish, newMessage(wire, data))
		return rpc
	}
	kept := func(from *station, n int) bool {
		rpc := head(n)
		return s.inspect(from.id, rpc) == nil && len(rpc.Publish) == 1
	}
	n, dropped := 0, -1
	for ; n < 10*headsPerHopBurst; n++ {
		if !kept(fast, n) {
			dropped = n
			break
		}
	}
	if dropped < headsPerHopBurst {
		t.Fatalf("the first drop is message %d, want after %d", dropped, headsPerHopBurst)
	}
	if !kept(slow, dropped) {
		t.Error("the other hop's copy is dropped too")
	}
	stray := &pubsub.RPC{}
	stray.Publish = append(stray.Publish, newMessage("/quorate/none", []byte("x")))
	if err := s.inspect(slow.id, stray); err != nil || len(stray.Publish) != 0 {
		t.Error("a message of a topic that is not ours is let through")
	}
	f.directory.stand(slow.peer(), Quarantined)
	if s.inspect(slow.id, head(0)) == nil {
		t.Error("a frame of a quarantined peer is let through")
	}
}
