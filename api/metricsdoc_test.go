package api

import (
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/test/metricstest"
)

// TestMetricsAreDocumented: what the API exports is in deploy/metrics.md.
func TestMetricsAreDocumented(t *testing.T) {
	var r metricstest.Recorder
	if _, err := newMetrics(&r, nil); err != nil {
		t.Fatal(err)
	}
	metricstest.Documented(t, "API of a replica", r.Collectors)
	metricstest.Valued(t, "quorate_alarms", "kind", fsm.AlarmKinds())
}
