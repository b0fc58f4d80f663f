package replica_test

import (
	"net/http"
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
