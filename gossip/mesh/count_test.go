package mesh

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// countOf sums a counter over its labels.
func countOf(c *prometheus.CounterVec) int {
	metrics := make(chan prometheus.Metric, 256)
	c.Collect(metrics)
	close(metrics)
	total := 0.0
	for metric := range metrics {
		var m dto.Metric
		if err := metric.Write(&m); err == nil {
			total += m.GetCounter().GetValue()
		}
	}
	return int(total)
}

func valueOf(c prometheus.Counter) int {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return -1
	}
	return int(m.GetCounter().GetValue())
}

func denials(s *station, stage denialStage, reason string) int {
	return valueOf(s.metrics.denials.WithLabelValues(string(stage), reason))
}

func drops(s *station, reason string) int { return valueOf(s.metrics.drops.WithLabelValues(reason)) }
