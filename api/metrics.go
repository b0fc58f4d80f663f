package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/api/client"
)

// metrics count what is served; the labels are routes, never paths.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refusals *prometheus.CounterVec
	watches  prometheus.Gauge
}

// alarmGauge tells, at each scrape, what the ledger warns of.
type alarmGauge struct {
	backend Backend
	desc    *prometheus.Desc
}

func newAlarmGauge(b Backend) *alarmGauge {
	return &alarmGauge{b, prometheus.NewDesc("quorate_alarms", "How many the ledger's alarm of that kind names, as far as this replica has applied.", []string{"kind"}, nil)}
}

// Describe is prometheus's.
func (g *alarmGauge) Describe(out chan<- *prometheus.Desc) { out <- g.desc }

// Collect is prometheus's. A replica without a state yet tells of no alarm.
func (g *alarmGauge) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	v, err := g.backend.View(ctx, client.Stale)
	if err != nil {
		return
	}
	for kind, a := range v.State.Alarms() {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(a.Count), kind)
	}
}

func newMetrics(r prometheus.Registerer, b Backend) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_api_requests_total", Help: "Requests answered, by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_api_request_seconds", Help: "Time to answer, without watches and blocking reads.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}, []string{"route"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_api_refused_total", Help: "Requests refused with 429 before anything was read, by the bound that was met.",
		}, []string{"bound"}),
		watches: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_api_watches", Help: "Open watches.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.refusals, m.watches, newAlarmGauge(b)} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) refused(bound string) { m.refusals.WithLabelValues(bound).Inc() }

// statusWriter remembers the status for the metrics.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// measureAs is measure of a handler with one route, POST alone.
func (m *metrics) measureAs(route string, next http.Handler) http.Handler {
	seconds := m.seconds.WithLabelValues(route)
	good := m.requests.WithLabelValues(route, http.MethodPost, strconv.Itoa(http.StatusOK))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(sw, r)
		if sw.status == http.StatusOK || sw.status == 0 {
			good.Inc()
		} else {
			m.requests.WithLabelValues(route, http.MethodPost, strconv.Itoa(sw.status)).Inc()
		}
		seconds.Observe(time.Since(begin).Seconds())
	})
}

func (m *metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(sw, r)
		route := "other"
		if c := chi.RouteContext(r.Context()); c != nil && c.RoutePattern() != "" && sw.status != http.StatusMethodNotAllowed {
			route = c.RoutePattern()
		}
		if sw.status == 0 {
			sw.status = http.StatusOK
		}
		m.requests.WithLabelValues(route, knownMethod(r.Method), strconv.Itoa(sw.status)).Inc()
		if route != "/v1/watch" && !r.URL.Query().Has("wait") {
			m.seconds.WithLabelValues(route).Observe(time.Since(begin).Seconds())
		}
	})
}

// knownMethod keeps a stranger from making labels.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return method
	}
	return "other"
}
