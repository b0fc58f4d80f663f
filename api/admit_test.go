package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func ask(h http.Handler, from, method, url string) int {
	r := httptest.NewRequest(method, url, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// TestWaitingIsKnownHoweverItIsWritten: a blocking read takes no place of the
// quick ones, with its parameter escaped either.
func TestWaitingIsKnownHoweverItIsWritten(t *testing.T) {
	g := newGates(DefaultLimits())
	for url, want := range map[string]*gate{
		"/v1/council?wait=1s": g.waiting, "/v1/council?%77ait=1s": g.waiting, "/v1/watch": g.waiting,
		"/v1/council": g.reads, "/v1/council?await=1s": g.reads, "/v1/entries": g.reads,
		"/v1/entries?types=record": g.costly, "/v1/epochs": g.costly, "/receipts/3": g.costly, "/v1/export": g.exports,
	} {
		if got, _ := g.of(httptest.NewRequest("GET", url, nil)); got != want {
			t.Errorf("%s takes a place of %s, want %s", url, got.reason, want.reason)
		}
	}
}

// TestOneAddressLeavesRoom: whatever one address holds open, others are served.
func TestOneAddressLeavesRoom(t *testing.T) {
	l := DefaultLimits()
	l.Waiting, l.WaitingPerAddress = 4, 2
	g := newGates(l).waiting
	one, other := addressOf("192.0.2.1:1"), addressOf("192.0.2.2:1")
	for i, want := range []bool{true, true, false} {
		if got := g.enter(one); got != want {
			t.Errorf("request %d of one address: %v", i, got)
		}
	}
	if !g.enter(other) {
		t.Error("another address finds no room")
	}
	g.leave(one)
	if !g.enter(one) || len(g.held) != 2 {
		t.Error("what was left is not free")
	}
	for _, a := range []string{"192.0.2.1:1", "192.0.2.1:1", "192.0.2.2:1"} {
		g.leave(addressOf(a))
	}
	if g.open != 0 || len(g.held) != 0 {
		t.Errorf("%d places and %d addresses are left", g.open, len(g.held))
	}
}

// TestCostlyRequestsTakeMoreTokens: a signature or a walk over the history
// exhausts an address's rate sooner than a look.
func TestCostlyRequestsTakeMoreTokens(t *testing.T) {
	for url, want := range map[string]int{"/v1/genesis": 100, "/receipts/0": 5, "/v1/epochs": 2} {
		f := newFake(t)
		s, err := New(f, Config{Limits: Limits{RatePerSecond: 0.001, RateBurst: 100}})
		if err != nil {
			t.Fatal(err)
		}
		served := 0
		for ask(s.Handler(), "192.0.2.1:1", "GET", url) != http.StatusTooManyRequests {
			served++
		}
		if served != want {
			t.Errorf("%s: %d served of a burst of 100, want %d", url, served, want)
		}
		if ask(s.Handler(), "192.0.2.9:1", "GET", url) == http.StatusTooManyRequests {
			t.Errorf("%s: another address is refused", url)
		}
	}
}

// TestSlowReaderIsCut: what reads next to nothing of a long answer does not
// hold its place, however often a piece goes through.
func TestSlowReaderIsCut(t *testing.T) {
	w := &slowWriter{w: httptest.NewRecorder(), timeout: time.Hour, control: http.NewResponseController(httptest.NewRecorder())}
	var begin time.Time // after the first piece: the machine may have been busy before
	for range 10 {
		if _, err := w.Write(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if begin.IsZero() {
			begin = time.Now()
		}
	}
	if most := exportGrace + time.Second; w.end.Sub(begin) > most {
		t.Errorf("100 bytes may take %s", w.end.Sub(begin))
	}
	before := w.end
	if _, err := w.Write(make([]byte, exportPerSecond)); err != nil {
		t.Fatal(err)
	}
	if gained := w.end.Sub(before); gained < 900*time.Millisecond || gained > 1100*time.Millisecond {
		t.Errorf("%d bytes give %s", exportPerSecond, gained)
	}
}
