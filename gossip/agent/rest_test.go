package agent

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
)

// TestTwentyAtRest measures 20 agents in one process, beside their three
// replicas, and how long it takes until each of five equivocators is dropped by all. It is
// run by hand, or by the bench: QUORATE_REST=1.
func TestTwentyAtRest(t *testing.T) {
	if os.Getenv("QUORATE_REST") == "" {
		t.Skip("a measurement: QUORATE_REST=1")
	}
	f := newFleet(t, 3, 20, nil, nil)
	f.cluster.Leader()
	runtime.GC()
	var bare runtime.MemStats
	runtime.ReadMemStats(&bare)
	evidence := &pleas{ids: map[ledger.Hash]bool{}}
	f.observe = evidence.look
	idleBefore := cpu(t, 15*time.Second)
	for _, m := range f.agents {
		f.start(m)
	}
	f.connected(f.agents, 12)
	time.Sleep(12 * time.Second) // what joining costs is not rest
	before := runtime.NumGoroutine()
	used := cpu(t, 36*time.Second)
	runtime.GC()
	var with runtime.MemStats
	runtime.ReadMemStats(&with)
	t.Logf("at rest: %.3f %% of a core each (replicas alone %.3f %%), %.1f MB of heap and stacks each, %d goroutines each",
		(used-idleBefore)*100/20, idleBefore*100, float64(with.HeapAlloc+with.StackInuse-bare.HeapAlloc-bare.StackInuse)/20/1e6, before/20)

	var took []time.Duration
	for round := range 5 {
		liar := f.agents[19-round]
		honest := f.agents[:19-round]
		statements, submissions := evidence.count(), submitted(honest)
		epoch, seq := liar.View().State.Epoch(), uint64(60_000)
		began := time.Now()
		for _, subject := range []string{"n1", "n2"} {
			b, err := ledger.Sign(liar.key, ledger.Payload{Author: liar.name, Epoch: &epoch, Seq: &seq, Ledger: f.cluster.Hash, Type: ledger.TypeObserve},
				ledger.Observe{Counter: 1, Kind: ledger.NodeUp, Subject: subject})
			if err != nil {
				t.Fatal(err)
			}
			if err := liar.mesh.Publish(t.Context(), mesh.Statements, b); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range honest {
			for m.View().Standing(liar.name) != fsm.NodeExcluded {
				if time.Since(began) > patience {
					t.Fatalf("%s does not drop %s", m.name, liar.name)
				}
				time.Sleep(time.Millisecond)
			}
			took = append(took, time.Since(began))
		}
		time.Sleep(3 * time.Second) // for all that is brought of it
		t.Logf("evidence of round %d: %d statements, submitted %d times", round+1, evidence.count()-statements, submitted(honest)-submissions)
	}
	slices.Sort(took)
	t.Logf("from two statements to dropped, %d agents' times: p50 %s, p99 %s", len(took), took[len(took)/2], took[len(took)*99/100])
}

// cpu is how much of a core this process uses for a while.
func cpu(t *testing.T, d time.Duration) float64 {
	t.Helper()
	at := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := at()
	time.Sleep(d)
	return (at() - before).Seconds() / d.Seconds()
}
