package replica_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// A leader says that it did nothing with a submission, or refuses it, and the
// follower goes on giving it to the leader: the client must not be told that
// nothing happened, since it is committed in the end. The same bytes again give
// the first result. However often the leader is asked meanwhile, whatever the
// size, the follower verifies a signature a few times at most.
func TestWatchedIsNotSaidToBeNothing(t *testing.T) {
	rejections := func(n int) string {
		return `{"verdicts":[` + strings.Repeat(`{"code":3},`, n-1) + `{"code":3}]}`
	}
	for _, one := range []struct {
		name       string
		statements int
		answer     func(http.ResponseWriter, *http.Request)
	}{
		{"not the leader", 1, status(http.StatusServiceUnavailable, "{}")},
		{"rejected", 1, status(http.StatusUnprocessableEntity, rejections(1))},
		// More than may be tried again and again for what a leader rejects.
		{"rejected, many at once", ledger.MaxBundle / 2, status(http.StatusUnprocessableEntity, rejections(ledger.MaxBundle/2))},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			c := &censor{author: "bob", answer: one.answer, spares: true}
			verified := map[string]*atomic.Int64{}
			cluster := replicatest.Start(t, 3, func(cfg *replica.Config) {
				cfg.Hooks = c.hooks(cfg.Name)
				count := &atomic.Int64{}
				verified[cfg.Name] = count
				cfg.Hooks.Verify = func(_ *ledger.Statement, good bool) bool { count.Add(1); return good }
				cfg.Limits.CensorLimit = 8 * time.Second
				cfg.Limits.LeaderHold = 500 * time.Millisecond // over before the follower tries again
			})
			for tries := 1; ; tries++ {
				leader, follower := cluster.Leader(), cluster.Follower()
				name := leader.Record.Name
				c.only.Store(&name)
				var bundle [][]byte
				for range one.statements {
					bundle = append(bundle, cluster.Record(cluster.Council[1], "what the leader says it did nothing with"))
				}
				st, err := ledger.ParseStatement(bundle[0])
				if err != nil {
					t.Fatal(err)
				}
				count := verified[follower.Record.Name]
				before := count.Load()
				_, err = follower.Replica.Submit(cluster.Context(), bundle, replica.WaitCommitted)
				// On a busy machine it is committed by then, or the leader lost for a while.
				if (err == nil || errors.Is(err, replica.ErrNoLeader)) && tries < 5 {
					t.Logf("try %d: %v", tries, err)
					c.only.Store(nil)
					continue
				}
				if !errors.Is(err, replica.ErrUnknownOutcome) {
					t.Fatalf("answer %v, want an unknown outcome", err)
				}
				if n, most := count.Load()-before, int64(6*one.statements); n > most {
					t.Errorf("%d signatures verified of %d statements, at most %d", n, one.statements, most)
				}
				follower.Await("it is committed after all", func(replica.Status) bool { return holdsStatement(t, follower, st.ID) })
				c.only.Store(nil)
				receipt, err := follower.Replica.Submit(cluster.Context(), bundle, replica.WaitCommitted)
				if err != nil || receipt.Verdicts[0].ID != st.ID || !receipt.Verdicts[0].Duplicate {
					t.Errorf("the same bytes again: %+v, %v", receipt, err)
				}
				return
			}
		})
	}
}

