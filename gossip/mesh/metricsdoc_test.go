package mesh

import (
	"testing"

	"github.com/quorate/quorate/test/metricstest"
)

// TestMetricsAreDocumented: what a mesh exports is in deploy/metrics.md.
func TestMetricsAreDocumented(t *testing.T) {
	var r metricstest.Recorder
	newMetrics(&r)
	metricstest.Documented(t, "Mesh of an agent", r.Collectors)
}
