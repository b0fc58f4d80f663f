package main

import "testing"

func TestQuantileAndMedian(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"p50 of 1 to 100", quantile(hundred, 0.50), 50},
		{"p99 of 1 to 100", quantile(hundred, 0.99), 99},
		{"p100", quantile(hundred, 1), 100},
		{"p0", quantile(hundred, 0), 1},
		{"p99 of one", quantile([]float64{7}, 0.99), 7},
		{"of nothing", quantile([]float64{}, 0.5), 0},
		{"odd median", median([]float64{3, 1, 2}), 2},
		{"even median", median([]float64{4, 1, 2, 3}), 2.5},
		{"median of nothing", median(nil), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// A ratio pairs the cells of one round, so that a slow minute counts for both.
func TestRatioPairsRounds(t *testing.T) {
	row := &throughputRow{Rounds: map[string][]*cell{
		systemWAL:  {{PerSecond: 100}, {PerSecond: 10}, {PerSecond: 300}},
		systemEtcd: {{PerSecond: 200}, {PerSecond: 20}, {PerSecond: 100}},
	}}
	if got := row.ratio(systemWAL, systemEtcd); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
}
