package mesh

import "github.com/prometheus/client_golang/prometheus"

// metrics have closed label sets: topics, protocols, verdicts, stages and reasons
// that are written down in this package, never anything that a peer says.
type metrics struct {
	messages *prometheus.CounterVec // topic, verdict: gossip received
	out      *prometheus.CounterVec // topic: copies sent
	outBytes *prometheus.CounterVec // topic
	drops    *prometheus.CounterVec // reason: gossip that no judge saw
	denials  *prometheus.CounterVec // stage, reason
	streams  *prometheus.CounterVec // protocol, outcome: answered for others
	asked    *prometheus.CounterVec // protocol, outcome: asked of others
	dials    *prometheus.CounterVec // outcome
	rejoins  prometheus.Counter
	judging  *prometheus.HistogramVec // topic: seconds in the judge
	peers    *prometheus.GaugeVec     // standing
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "quorate", Subsystem: "mesh", Name: name, Help: help}, labels)
	}
	m := &metrics{
		messages: counter("messages_total", "Gossip messages judged.", "topic", "verdict"),
		out:      counter("sent_total", "Copies of gossip messages queued for peers.", "topic"),
		outBytes: counter("sent_bytes_total", "Bytes of gossip messages queued for peers.", "topic"),
		drops:    counter("dropped_total", "Gossip dropped before a judge saw it, or before it was sent.", "reason"),
		denials:  counter("denied_total", "Connections and streams refused.", "stage", "reason"),
		streams:  counter("answered_total", "Requests of peers.", "protocol", "outcome"),
		asked:    counter("asked_total", "Requests to peers.", "protocol", "outcome"),
		dials:    counter("dials_total", "Attempts to connect.", "outcome"),
		rejoins: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "quorate", Subsystem: "mesh", Name: "rejoins_total", Help: "Connections closed to begin gossip with a member again.",
		}),
		judging: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "quorate", Subsystem: "mesh", Name: "judging_seconds", Help: "Time in the judge of a gossip message.",
			Buckets: []float64{1e-5, 5e-5, 2e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.5, 2},
		}, []string{"topic"}),
		peers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "quorate", Subsystem: "mesh", Name: "peers", Help: "Members connected.",
		}, []string{"standing"}),
	}
	if registerer == nil {
		return m
	}
	for _, c := range []**prometheus.CounterVec{&m.messages, &m.out, &m.outBytes, &m.drops, &m.denials, &m.streams, &m.asked, &m.dials} {
		*c = register(registerer, *c)
	}
	m.rejoins = register(registerer, m.rejoins)
	m.judging, m.peers = register(registerer, m.judging), register(registerer, m.peers)
	return m
}

func (m *metrics) judged(t Topic, v Verdict) { m.messages.WithLabelValues(string(t), v.String()).Inc() }
func (m *metrics) dropped(reason string)     { m.drops.WithLabelValues(reason).Inc() }
func (m *metrics) denied(stage denialStage, reason string) {
	m.denials.WithLabelValues(string(stage), reason).Inc()
}

func (m *metrics) sent(t Topic, bytes int) {
	m.out.WithLabelValues(string(t)).Inc()
	m.outBytes.WithLabelValues(string(t)).Add(float64(bytes))
}
