package fsm

import (
	"os"
	"strconv"
	"testing"
)

// randomHistories runs random histories, each from a seed of its own: 10,000, or 1,000
// if time is short. one runs a history, and gives its state, what must not be, and how
// often what happened. A seed that fails is printed; QUORATE_SEED runs it alone. wanted
// is what must have happened at least once.
func randomHistories(t *testing.T, wanted []string, one func(seed uint64) (s *State, wrong []string, happened map[string]int)) {
	t.Helper()
	histories, first := uint64(10_000), uint64(1)
	if testing.Short() {
		histories = 1_000
	}
	if text := os.Getenv("QUORATE_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		histories, first = 1, seed
	}
	met := map[string]int{}
	for seed := first; seed < first+histories; seed++ {
		s, wrong, happened := one(seed)
		if len(wrong) > 0 {
			t.Fatalf("seed %d: %s", seed, wrong[0])
		}
		for what, n := range happened {
			met[what] += n
		}
		if seed%500 == 0 {
			checkState(t, s)
		}
	}
	t.Logf("seeds %d to %d: %v", first, first+histories-1, met)
	if histories == 1 {
		return
	}
	for _, what := range wanted {
		if met[what] == 0 {
			t.Errorf("no history had: %s", what)
		}
	}
}
