package replica

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counted where things happen, never on replay of what a peer was
// told before: gauges are sizes, counters are this process's own work.
type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector

	appliedSize, certifiedSize           prometheus.Gauge
	entries, commands                    prometheus.Counter
	accepted, rejected, busy, forwarded  prometheus.Counter
	cosigned, badCosignatures, elections prometheus.Counter
	strangers, backfilled, diskErrors    prometheus.Counter
	diskStalls                           prometheus.Counter
	repaired, badRepairs, scrubbed       prometheus.Counter
	diskStalled, keyAge                  prometheus.Gauge
	guard                                *prometheus.CounterVec
	alarms                               *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{registerer: registerer}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "quorate", Name: name, Help: help})
		m.all = append(m.all, g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "quorate", Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	m.appliedSize = gauge("applied_size", "Entries that the state has applied.")
	m.certifiedSize = gauge("certified_size", "Entries that the newest certified checkpoint covers.")
	m.entries = counter("applied_entries_total", "Entries appended or compared by this process.")
	m.commands = counter("applied_commands_total", "Raft commands applied by this process.")
	m.accepted = counter("submitted_statements_total", "Statements committed through this replica as leader.")
	m.rejected = counter("rejected_submissions_total", "Submissions that the rules rejected.")
	m.busy = counter("busy_submissions_total", "Submissions refused because the queue was full.")
	m.forwarded = counter("forwarded_submissions_total", "Submissions forwarded to the leader.")
	m.cosigned = counter("cosignatures_total", "Heads cosigned.")
	m.badCosignatures = counter("bad_cosignatures_total", "Cosignatures of peers that did not verify.")
	m.elections = counter("elections_won_total", "Times that this replica became leader.")
	m.strangers = counter("refused_handshakes_total", "Peer connections whose certificate is not pinned.")
	m.backfilled = counter("backfilled_entries_total", "Entries of a gap fetched from peers.")
	m.diskErrors = counter("disk_errors_total", "Writes that the disk refused.")
	m.repaired = counter("repaired_bundles_total", "Bundles of the history repaired from peers.")
	m.badRepairs = counter("bad_repairs_total", "Answers of peers that did not hash to the damaged bundle's place in the tree.")
	m.scrubbed = counter("scrubbed_bundles_total", "Bundles of the history read again and checked.")
	m.diskStalls = counter("disk_stalls_total", "Times that a write to the disk was overdue.")
	m.diskStalled = gauge("disk_stalled", "1 while a write to the disk is overdue, else 0.")
	m.keyAge = gauge("replica_key_age_epochs", "Epochs since this replica's signing key came; it rotates by itself once its policy's replica_key_epochs are over.")
	m.guard = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "quorate", Name: "guard_refusals_total",
		Help: "Raft requests refused before Raft saw them."}, []string{"rule"})
	m.alarms = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "quorate", Name: "replica_alarm",
		Help: "1 while this replica raises the alarm of that code, else 0."}, []string{"code"})
	for _, code := range alarmCodes {
		m.alarmed(code, false)
	}
	m.all = append(m.all, m.guard, m.alarms)
	for _, c := range m.all {
		if err := registerer.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) refused(rule string) { m.guard.WithLabelValues(rule).Inc() }

func (m *metrics) alarmed(code string, on bool) {
	value := 0.0
	if on {
		value = 1
	}
	m.alarms.WithLabelValues(code).Set(value)
}

func (m *metrics) applied(entries, commands int) {
	m.entries.Add(float64(entries))
	m.commands.Add(float64(commands))
}
