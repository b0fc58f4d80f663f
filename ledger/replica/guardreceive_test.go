package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// appendHead is an append with entries, up to the first of them: MessagePack as
// Raft's transport sends it, `Entries` an array of count.
func appendHead(count uint32) []byte {
	b := append([]byte{0 /* kind */, 0x81, 0xa7}, "Entries"...)
	return binary.BigEndian.AppendUint32(append(b, 0xdd), count)
}

// An endless or swollen request ends its connection before it takes memory, and
// is counted; what may be sent passes.
func TestRequestsAreMeasured(t *testing.T) {
	var refused atomic.Int64
	who := []*peer{{}}
	who[0].Name = "r2"
	g, caller := tapped(t, who, func(rule, name string, _ error) {
		if rule == "size" && name == "r2" {
			refused.Add(1)
		}
	})
	dial := func() net.Conn {
		ours, theirs := net.Pipe()
		if !g.conns.give(context.Background(), theirs) {
			t.Fatal("the guard takes no connection")
		}
		return ours
	}
	data := append([]byte{0x81, 0xa4}, "Data"...)
	chunk := append(append(bytes.Clone(data), 0xc6, 0, 0x10, 0, 0), make([]byte, 1<<20)...) // an entry of a mebibyte
	for _, lie := range []struct {
		name string
		head []byte
		rest []byte // again and again
	}{
		{"an entry of 1 GiB", append(append(appendHead(1), data...), 0xc6, 0x40, 0, 0, 0), make([]byte, 1<<20)},
		{"entries of 1 MiB without end", appendHead(60_000), chunk},
		{"2^32 entries", appendHead(1<<32 - 1), bytes.Repeat([]byte{0x80}, 1<<20)},
		{"a million empty entries", appendHead(1 << 20), bytes.Repeat([]byte{0x80}, 1<<20)},
		{"what is no MessagePack", []byte{0, 0xc1}, nil},
	} {
		t.Run(lie.name, func(t *testing.T) {
			before := refused.Load()
			runtime.GC()
			var at runtime.MemStats
			runtime.ReadMemStats(&at)
			start := at.TotalAlloc
			conn := dial()
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			sent, err := conn.Write(lie.head)
			for err == nil {
				var n int
				n, err = conn.Write(lie.rest)
				sent += n
				if sent > 4*maxRequestBytes || n == 0 {
					_, err = conn.Read(make([]byte, 1))
				}
			}
			runtime.ReadMemStats(&at)
			if refused.Load() != before+1 || sent > maxRequestBytes+1<<20 {
				t.Errorf("refused %d times after %d bytes: %v", refused.Load()-before, sent, err)
			}
			t.Logf("ended after %d KiB, %d KiB were allocated", sent>>10, (at.TotalAlloc-start)>>10)
			if got := at.TotalAlloc - start; got > 6*maxRequestBytes { // the decoder doubles as it grows
				t.Errorf("it took %d MiB", got>>20)
			}
		})
	}
	done := make(chan struct{})
	var consumer sync.WaitGroup
	defer consumer.Wait()
	defer close(done)
	consumer.Go(func() {
		for {
			select {
			case <-done:
				return
			case rpc := <-g.Consumer():
				if rpc.Reader == nil {
					rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
					continue
				}
				_, _ = io.Copy(io.Discard, rpc.Reader)
				rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, nil)
			}
		}
	})
	full := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, PrevLogTerm: 1}
	for i := range 512 {
		full.Entries = append(full.Entries, &raft.Log{Index: uint64(i) + 2, Term: 1, Data: make([]byte, maxAppendBytes/512),
			Extensions: []byte("sum"), AppendedAt: time.Now()})
	}
	one := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, PrevLogTerm: 1, Entries: []*raft.Log{{Index: 2, Term: 1, Data: make([]byte, maxRequestBytes-maxAppendBytes)}}}
	for range 4 {
		for name, request := range map[string]*raft.AppendEntriesRequest{"the most entries": full, "the largest entry": one} {
			if err := caller.AppendEntries("g", "g", request, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		body := bytes.Repeat([]byte{0xc1}, 3<<20) // no request at all
		if err := caller.InstallSnapshot("g", "g", &raft.InstallSnapshotRequest{Size: int64(len(body)), SnapshotVersion: 1},
			&raft.InstallSnapshotResponse{}, bytes.NewReader(body)); err != nil {
			t.Fatalf("a snapshot: %v", err)
		}
	}
	g.receiving.mu.Lock()
	defer g.receiving.mu.Unlock()
	if len(g.receiving.held) > 0 || refused.Load() != 5 {
		t.Errorf("%v are held still, %d refused", g.receiving.held, refused.Load())
	}
}

// An answer without end ends, and answers one after the other do not.
func TestAnswersAreMeasured(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	conn := &answersConn{Conn: ours}
	defer conn.Close()
	go func() {
		request := make([]byte, 1)
		for range 8 {
			_, _ = theirs.Read(request)
			_, _ = theirs.Write(make([]byte, maxPeerNotes/4))
		}
		_, _ = io.Copy(theirs, bytes.NewReader(make([]byte, 4*maxPeerNotes)))
		_ = theirs.Close()
	}()
	answer := make([]byte, maxPeerNotes/4)
	for range 8 {
		if _, err := conn.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := io.Copy(io.Discard, conn); !errors.Is(err, errAnswer) || n > maxPeerNotes {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// What one peer has under way on all its connections is bounded.
func TestReceivingIsBoundedByPeer(t *testing.T) {
	var total receiving
	if err := errors.Join(total.hold("a", maxReceiving), total.hold("b", 1)); err != nil {
		t.Fatal(err)
	}
	if total.hold("a", 1) == nil {
		t.Error("one peer holds more than it may")
	}
	if err := errors.Join(total.hold("a", -maxReceiving), total.hold("a", 1)); err != nil {
		t.Error(err)
	}
}

// However a request is cut into reads, it ends where it ends.
func TestMeasureFindsTheEnds(t *testing.T) {
	values := [][]byte{
		{0x00}, {0xff}, {0xc0}, {0xc3}, {0x80}, {0x90}, {0xa0}, {0x81, 0xa1, 'x', 0x05}, {0x92, 0x01, 0xa2, 'h', 'i'},
		{0xc4, 2, 1, 2}, {0xc5, 0, 1, 7}, {0xc6, 0, 0, 0, 1, 7}, {0xc7, 1, 9, 7}, {0xc8, 0, 1, 9, 7}, {0xc9, 0, 0, 0, 1, 9, 7},
		{0xca, 0, 0, 0, 0}, append([]byte{0xcb}, make([]byte, 8)...), {0xcc, 1}, {0xcd, 1, 1}, {0xce, 1, 1, 1, 1}, append([]byte{0xcf}, make([]byte, 8)...),
		{0xd0, 1}, {0xd1, 1, 1}, {0xd2, 1, 1, 1, 1}, append([]byte{0xd3}, make([]byte, 8)...), {0xd4, 1, 1}, {0xd5, 1, 1, 1}, append([]byte{0xd6, 1}, make([]byte, 4)...),
		append([]byte{0xd7, 1}, make([]byte, 8)...), append([]byte{0xd8, 1}, make([]byte, 16)...), {0xd9, 1, 'x'}, {0xda, 0, 1, 'x'}, {0xdb, 0, 0, 0, 1, 'x'},
		{0xdc, 0, 1, 0xc0}, {0xdd, 0, 0, 0, 1, 0xc0}, {0xde, 0, 1, 0xc0, 0xc0}, {0xdf, 0, 0, 0, 1, 0xc0, 0xc0}, {0xdc, 0, 0}, {0xc4, 0},
	}
	var stream []byte
	for _, v := range values {
		stream = append(append(stream, 1), v...)
	}
	stream = append(stream, kindInstallSnapshot, 0x91, 0x01)
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		var m measure
		for rest := stream; len(rest) > 0; {
			n := 1 + draw.IntN(len(rest))
			snapshot, err := m.take(rest[:n])
			if rest = rest[n:]; err != nil || snapshot != (len(rest) == 0) {
				t.Fatalf("seed %d: with %d bytes to come: %v, %v", seed, len(rest), snapshot, err)
			}
		}
	}
	if _, err := new(measure).take([]byte{0, 0xc1}); err == nil || !strings.Contains(err.Error(), "MessagePack") {
		t.Error(err)
	}
}
