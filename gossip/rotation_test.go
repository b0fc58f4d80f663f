package gossip

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/ledger"
)

// fullestSecond lets nodes rotate in one epoch, which each begins up to 1 s late,
// and gives the share of the second that carries most of them.
func fullestSecond(random *rand.Rand, nodes, epochSeconds int, missing float64) float64 {
	seconds := map[int]int{}
	rotated := 0
	for i := range nodes {
		if random.Float64() < missing {
			continue
		}
		due := RotationDue(ledger.Hash{1}, fmt.Sprintf("n%d", i), uint64(i)+1, 4_320, 1, 0)
		at := float64(due.At)/10_000*float64(epochSeconds) + random.Float64()
		seconds[int(at)]++
		rotated++
	}
	most := 0
	for _, n := range seconds {
		most = max(most, n)
	}
	return float64(most) / float64(rotated)
}

// However many rotate in one epoch, no second of it carries more than 2 % of them,
// as far as an epoch has seconds enough.
func TestRotationsAreSpreadOverAnEpoch(t *testing.T) {
	const seed = 5
	for _, c := range []struct {
		nodes, seconds int
		missing        float64
	}{
		{5_000, 600, 0}, {5_000, 600, 0.33}, {5_000, 90, 0}, {5_000, 90, 0.33},
		{1_000, 600, 0}, {1_000, 600, 0.33}, {100, 600, 0}, {100, 600, 0.33},
	} {
		share := fullestSecond(rand.New(rand.NewPCG(seed, 0)), c.nodes, c.seconds, c.missing)
		t.Logf("%d nodes in %d s, %.0f %% missing: %.2f %% in the fullest second", c.nodes, c.seconds, 100*c.missing, 100*share)
		if share > 0.02 {
			t.Errorf("seed %d: %d nodes in %d s, %.0f %% missing: %.2f %% in one second", seed, c.nodes, c.seconds, 100*c.missing, 100*share)
		}
	}
}

// Each node rotates in its window and before it is late, at the same time whoever
// asks; nodes of one validTo are spread over the epochs of the window.
func TestRotationIsDueInItsWindow(t *testing.T) {
	const validTo, rotate, late = 1_000, 100, 25
	epochs := map[uint64]int{}
	for i := range uint64(3_000) {
		name := fmt.Sprintf("n%d", i)
		due := RotationDue(ledger.Hash{2}, name, i, validTo, rotate, late)
		if due != RotationDue(ledger.Hash{2}, name, i, validTo, rotate, late) {
			t.Fatalf("%s: due at two times", name)
		}
		if due.Epoch+rotate <= validTo || validTo-due.Epoch < late {
			t.Fatalf("%s: due in epoch %d", name, due.Epoch)
		}
		if due.At < 500 || due.At >= 9_000 || due.Change < 500 || due.Change >= 6_000 {
			t.Fatalf("%s: due at %d, changes at %d", name, due.At, due.Change)
		}
		epochs[due.Epoch]++
	}
	if len(epochs) != rotate-late {
		t.Errorf("%d of %d epochs are used", len(epochs), rotate-late)
	}
	for epoch, n := range epochs { // 40 each; six standard deviations
		if n > 80 {
			t.Errorf("%d nodes rotate in epoch %d", n, epoch)
		}
	}
	// The bounds of the policy: no window but the last epoch, no room before lateness.
	for _, c := range [][2]uint64{{0, 0}, {1, 0}, {1, 1}, {5, 5}, {7, 6}} {
		due := RotationDue(ledger.Hash{2}, "n", 3, 7, c[0], c[1])
		if due.Epoch+max(c[0], 1) < 7+1 || due.Epoch > 8 {
			t.Errorf("rotate %d, late %d: epoch %d", c[0], c[1], due.Epoch)
		}
	}
	if due := RotationDue(ledger.Hash{2}, "n", 3, 2, 100, 99); due.Epoch != 0 {
		t.Errorf("a window that began before the first epoch: epoch %d", due.Epoch)
	}
}
