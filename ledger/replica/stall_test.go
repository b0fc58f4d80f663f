package replica_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A leader that holds the ledger's time back, by much or by a little more than
// max_skew, or that never seals, is replaced, and what was said under it is
// certified; an honest one is not refused.
func TestLeaderThatHoldsTimeBackIsReplaced(t *testing.T) {
	const skew = 400
	for name, lie := range map[string]func(*ledger.Command){
		"an hour":      func(c *ledger.Command) { c.Stamp -= 3_600_000 },
		"1.5 max_skew": func(c *ledger.Command) { c.Stamp -= 3 * skew / 2 },
		"it never seals": func(c *ledger.Command) {
			c.Kind = map[bool]ledger.CommandKind{true: ledger.CommandTick, false: c.Kind}[c.Kind == ledger.CommandSeal]
		},
		"honest": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var liar atomic.Pointer[string]
			c := replicatest.Start(t, 4, func(cfg *replica.Config) {
				name := cfg.Name
				cfg.Limits.CensorLimit = 800 * time.Millisecond
				cfg.Hooks = &replica.Hooks{Order: func(command *ledger.Command) {
					if who := liar.Load(); who != nil && *who == name && lie != nil {
						lie(command)
					}
				}}
			}, func(g *ledger.Genesis) { g.Policy.MaxSkewMillis = skew })
			c.Lies = true
			leader := c.Leader()
			c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "while it is honest"))
			was := leader.Record.Name
			liar.Store(&was)
			follower := c.Follower()
			if lie == nil {
				for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
					c.Submit(follower, replica.WaitCertified, c.Record(c.Council[1], "on and on"))
				}
				if n := refusals(follower.Replica.Status(), "stall"); n > 0 {
					t.Errorf("an honest leader was refused %d times: %+v", n, follower.Replica.Status().Refusals)
				}
				return
			}
			// Said once the lie has lasted longer than a seal can be vouched for.
			time.Sleep(2 * skew * time.Millisecond)
			last := c.Submit(follower, replica.WaitCommitted, c.Record(c.Council[1], "under a liar's time")).Last
			for _, n := range c.Nodes {
				n.Await("what was said is certified", func(s replica.Status) bool { return s.Certified > last })
			}
			if n := c.Leader(); n == leader {
				t.Error("the liar leads still")
			}
		})
	}
}
