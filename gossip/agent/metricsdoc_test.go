package agent

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/test/metricstest"
)

// TestMetricsAreDocumented: what an agent exports is in deploy/metrics.md.
func TestMetricsAreDocumented(t *testing.T) {
	a := new(Agent)
	metricstest.Documented(t, "Agent", newMetrics(a, nil).collectors(a))
	metricstest.Valued(t, "quorate_agent_trouble", "what", metricstest.Consts(t, "trouble.go", "trouble"))
	var reasons []string
	for _, reason := range gossip.Reasons {
		reasons = append(reasons, string(reason))
	}
	metricstest.Valued(t, "quorate_agent_rulings_total", "reason", reasons)
	metricstest.Valued(t, "quorate_agent_given_up_total", "why", metricstest.Consts(t, "renewal.go", "given"))
}

// TestTroubleIsMeasured: what is wrong is told while it is.
func TestTroubleIsMeasured(t *testing.T) {
	var trouble troubles
	registry := prometheus.NewRegistry()
	registry.MustRegister(newTroubleGauge(&trouble))
	count := func() (n int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, one := range family.GetMetric() {
				if one.GetGauge().GetValue() == 1 && one.GetLabel()[0].GetValue() == troubleDisk {
					n++
				}
			}
		}
		return n
	}
	for i, err := range []error{nil, errors.New("full"), nil} {
		if trouble.set(troubleDisk, err); count() != i%2 {
			t.Errorf("step %d: %d series", i, count())
		}
	}
}