// The leader leaves a try without an answer, and rejects the next one once the
// statement is on the ledger by the other lane. How long the ledger is, it does
// not say, or names a size of before: it is no rejection for all that.
func TestCommittedIsNotRejected(t *testing.T) {
	for _, one := range []struct {
		name string
		size func(w http.ResponseWriter, before uint64)
	}{
		{"it names an old size", func(w http.ResponseWriter, before uint64) {
			_, _ = w.Write(binary.BigEndian.AppendUint64(nil, before))
		}},
		{"it names none", func(w http.ResponseWriter, _ uint64) { http.Error(w, "no", http.StatusInternalServerError) }},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			var watcher atomic.Pointer[replicatest.Node]
			var before atomic.Uint64
			c := &censor{author: "bob", spares: true}
			c.answer = func(w http.ResponseWriter, q *http.Request) {
				if c.seen.Load() == 1 {
					status(http.StatusGatewayTimeout, "{}")(w, q)
					return
				}
				for watcher.Load().Replica.Watched() > 0 && q.Context().Err() == nil {
					time.Sleep(5 * time.Millisecond)
				}
				status(http.StatusUnprocessableEntity, `{"verdicts":[{"code":3}]}`)(w, q)
			}
			cluster := replicatest.Start(t, 3, func(cfg *replica.Config) {
				name := cfg.Name
				cfg.Hooks = c.hooks(name)
				service := cfg.Hooks.Service
				cfg.Hooks.Service = func(inner http.Handler) http.Handler {
					inner = service(inner)
					return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
						if only := c.only.Load(); q.URL.Path == "/read" && only != nil && *only == name {
							one.size(w, before.Load())
							return
						}
						inner.ServeHTTP(w, q)
					})
				}
				cfg.Limits.CensorLimit = 2 * time.Second
				cfg.Limits.LeaderHold = 3 * time.Second
			})
			for tries := 1; ; tries++ {
				leader, follower := cluster.Leader(), cluster.Follower()
				watcher.Store(follower)
				before.Store(follower.Replica.Status().Applied)
				c.seen.Store(0)
				name := leader.Record.Name
				c.only.Store(&name)
				statement := cluster.Record(cluster.Council[1], "on the ledger")
				receipt, err := follower.Replica.Submit(cluster.Context(), [][]byte{statement}, replica.WaitCommitted)
				c.only.Store(nil)
				var rejected *replica.RejectedError
				if errors.As(err, &rejected) {
					t.Fatalf("answer %v for what is on the ledger", err)
				}
				if err == nil && receipt.Last > 0 && c.seen.Load() >= 2 {
					return
				}
				// On a busy machine the leader may fall, or the time be over.
				if t.Logf("try %d: %+v, %v; it was asked %d times", tries, receipt, err, c.seen.Load()); tries == 5 {
					t.Fatal("no receipt for what is on the ledger")
				}
			}
		})
	}
}

// What was withdrawn, since nobody was given it, is given to nobody any more.
func TestWithdrawnIsNotSent(t *testing.T) {
	c := replicatest.Start(t, 1, func(cfg *replica.Config) { cfg.Limits.CensorLimit = time.Hour })
	given, err := c.Leader().Replica.LookAfterWithdrawal(c.Context(), [][]byte{c.Record(c.Council[0], "withdrawn")})
	if err != nil || given {
		t.Errorf("given to the leader: %v, %v", given, err)
	}
}

// A client that still waits hears of it as soon as it is committed.
func TestWatchedIsAnsweredOnceCommitted(t *testing.T) {
	c := &censor{author: "bob", answer: status(http.StatusServiceUnavailable, "{}"), spares: true}
	cluster := replicatest.Start(t, 3, func(cfg *replica.Config) {
		cfg.Hooks = c.hooks(cfg.Name)
		cfg.Limits.CensorLimit = 2 * time.Second
		cfg.Limits.LeaderHold = replicatest.Patience
	})
	leader, follower := cluster.Leader(), cluster.Follower()
	name := leader.Record.Name
	c.only.Store(&name)
	receipt := cluster.Submit(follower, replica.WaitCertified, cluster.Record(cluster.Council[1], "by another lane"))
	if receipt.Level != replica.LevelCertified || c.seen.Load() == 0 {
		t.Errorf("receipt %+v; the leader turned %d away", receipt, c.seen.Load())
	}
}

