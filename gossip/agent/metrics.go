package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/gossip"
)

// metrics are what an agent counts. Labels are of closed sets: reasons,
// statement types, verdict codes.
type metrics struct {
	gatherer  prometheus.Gatherer
	rulings   *prometheus.CounterVec
	statement *prometheus.CounterVec
	verdicts  *prometheus.CounterVec
	probes    *prometheus.CounterVec
	roundTrip prometheus.Histogram
	rotations *prometheus.CounterVec
	changes   *prometheus.CounterVec
	renewals  *prometheus.CounterVec
	givenUp   *prometheus.CounterVec
}

func newMetrics(a *Agent, registry *prometheus.Registry) *metrics {
	m := &metrics{
		rulings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_agent_rulings_total", Help: "Statements that came by the mesh, by the rule that decided.",
		}, []string{"channel", "reason"}),
		statement: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_agent_signed_total", Help: "Statements that this node signed, by type.",
		}, []string{"type"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_agent_submitted_total", Help: "Statements brought to the ledger, by type and verdict.",
		}, []string{"type", "verdict"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_agent_probes_total", Help: "Probes sent, by outcome.",
		}, []string{"outcome"}),
		roundTrip: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_agent_probe_seconds", Help: "From a probe to its ack.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}),
	}
	m.rotations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_agent_rotations_total", Help: "Rotations of the node's key, by result: done, or a step that failed and is tried again.",
	}, []string{"result"})
	m.changes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_agent_mesh_changes_total", Help: "Changes of the peer key, by result: done, or failed and tried again.",
	}, []string{"result"})
	m.renewals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_agent_renewed_total", Help: "Statements of this node that were signed anew since their epoch was over before the ledger had them, by type.",
	}, []string{"type"})
	m.givenUp = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_agent_given_up_total", Help: "Statements of this node that the ledger had not and takes no more, and that were not signed anew, by type and why.",
	}, []string{"type", "why"})
	if registry == nil {
		return m
	}
	m.gatherer = registry
	registry.MustRegister(m.collectors(a)...)
	return m
}

// collectors are all that an agent exports; the gauges ask the agent at each scrape.
func (m *metrics) collectors(a *Agent) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		m.rulings, m.statement, m.verdicts, m.probes, m.roundTrip, m.rotations, m.changes, m.renewals, m.givenUp, newTroubleGauge(&a.trouble),
		gauge("quorate_agent_size", "Certified entries that are enforced.", func() float64 { return float64(a.View().Size) }),
		gauge("quorate_agent_head_age_seconds", "Since the newest head was signed; -1 without one.", func() float64 {
			if v := a.View(); !v.Signed.IsZero() {
				return time.Since(v.Signed).Seconds()
			}
			return -1
		}),
		gauge("quorate_agent_alarm", "1: certified heads conflict, or certified entries diverge.", func() float64 {
			if a.Status().Alarm {
				return 1
			}
			return 0
		}),
		gauge("quorate_agent_cut_off", "1: none of the replicas that it is to follow answers; it may hear of heads from peers still.", func() float64 {
			if a.client != nil && a.trouble.cutOff() {
				return 1
			}
			return 0
		}),
		gauge("quorate_agent_key_epochs_left", "Epochs until the node's key ends, this one with it; 0: it ended.", func() float64 {
			v := a.View()
			if v.State == nil {
				return 0
			}
			me, ok := v.State.Node(a.config.Name)
			if !ok || me.ValidTo < v.State.Epoch() {
				return 0
			}
			return float64(me.ValidTo - v.State.Epoch() + 1)
		}),
		gauge("quorate_agent_waiting", "Statements that wait for the ledger.", func() float64 { return float64(a.out.waiting()) }),
		gauge("quorate_agent_quarantined", "Nodes that are dropped.", func() float64 { return float64(len(quarantineOf(a.View()))) }),
	}
}

// troubleGauge tells, at each scrape, what is wrong.
type troubleGauge struct {
	trouble *troubles
	desc    *prometheus.Desc
}

func newTroubleGauge(t *troubles) *troubleGauge {
	return &troubleGauge{t, prometheus.NewDesc("quorate_agent_trouble", "1 while that is wrong, as the trouble of its status says; else there is none.", []string{"what"}, nil)}
}

// Describe is prometheus's.
func (g *troubleGauge) Describe(out chan<- *prometheus.Desc) { out <- g.desc }

// Collect is prometheus's.
func (g *troubleGauge) Collect(out chan<- prometheus.Metric) {
	for what := range g.trouble.list() {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, 1, what)
	}
}

func (m *metrics) ruled(channel string, r gossip.Reason) {
	m.rulings.WithLabelValues(channel, string(r)).Inc()
}
func (m *metrics) rotated(result string)         { m.rotations.WithLabelValues(result).Inc() }
func (m *metrics) signed(typ string)             { m.statement.WithLabelValues(typ).Inc() }
func (m *metrics) submitted(typ, verdict string) { m.verdicts.WithLabelValues(typ, verdict).Inc() }

func (m *metrics) probed(acked bool, took time.Duration) {
	if !acked {
		m.probes.WithLabelValues("missed").Inc()
		return
	}
	m.probes.WithLabelValues("acked").Inc()
	m.roundTrip.Observe(took.Seconds())
}
