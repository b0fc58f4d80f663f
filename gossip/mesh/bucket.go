package mesh

import (
	"sync"
	"time"
)

// bucket is a token bucket.
type bucket struct {
	tokens float64
	filled time.Time
}

// allowance is how often something may happen for each key: rate a second, and
// burst at once. It remembers at most limit keys.
type allowance[K comparable] struct {
	rate, burst float64
	limit       int

	mu   sync.Mutex
	keys map[K]bucket
}

func newAllowance[K comparable](rate, burst float64, limit int) *allowance[K] {
	return &allowance[K]{rate: rate, burst: burst, limit: limit, keys: map[K]bucket{}}
}

// take takes up to n tokens of key and says how many it got.
func (a *allowance[K]) take(key K, n int, now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.level(key, now)
	got := min(n, int(b.tokens))
	b.tokens -= float64(got)
	a.keys[key] = b
	return got
}

// allow takes one token of key.
func (a *allowance[K]) allow(key K, now time.Time) bool { return a.take(key, 1, now) == 1 }

// has says whether a token is left, without taking it.
func (a *allowance[K]) has(key K, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b, ok := a.keys[key]; ok {
		return a.refilled(b, now).tokens >= 1
	}
	return true
}

// level requires a.mu.
func (a *allowance[K]) level(key K, now time.Time) bucket {
	b, ok := a.keys[key]
	if !ok {
		if len(a.keys) >= a.limit {
			a.forget(now)
		}
		return bucket{a.burst, now}
	}
	return a.refilled(b, now)
}

func (a *allowance[K]) refilled(b bucket, now time.Time) bucket {
	if passed := now.Sub(b.filled).Seconds(); passed > 0 {
		b.tokens, b.filled = min(a.burst, b.tokens+passed*a.rate), now
	}
	return b
}

// forget drops keys whose bucket is full again, which changes nothing, and if
// there is none, an arbitrary one, which gives that key a burst too much. It looks
// at no more than a few keys. It requires a.mu.
func (a *allowance[K]) forget(now time.Time) {
	const look = 64
	looked := 0
	var any K
	for key, b := range a.keys {
		if any = key; a.refilled(b, now).tokens >= a.burst {
			delete(a.keys, key)
		}
		if looked++; looked == look {
			break
		}
	}
	if len(a.keys) >= a.limit {
		delete(a.keys, any)
	}
}

// gauge bounds what happens at one time, in all and for each key.
type gauge[K comparable] struct {
	total, each int

	mu   sync.Mutex
	busy int
	keys map[K]int
}

func newGauge[K comparable](total, each int) *gauge[K] {
	return &gauge[K]{total: total, each: each, keys: map[K]int{}}
}

// enter says whether one more may happen for key; if so, leave must follow.
func (g *gauge[K]) enter(key K) bool { return g.enterBelow(key, g.total) }

func (g *gauge[K]) enterBelow(key K, total int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy >= total || g.keys[key] >= g.each {
		return false
	}
	g.busy++
	g.keys[key]++
	return true
}

func (g *gauge[K]) leave(key K) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	if g.keys[key]--; g.keys[key] == 0 {
		delete(g.keys, key)
	}
}
