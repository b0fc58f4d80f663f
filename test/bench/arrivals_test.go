package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/memorytest"
)

// What is said of rotations on a ledger is what its entries say: how many, how full the
// fullest second is, how long after their time, and who was late.
func TestArrivalsAreReadFromTheLedger(t *testing.T) {
	const nodes, seconds, epoch = 60, 100, 1
	var entries [][]byte
	f := memorytest.Founding{Seed: "arrivals", Nodes: nodes, Operators: 10, NodeName: "n-%02d",
		Note: func(e []byte) { entries = append(entries, e) },
		Change: func(g *ledger.Genesis) {
			g.Policy.EpochMillis, g.Policy.KeyEpochs = seconds*1_000, clusterKeyEpochs
			keys := ledger.DefaultKeys()
			keys.RotateEpochs, keys.LateEpochs = clusterRotate, clusterLate
			g.Policy.Keys = &keys
		}}
	for _, c := range council {
		f.Council = append(f.Council, memorytest.Seat{Name: c.name, Operator: c.operator})
	}
	l, err := memorytest.Found(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := beginEpoch(l); err != nil {
		t.Fatal(err)
	}
	statements, err := rotations(l)
	if err != nil {
		t.Fatal(err)
	}
	start, due := l.Now, map[string]time.Duration{}
	for i, m := range l.Fleet {
		n, _ := l.State.Node(m.Name)
		when := gossip.RotationDue(l.State.Meta().Ledger, m.Name, n.Ordinal, n.ValidTo, clusterRotate, clusterLate)
		if when.Epoch != epoch {
			t.Fatalf("%s is due in epoch %d", m.Name, when.Epoch)
		}
		due[m.Name] = time.Duration(i) * time.Second // one a second
	}
	// The last ten come within one second, 30 s after the first of them is due, and the
	// one before them not in that epoch.
	for i, s := range statements {
		l.Now = start + uint64(i)*1_000 + 7
		if i >= 50 {
			l.Now = start + 80_000 + uint64(i)
		}
		if i == 49 {
			continue
		}
		if err := l.Apply(ledger.CommandStatements, s); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := beginEpoch(l); err != nil {
			t.Fatal(err)
		}
	}
	a, err := readArrivals(entries, epoch, due)
	if err != nil {
		t.Fatal(err)
	}
	if a.Rotations != nodes-1 || a.Took != nodes-1 || a.RotationBytes < 10_000 || float64(a.Bytes) < a.RotationBytes*(nodes-1) {
		t.Errorf("%+v", a)
	}
	if want := 100 * 10. / (nodes - 1); a.Fullest < want-0.01 || a.Fullest > want+0.01 {
		t.Errorf("the fullest second has %.2f %%, want %.2f", a.Fullest, want)
	}
	if a.Behind.P50 != 7 || a.Behind.Worst < 29_000 || a.Behind.Worst > 31_000 {
		t.Errorf("behind their time: %+v", a.Behind)
	}
	if a.Late != 1 {
		t.Errorf("%d are late, want the one that did not rotate", a.Late)
	}
	if b, err := readArrivals(entries, epoch+1, due); err != nil || b.Late != nodes {
		t.Errorf("of another epoch all are late: %+v, %v", b, err)
	}
}

// The fullest second is found wherever it begins.
func TestMostWithin(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		stamps := make([]uint64, 1+random.IntN(60))
		for i := range stamps {
			stamps[i] = 100 * random.Uint64N(50) // so that many are a second apart
		}
		want := 0
		for begin := range uint64(5_000) {
			n := 0
			for _, at := range stamps {
				if begin <= at && at < begin+1_000 {
					n++
				}
			}
			want = max(want, n)
		}
		if got := mostWithin(stamps, 1_000); got != want {
			t.Fatalf("seed %d: %d of %v within a second, want %d", seed, got, stamps, want)
		}
	}
	if mostWithin(nil, 1_000) != 0 {
		t.Error("none are some")
	}
}
