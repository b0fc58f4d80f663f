package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// censor makes a replica leave an author's forwarded statements unanswered while
// on holds; so do all, if everybody is to be able to lead and to censor.
type censor struct {
	author string
	only   atomic.Pointer[string] // the replica that censors
	seen   atomic.Int64
	answer func(w http.ResponseWriter, q *http.Request) // how
	spares bool                                         // what comes by the lane for what has waited
}

func (c *censor) hooks(name string) *replica.Hooks {
	return &replica.Hooks{Service: func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if only := c.only.Load(); q.URL.Path != "/submit" || only == nil || *only != name || c.spares && q.URL.RawQuery != "" {
				inner.ServeHTTP(w, q)
				return
			}
			body, err := io.ReadAll(q.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if bytes.Contains(body, []byte(`"author":"`+c.author+`"`)) {
				c.seen.Add(1)
				c.answer(w, q)
				return
			}
			q.Body = io.NopCloser(bytes.NewReader(body))
			inner.ServeHTTP(w, q)
		})
	}}
}

func silently(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }

func status(code int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func censored(t *testing.T, c *censor, limit time.Duration) *replicatest.Cluster {
	t.Helper()
	cluster := replicatest.Start(t, 4, func(cfg *replica.Config) {
		cfg.Hooks = c.hooks(cfg.Name)
		cfg.Limits.CensorLimit = limit
	})
	cluster.Lies = true
	return cluster
}

func refusals(s replica.Status, rule string) (n uint64) {
	for _, one := range s.Refusals {
		if one.Rule == rule {
			n += one.Count
		}
	}
	return n
}

// A leader that suppresses one author's statements is replaced, and the
// statement gets committed, whatever it answers, and whether others have
// anything to say or not.
func TestCensorIsReplaced(t *testing.T) {
	for _, one := range []struct {
		name    string
		answer  func(http.ResponseWriter, *http.Request)
		traffic bool
	}{
		{"it says nothing", silently, true},
		{"it says that the outcome is unknown", status(http.StatusGatewayTimeout, "{}"), false},
		{"it says that it is busy", status(http.StatusTooManyRequests, "{}"), true},
		{"it says that the rules reject it", status(http.StatusUnprocessableEntity, `{"verdicts":[{"code":3}]}`), true},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			c := &censor{author: "bob", answer: one.answer}
			cluster := censored(t, c, time.Second)
			// On a busy machine a leader may fall by itself before anybody accuses it:
			// then the next one censors.
			for tries := 1; ; tries++ {
				accusers := suppressed(t, cluster, c, fmt.Sprint("what the leader does not like ", tries), one.traffic)
				if accusers >= 2 && c.seen.Load() > 0 {
					return
				}
				if t.Logf("%d replicas refused the censor, want a majority of the others", accusers); tries == 5 {
					t.Fatalf("no censor was refused; they dropped %d", c.seen.Load())
				}
			}
		})
	}
}

// suppressed has the leader censor a statement until another leads and it is on
// the ledger, and gives how many refused the censor.
func suppressed(t *testing.T, cluster *replicatest.Cluster, c *censor, text string, traffic bool) (accusers int) {
	t.Helper()
	c.only.Store(nil)
	leader := cluster.Leader()
	follower := cluster.Follower()
	cluster.Submit(follower, replica.WaitCertified, cluster.Record(cluster.Council[1], "while it is honest, before "+text))
	before := map[*replicatest.Node]uint64{}
	for _, n := range cluster.Nodes {
		before[n] = refusals(n.Replica.Status(), "censor")
	}
	refuses := func(n *replicatest.Node) bool { return refusals(n.Replica.Status(), "censor") > before[n] }
	name := leader.Record.Name
	c.only.Store(&name)
	statement := cluster.Record(cluster.Council[1], text)
	st, err := ledger.ParseStatement(statement)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var busy *replica.BusyError
		for {
			_, err := follower.Replica.Submit(cluster.Context(), [][]byte{statement}, replica.WaitCommitted)
			if !errors.As(err, &busy) {
				return
			}
			time.Sleep(100 * time.Millisecond) // as a client does that is told so
		}
	}()
	begin := time.Now()
	for traffic && !refuses(follower) && follower.Replica.Status().Leader == name && time.Since(begin) < replicatest.Patience {
		cluster.Submit(follower, replica.WaitCommitted, cluster.Record(cluster.Council[0], "of others"))
		time.Sleep(50 * time.Millisecond) // the pace of the traffic
	}
	follower.Await("another leads", func(s replica.Status) bool { return s.Leader != "" && s.Leader != name })
	<-done
	deadline := time.Now().Add(replicatest.Patience)
	for !holdsStatement(t, follower, st.ID) {
		if time.Now().After(deadline) {
			t.Fatal("the statement is not on the ledger")
		}
		<-follower.Replica.Changed()
	}
	for _, n := range cluster.Nodes {
		if refuses(n) {
			accusers++
		}
	}
	t.Logf("replaced and committed after %s; %d replicas refused it", time.Since(begin).Round(10*time.Millisecond), accusers)
	return accusers
}

