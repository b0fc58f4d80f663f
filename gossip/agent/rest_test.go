package agent

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
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
	before := cpuTime(t)
	time.Sleep(d)
	return (cpuTime(t) - before).Seconds() / d.Seconds()
}

// cpuTime is what this process has used of all cores.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestJudgingRate measures how many statements of four authors one agent judges in a
// second, in turn with bare verification of as many. By hand: QUORATE_REST=1.
func TestJudgingRate(t *testing.T) {
	if os.Getenv("QUORATE_REST") == "" {
		t.Skip("a measurement: QUORATE_REST=1")
	}
	f := newFleet(t, 3, 5, func(g *ledger.Genesis) { g.Policy.Quota = 1 << 20 }, nil)
	m := f.agents[0]
	f.start(m)
	f.await("it has a state", f.agents[:1], func(m *member) bool { return m.View().State != nil })
	const rounds, each = 5, 2_000
	seqs := map[string]uint64{}
	for range rounds {
		var statements []*ledger.Statement
		for i := range each {
			author := f.agents[1+i%4]
			epoch, seq := m.View().State.Epoch(), seqs[author.name]
			seqs[author.name]++
			b, err := ledger.Sign(author.key, ledger.Payload{Author: author.name, Epoch: &epoch, Seq: &seq, Ledger: f.cluster.Hash, Type: ledger.TypeObserve},
				ledger.Observe{Counter: seq + 1, Kind: ledger.LinkUp, Subject: "n1"})
			if err != nil {
				t.Fatal(err)
			}
			st, err := ledger.ParseStatement(b)
			if err != nil {
				t.Fatal(err)
			}
			statements = append(statements, st)
		}
		onAllCores := func(what func(i int) bool) time.Duration {
			var next, good atomic.Int64
			var wait sync.WaitGroup
			began := time.Now()
			for range runtime.GOMAXPROCS(0) {
				wait.Go(func() {
					for i := next.Add(1) - 1; i < each; i = next.Add(1) - 1 {
						if what(int(i)) {
							good.Add(1)
						}
					}
				})
			}
			wait.Wait()
			if good.Load() != each {
				t.Errorf("%d of %d were good", good.Load(), each)
			}
			return time.Since(began)
		}
		publics := map[string]*keys.PublicKey{}
		for _, a := range f.agents {
			publics[a.name] = a.key.Public()
		}
		bare := onAllCores(func(i int) bool { return statements[i].Verify(publics[statements[i].Payload.Author]) })
		used := cpuTime(t)
		judged := onAllCores(func(i int) bool {
			return m.judge.Statement(mesh.Member{}, statements[i].Envelope) == mesh.Accept
		})
		t.Logf("%.0f statements a second, %.0f us of processor each; %.2f of bare ML-DSA-65",
			each/judged.Seconds(), (cpuTime(t)-used).Seconds()*1e6/each, bare.Seconds()/judged.Seconds())
	}
}
