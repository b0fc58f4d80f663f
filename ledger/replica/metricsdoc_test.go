package replica

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/test/metricstest"
)

// TestMetricsAreDocumented: what a replica exports is in deploy/metrics.md, and each code
// of an alarm is told from the start.
func TestMetricsAreDocumented(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	metricstest.Documented(t, "Replica", m.all)
	metricstest.Valued(t, "quorate_replica_alarm", "code", alarmCodes)
	codes := metricstest.Consts(t, "status.go", "alarm")
	if slices.Sort(codes); !slices.Equal(codes, slices.Sorted(slices.Values(alarmCodes))) {
		t.Errorf("alarmCodes are %q, the constants %q", alarmCodes, codes)
	}
}

// TestAlarmsAreMeasured: an alarm is 1 while it is raised, and 0 before and after.
func TestAlarmsAreMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	value := func() float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, one := range family.GetMetric() {
				if family.GetName() == "quorate_replica_alarm" && one.GetLabel()[0].GetValue() == alarmFork {
					return one.GetGauge().GetValue()
				}
			}
		}
		t.Fatal("there is no quorate_replica_alarm of a fork")
		return 0
	}
	r := &Replica{metrics: m, alarms: map[string]Alarm{}, log: slog.New(slog.DiscardHandler)}
	for i, act := range []func(){func() {}, func() { r.raise(alarmFork, "r1") }, func() { r.raise(alarmFork, "r1 and r2") }, func() { r.clear(alarmFork) }} {
		if act(); value() != []float64{0, 1, 1, 0}[i] {
			t.Errorf("after step %d it is %v", i, value())
		}
	}
}