func holdsStatement(t *testing.T, n *replicatest.Node, id ledger.Hash) bool {
	t.Helper()
	found := false
	a := n.Replica.Archive()
	err := a.Entries(0, a.Size(), func(_ uint64, raw []byte) error {
		entry, err := ledger.ParseEntry(raw)
		if err != nil {
			return err
		}
		if entry.Kind == ledger.KindStatement {
			if st, err := ledger.ParseStatement(entry.Content); err == nil && st.ID == id {
				found = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Nobody is refused for overload, for a rejection that is right, for want of a
// quorum, or because one replica alone complains.
func TestHonestLeaderIsNoCensor(t *testing.T) {
	t.Run("overload", func(t *testing.T) {
		t.Parallel()
		c := &censor{author: "bob", answer: status(http.StatusTooManyRequests, "{}"), spares: true}
		cluster := censored(t, c, 1500*time.Millisecond)
		leader, follower := cluster.Leader(), cluster.Follower()
		name := leader.Record.Name
		c.only.Store(&name)
		end := time.Now().Add(replicatest.Patience)
		var busy *replica.BusyError
		statement := cluster.Record(cluster.Council[1], "too much")
		st, err := ledger.ParseStatement(statement)
		if err != nil {
			t.Fatal(err)
		}
		// Whoever asks again and again gets it in: the lane for what has waited is
		// not full.
		for !holdsStatement(t, follower, st.ID) {
			_, err := follower.Replica.Submit(cluster.Context(), [][]byte{statement}, replica.WaitCommitted)
			if err != nil && !errors.As(err, &busy) || time.Now().After(end) {
				t.Fatalf("answer %v", err)
			}
			cluster.Submit(follower, replica.WaitCommitted, cluster.Record(cluster.Council[0], "of others"))
			time.Sleep(50 * time.Millisecond)
		}
		for _, n := range cluster.Nodes {
			if count := refusals(n.Replica.Status(), "censor"); count > 0 {
				t.Errorf("%s refused a busy leader %d times", n.Record.Name, count)
			}
		}
		if c.seen.Load() == 0 {
			t.Error("the leader was never busy")
		}
	})
	t.Run("rejections and a lost quorum", func(t *testing.T) {
		t.Parallel()
		cluster := replicatest.Start(t, 3, func(cfg *replica.Config) {
			// Enough for a busy machine to commit in; what is submitted without a
			// quorum waits for longer than a leader may commit nothing at all.
			cfg.Limits.CensorLimit = 1500 * time.Millisecond
			cfg.Limits.LeaderHold = 7 * time.Second
		})
		cluster.Leader()
		follower := cluster.Follower()
		var rejected *replica.RejectedError
		bad := cluster.Record(replicatest.Principal{Name: "alice", Operator: "op-a", Key: cluster.Council[1].Key}, "of another's key")
		for range 5 {
			if _, err := follower.Replica.Submit(cluster.Context(), [][]byte{bad}, replica.WaitCommitted); !errors.As(err, &rejected) {
				t.Fatalf("answer %v", err)
			}
		}
		for _, n := range cluster.Nodes {
			if n != follower {
				if err := n.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		good := cluster.Record(cluster.Council[0], "to nobody")
		if _, err := follower.Replica.Submit(cluster.Context(), [][]byte{good}, replica.WaitCommitted); err == nil {
			t.Fatal("committed without a quorum")
		}
		for _, n := range cluster.Nodes {
			if !n.Running() {
				n.Start()
			}
		}
		cluster.Submit(follower, replica.WaitCertified, cluster.Record(cluster.Council[0], "again"))
		// Cluster.Close fails the test if one refused another.
	})
}
