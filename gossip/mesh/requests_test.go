package mesh

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/quorate/quorate/gossip/mesh/hosttest"
)

func TestAsking(t *testing.T) {
	f := newFleet(t, 3, 3)
	f.run(t)
	a, b := f.stations[0], f.stations[1]
	answer, err := a.Ask(t.Context(), b.peer(), []byte("entries from 7"))
	if err != nil || string(answer) != "entries from 7entries from 7" {
		t.Errorf("%q, %v", answer, err)
	}
	b.court.onSync = func([]byte) ([]byte, error) { return make([]byte, MaxSyncResponseBytes), nil }
	if answer, err := a.Ask(t.Context(), b.peer(), []byte("all")); err != nil || len(answer) != MaxSyncResponseBytes {
		t.Errorf("the largest answer: %d bytes, %v", len(answer), err)
	}
	b.court.onSync = func([]byte) ([]byte, error) { return make([]byte, MaxSyncResponseBytes+1), nil }
	if _, err := a.Ask(t.Context(), b.peer(), []byte("more")); !errors.Is(err, ErrRefused) {
		t.Errorf("an answer that is too large: %v", err)
	}
	b.court.onSync = func([]byte) ([]byte, error) { return nil, errors.New("a secret reason") }
	if _, err := a.Ask(t.Context(), b.peer(), []byte("no")); !errors.Is(err, ErrRefused) || bytes.Contains([]byte(err.Error()), []byte("secret")) {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := a.Ask(t.Context(), b.peer(), make([]byte, MaxSyncRequestBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a request that is too large: %v", err)
	}
	if _, err := a.Ask(t.Context(), key(1), nil); err == nil {
		t.Error("somebody unknown was asked")
	}
}

// A probe that asks several may go to whom says that it answers such ones; of an older
// program, and of one that is not connected, it is known that it may not.
func TestProbesAreSharedWithWhomKnowsThem(t *testing.T) {
	f := newFleet(t, 3, 3)
	a, b, old := f.start(t, 0), f.start(t, 2), f.stations[1]
	if a.SharesProbes(b.peer()) && len(a.Peers()) == 0 {
		t.Error("something is known of a member that is not connected")
	}
	older, err := hosttest.New(old.peerKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = older.Close() })
	older.SetStreamHandler(ProtocolProbe, func(s network.Stream) {
		defer func() { _ = s.Close() }()
		if request, err := readFrame(s, MaxProbeBytes); err == nil {
			_ = writeFrame(s, []byte{answered}, request)
		}
	})
	if err := errors.Join(older.Identify(), older.Listen(old.address)); err != nil {
		t.Fatal(err)
	}
	asked := func(protocol string) int { return valueOf(a.metrics.asked.WithLabelValues(protocol, "answered")) }
	id, err := idOf(old.peer())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 { // the first one connects
		eventually(t, 10*time.Second, "the older program answers", func() bool {
			answer, err := a.Probe(t.Context(), old.peer(), []byte("are you there"))
			return err == nil && string(answer) == "are you there"
		})
		eventually(t, 10*time.Second, "it says what it speaks", func() bool {
			speaks, err := a.live.Load().host.Peerstore().SupportsProtocols(id, ProtocolProbe)
			return err == nil && len(speaks) == 1
		})
		if a.SharesProbes(old.peer()) || asked(ProtocolProbe) != n+1 || asked(ProtocolShared) != 0 {
			t.Errorf("the older program shares: %v, %d probes of the old kind and %d of the new", a.SharesProbes(old.peer()), asked(ProtocolProbe), asked(ProtocolShared))
		}
	}
	eventually(t, 10*time.Second, "the newer program is known", func() bool { return a.SharesProbes(b.peer()) })
	if _, err := a.Probe(t.Context(), b.peer(), []byte("are you there")); err != nil || asked(ProtocolShared) != 1 {
		t.Errorf("the newer program was probed: %v, %d probes of the new kind", err, asked(ProtocolShared))
	}
}

// Who asks too often, or too much at once, is refused; another is served.
func TestAskingIsRateLimited(t *testing.T) {
	f := newFleet(t, 3, 3)
	f.run(t)
	greedy, b, other := f.stations[0], f.stations[1], f.stations[2]
	release := make(chan struct{})
	b.court.onSync = func(request []byte) ([]byte, error) {
		if string(request) == "slow" {
			<-release
		}
		return request, nil
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	served := 0
	for range 4 * maxSyncsAtOncePeer {
		wait.Go(func() {
			if _, err := greedy.Ask(t.Context(), b.peer(), []byte("slow")); err == nil {
				mu.Lock()
				served++
				mu.Unlock()
			}
		})
	}
	eventually(t, 5*time.Second, "the surplus is turned away", func() bool {
		return valueOf(b.metrics.streams.WithLabelValues(ProtocolSync, "busy")) == 3*maxSyncsAtOncePeer
	})
	if _, err := other.Ask(t.Context(), b.peer(), []byte("me too")); err != nil {
		t.Errorf("another peer: %v", err)
	}
	close(release)
	wait.Wait()
	if served != maxSyncsAtOncePeer {
		t.Errorf("%d were served at once, want %d", served, maxSyncsAtOncePeer)
	}
	good := 0
	for range 2 * syncsPerPeerBurst {
		if _, err := greedy.Ask(t.Context(), b.peer(), []byte("x")); err == nil {
			good++
		}
	}
	if good == 0 || good > syncsPerPeerBurst {
		t.Errorf("%d of %d were served in a row", good, 2*syncsPerPeerBurst)
	}
}

// A request that its asker gives up ends at once, and leaves nothing behind.
func TestAskingEndsWithItsContext(t *testing.T) {
	f := newFleet(t, 2, 2)
	f.run(t)
	a, b := f.stations[0], f.stations[1]
	release := make(chan struct{})
	defer close(release)
	asked := make(chan struct{})
	b.court.onSync = func([]byte) ([]byte, error) { close(asked); <-release; return nil, nil }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	began := time.Now()
	if _, err := a.Ask(ctx, b.peer(), []byte("x")); err == nil {
		t.Error("an answer came")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("giving up took %v", took)
	}
}