// Without a leader nobody censors: then it is certain that nothing happened, and
// nothing is under watch any more.
func TestWithoutLeaderNothingIsUnderWatch(t *testing.T) {
	var away atomic.Pointer[string] // whose submissions reach nobody
	var tried atomic.Int64
	cluster := replicatest.Start(t, 3, func(cfg *replica.Config) {
		name := cfg.Name
		cfg.Limits.LeaderHold = time.Hour
		cfg.Limits.CensorLimit = time.Hour
		cfg.Hooks = &replica.Hooks{Requests: func(inner http.RoundTripper) http.RoundTripper {
			return roundTrip(func(q *http.Request) (*http.Response, error) {
				if one := away.Load(); one != nil && *one == name && q.URL.Path == "/submit" {
					tried.Add(1)
					return nil, &net.OpError{Op: "dial", Err: errors.New("nobody is there")}
				}
				return inner.RoundTrip(q)
			})
		}}
	})
	leader, follower := cluster.Leader(), cluster.Follower()
	name := follower.Record.Name
	away.Store(&name)
	statement := cluster.Record(cluster.Council[1], "to nobody")
	ctx, cancel := context.WithCancel(cluster.Context())
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := follower.Replica.Submit(ctx, [][]byte{statement}, replica.WaitCommitted)
		answer <- err
	}()
	follower.Await("it is under watch", func(replica.Status) bool { return tried.Load() > 0 && follower.Replica.Watched() == 1 })
	for _, n := range cluster.Nodes {
		if n != follower {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	follower.Await("it knows of no leader", func(s replica.Status) bool { return s.Leader == "" })
	cancel()
	if err := <-answer; !errors.Is(err, replica.ErrNoLeader) {
		t.Errorf("answer %v, want no leader", err)
	}
	if n := follower.Replica.Watched(); n != 0 {
		t.Errorf("%d submissions are under watch", n)
	}
	away.Store(nil)
	leader.Start()
	cluster.Submit(follower, replica.WaitCommitted, statement)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

// What is under watch is looked at again and again, and its signatures are
// verified once; what a peer passes on and the rules refuse costs no more than
// that peer's share.
func TestDryRunsVerifyOnce(t *testing.T) {
	var verified atomic.Int64
	c := replicatest.Start(t, 1, func(cfg *replica.Config) {
		cfg.Hooks = &replica.Hooks{Verify: func(_ *ledger.Statement, good bool) bool {
			verified.Add(1)
			return good
		}}
	})
	leader := c.Leader()
	good := [][]byte{c.Record(c.Council[0], "one"), c.Record(c.Council[1], "two")}
	verified.Store(0)
	if !leader.Replica.LookAt(good, 20) {
		t.Error("the rules refuse what they accept")
	}
	if n := verified.Load(); n != int64(len(good)) {
		t.Errorf("%d signatures were verified in 20 looks at %d statements", n, len(good))
	}
	bad := [][]byte{c.Record(c.Council[0], "signed wrongly")}
	bad[0][len(bad[0])-1] ^= 1
	verified.Store(0)
	const tries = 3_000
	for range tries {
		if leader.Replica.PassOn("r1", bad) == nil {
			t.Fatal("a statement that the rules refuse is under watch")
		}
	}
	if n := verified.Load(); n == 0 || n > tries/2 {
		t.Errorf("%d of %d statements that a peer passed on were verified", n, tries)
	}
}

// Where nobody may lie, of two or three, the leader alone may be there to vouch
// for an old step of Raft's configuration; it can bring in nobody that way.
func TestStepIsVouchedWithoutAll(t *testing.T) {
	var vouches atomic.Pointer[string]
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		cfg.Hooks = &replica.Hooks{Service: func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if lie := vouches.Load(); lie != nil && q.URL.Path == "/position" {
					_, _ = io.WriteString(w, *lie)
					return
				}
				inner.ServeHTTP(w, q)
			})
		}}
	})
	leader, follower := c.Leader(), c.Follower()
	c.Submit(follower, replica.WaitCertified, c.Record(c.Council[0], "before"))
	for _, n := range c.Nodes {
		if n != leader && n != follower {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	held := leader.Replica.HeldConfiguration(1)
	if !follower.Replica.StepVouched(c.Context(), 1, held) {
		t.Error("the leader's word does not do, and there is nobody else")
	}
	strange := held.Clone()
	strange.Servers = append(strange.Servers, raft.Server{ID: raft.ServerID(c.Hash.String()), Address: "127.0.0.1:9"})
	if follower.Replica.StepVouched(c.Context(), 1, strange) {
		t.Error("vouched for what nobody holds")
	}
	said, err := json.Marshal(map[string]any{"configuration": ledger.Hash(sha256.Sum256(raft.EncodeConfiguration(strange)))})
	if err != nil {
		t.Fatal(err)
	}
	lie := string(said)
	vouches.Store(&lie)
	if follower.Replica.StepVouched(c.Context(), 1, strange) {
		t.Error("one alone brings in a stranger")
	}
}
