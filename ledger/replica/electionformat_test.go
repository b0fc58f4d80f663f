package replica_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// In a ledger of format 1, programs that know of no election's certificate may
// run beside this one: nobody is asked for it, and leaders are followed without.
// In one of format 2 it is asked for.
func TestElectionIsProvenFromFormatTwo(t *testing.T) {
	for format, proven := range map[uint64]bool{1: false, 2: true} {
		var asked atomic.Int64
		c := replicatest.Start(t, 4, func(cfg *replica.Config) {
			cfg.Hooks = &replica.Hooks{Service: func(inner http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					if q.URL.Path == "/election" {
						asked.Add(1)
						if !proven {
							http.NotFound(w, q) // as an older program does
							return
						}
					}
					inner.ServeHTTP(w, q)
				})
			}}
		}, func(g *ledger.Genesis) {
			if g.Format = format; format < 2 {
				g.Policy.Protection = nil
			}
		})
		c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "before"))
		leader, follower := c.Leader(), c.Follower()
		if err := leader.Replica.TransferLeadership(c.Context(), follower.Record.Name); err != nil {
			t.Fatal(err)
		}
		follower.Await("it leads", func(s replica.Status) bool { return s.Role == replica.RoleLeader })
		sameDigest(t, c)
		if n := asked.Load(); (n > 0) != proven {
			t.Errorf("format %d: asked %d times who elected a leader", format, n)
		}
	}
}
