package api

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// gate bounds how much is done at once. What does not fit is refused before a
// byte of the body is read.
type gate struct {
	slots  chan struct{}
	reason string
}

func newGate(reason string, n int) *gate {
	return &gate{slots: make(chan struct{}, n), reason: reason}
}

func (g *gate) enter() bool {
	select {
	case g.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g *gate) leave() { <-g.slots }

// gates are the bounds by what a request costs.
type gates struct {
	reads, writes, waiting, exports *gate
}

func newGates(l Limits) gates {
	return gates{
		reads:   newGate("in_flight", l.InFlight),
		writes:  newGate("writes", l.Writes),
		waiting: newGate("waiting", l.Waiting),
		exports: newGate("exports", l.Exports),
	}
}

// of chooses by method and path alone, so that refusing is cheap.
func (g gates) of(r *http.Request) *gate {
	switch {
	case r.Method == http.MethodPost:
		return g.writes
	case r.URL.Path == "/v1/watch":
		return g.waiting
	case r.URL.Path == "/v1/export":
		return g.exports
	case strings.Contains(r.URL.RawQuery, "wait="):
		return g.waiting
	}
	return g.reads
}

// admit refuses with 429 what one address asks too often and what does not
// fit. Probes of health pass always: who supervises must see a busy replica.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/livez", "/readyz", "/metrics":
			next.ServeHTTP(w, r)
			return
		}
		if wait := s.rates.take(r.RemoteAddr, time.Now()); wait > 0 {
			s.metrics.refused("rate")
			writeProblem(w, newProblem(http.StatusTooManyRequests, codeRateLimited, "", "too many requests from this address; come back later").after(wait))
			return
		}
		g := s.gates.of(r)
		if !g.enter() {
			s.metrics.refused(g.reason)
			writeProblem(w, newProblem(http.StatusTooManyRequests, codeBusy, "", "this replica is serving as much as it may at once; come back later, or use another one").after(s.limits.RetryAfter))
			return
		}
		defer g.leave()
		next.ServeHTTP(w, r)
	})
}

// rates is a token bucket per address, for the addresses seen last. An IPv6
// address counts by its /64, which is what one host can take at will.
type rates struct {
	perSecond rate.Limit
	burst     int
	most      int

	mu      sync.Mutex
	buckets map[netip.Prefix]*list.Element
	recent  *list.List // of *bucket, the last seen in front
}

type bucket struct {
	address netip.Prefix
	limiter *rate.Limiter
}

func newRates(l Limits) *rates {
	return &rates{
		perSecond: rate.Limit(l.RatePerSecond), burst: l.RateBurst, most: l.Addresses,
		buckets: make(map[netip.Prefix]*list.Element), recent: list.New(),
	}
}

// take takes a token of the address, or says when to come back.
func (r *rates) take(remote string, now time.Time) time.Duration {
	address := addressOf(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	element, ok := r.buckets[address]
	if !ok {
		if r.recent.Len() >= r.most {
			oldest := r.recent.Back()
			delete(r.buckets, oldest.Value.(*bucket).address)
			r.recent.Remove(oldest)
		}
		element = r.recent.PushFront(&bucket{address, rate.NewLimiter(r.perSecond, r.burst)})
		r.buckets[address] = element
	}
	r.recent.MoveToFront(element)
	limiter := element.Value.(*bucket).limiter
	if limiter.AllowN(now, 1) {
		return 0
	}
	return time.Duration(float64(time.Second) / float64(r.perSecond))
}

// addressOf is the zero prefix for what has no address, such as a unix socket.
func addressOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
