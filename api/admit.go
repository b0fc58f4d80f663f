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
	reason string
	most   int // at once
	each   int // at once of one address

	mu   sync.Mutex
	open int
	held map[netip.Prefix]int
}

func newGate(reason string, most, each int) *gate {
	return &gate{reason: reason, most: most, each: each, held: make(map[netip.Prefix]int)}
}

func (g *gate) enter(address netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.most || g.held[address] >= g.each {
		return false
	}
	g.open++
	g.held[address]++
	return true
}

func (g *gate) leave(address netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.held[address]--; g.held[address] == 0 {
		delete(g.held, address)
	}
}

// now is how many places are taken.
func (g *gate) now() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// gates are the bounds by what a request costs.
type gates struct {
	reads, writes, waiting, exports, states, costly *gate
}

func newGates(l Limits) gates {
	return gates{
		reads:   newGate("in_flight", l.InFlight, l.InFlight),
		writes:  newGate("writes", l.Writes, l.Writes),
		waiting: newGate("waiting", l.Waiting, l.WaitingPerAddress),
		exports: newGate("exports", l.Exports, 1),
		states:  newGate("states", l.States, max(l.States/2, 1)),
		costly:  newGate("costly", l.Costly, max(l.Costly/2, 1)),
	}
}

// of chooses by method, path and query alone, so that refusing is cheap, and
// says how many tokens of its address's rate the request takes.
func (g gates) of(r *http.Request) (*gate, int) {
	tokens := costOf(r)
	switch {
	case r.URL.Path == "/v1/export":
		return g.exports, tokens
	case r.URL.Path == "/v1/state":
		return g.states, tokens
	case r.URL.Path == "/v1/watch", r.URL.RawQuery != "" && r.URL.Query().Has("wait"):
		return g.waiting, tokens
	case tokens > 1:
		return g.costly, tokens
	case r.Method == http.MethodPost:
		return g.writes, tokens
	}
	return g.reads, tokens
}

// costOf is what a request costs in tokens: 1, or more where it takes a
// signature, a dry run or a walk over thousands of entries.
func costOf(r *http.Request) int {
	switch path := r.URL.Path; {
	case path == "/v1/export":
		return 100
	case path == "/v1/epochs", path == "/v1/state", strings.HasPrefix(path, "/v1/nodes/") && strings.HasSuffix(path, "/history"):
		return 50
	case path == "/v1/fleet", strings.HasPrefix(path, "/v1/holders/"):
		return 5
	case path == "/v1/simulate", path == "/v1/backups", strings.HasPrefix(path, "/receipts/"):
		return 20
	case path == "/v1/entries":
		if q := r.URL.Query(); q.Has("kinds") || q.Has("types") {
			return 20
		}
	}
	return 1
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
		g, tokens := s.gates.of(r)
		address := addressOf(r.RemoteAddr)
		if wait := s.rates.take(address, tokens, time.Now()); wait > 0 {
			s.metrics.refused("rate")
			writeProblem(w, newProblem(http.StatusTooManyRequests, codeRateLimited, "", "too many requests from this address; come back later").after(wait))
			return
		}
		if !g.enter(address) {
			s.metrics.refused(g.reason)
			writeProblem(w, newProblem(http.StatusTooManyRequests, codeBusy, "", "this replica is serving as much as it may at once; come back later, or use another one").after(s.limits.RetryAfter))
			return
		}
		defer g.leave(address)
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

// take takes tokens of the address, or says when to come back.
func (r *rates) take(address netip.Prefix, tokens int, now time.Time) time.Duration {
	tokens = min(tokens, r.burst)
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
	if limiter.AllowN(now, tokens) {
		return 0
	}
	return time.Duration(float64(tokens) * float64(time.Second) / float64(r.perSecond))
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
