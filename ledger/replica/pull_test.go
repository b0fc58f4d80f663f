package replica_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A newcomer walks the handovers of the past with what the others tell, while
// one peer takes its requests and never answers.
func TestNewcomerWaitsForNobody(t *testing.T) {
	silent := ""
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		if cfg.Name == "r8" {
			cfg.Limits.PeerTimeout = time.Hour
			cfg.Hooks = &replica.Hooks{Requests: func(inner http.RoundTripper) http.RoundTripper { return &silence{inner, &silent} }}
		}
	})
	silent = c.Follower().Record.KeyID().String()
	// Handovers to walk: r5 to r7 are never started.
	for _, name := range []string{"r5", "r6", "r7", "r8"} {
		c.Decide(c.Leader(), "replica.add", replicaArgs{c.Add(replicatest.NewIdentity(t, name, "op-b")).Record})
	}
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "after them"))
	newcomer := c.Nodes[len(c.Nodes)-1]
	newcomer.Start()
	newcomer.Await("it is active", func(s replica.Status) bool { return s.Standing == "active" })
	c.Leader().Await("it votes", voter("r8"))
}

// silence never answers what is asked of one host about heads and handovers.
type silence struct {
	http.RoundTripper
	host *string
}

func (s *silence) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.URL.Hostname() == *s.host && q.Method == http.MethodGet && q.URL.Path != "/mine" {
		<-q.Context().Done()
		return nil, q.Context().Err()
	}
	return s.RoundTripper.RoundTrip(q)
}

// A replica that no cosignature reaches asks for what it misses: under steady
// writes, whose newest seal is never old, and over a handover, which it must have
// before anything behind it.
func TestDeafReplicaAsks(t *testing.T) {
	var deaf, mute atomic.Pointer[string] // who hears nothing, and who asks in vain
	c := replicatest.Start(t, 4, func(cfg *replica.Config) {
		name := cfg.Name
		cfg.Limits.CertifyPull = 3 * time.Second // no pause of a busy machine is taken for it
		cfg.Hooks = &replica.Hooks{Service: func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if one := deaf.Load(); one != nil && *one == name && q.URL.Path == "/cosignature" {
					return // the sender takes it for delivered
				}
				inner.ServeHTTP(w, q)
			})
		}, Requests: func(inner http.RoundTripper) http.RoundTripper {
			return roundTrip(func(q *http.Request) (*http.Response, error) {
				if one := mute.Load(); one != nil && *one == name && q.Method == http.MethodGet {
					return nil, errors.New("nobody answers")
				}
				return inner.RoundTrip(q)
			})
		}}
	})
	leader, follower := c.Leader(), c.Follower()
	name := follower.Record.Name
	deaf.Store(&name)
	before := follower.Replica.Status().Certified
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		pace := time.NewTicker(40 * time.Millisecond)
		defer pace.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-pace.C:
			}
			if _, err := leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[i%3], fmt.Sprint("steady ", i))}, replica.WaitCommitted); err != nil {
				t.Errorf("write %d: %v", i, err)
				return
			}
		}
	})
	follower.Await("it certifies under steady writes", func(s replica.Status) bool { return s.Certified > before+30 })
	close(stop)
	writer.Wait()
	mute.Store(&name) // until the handover is not the newest head any more
	c.Decide(leader, "replica.add", replicaArgs{replicatest.NewIdentity(t, "r5", "op-b").Record})
	last := c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "after the handover")).Last
	mute.Store(nil)
	follower.Await("it certifies beyond the handover", func(s replica.Status) bool { return s.Certified > last && s.Authority == 1 })
}
