package replica_test

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

func TestQueueFull(t *testing.T) {
	c := replicatest.Start(t, 3, func(cfg *replica.Config) { cfg.Limits.PendingBytes = 1 })
	_, err := c.Leader().Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "too much")}, replica.WaitCommitted)
	var busy *replica.BusyError
	if !errors.As(err, &busy) || busy.RetryAfter <= 0 {
		t.Fatalf("got %v", err)
	}
}

func TestRejections(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader, follower := c.Leader(), c.Follower()
	good := c.Record(c.Council[0], "once")
	first := c.Submit(leader, replica.WaitCommitted, good)
	again := c.Submit(follower, replica.WaitCommitted, good)
	if !again.Verdicts[0].Duplicate || again.Last != first.Last {
		t.Fatalf("the same bytes again gave %+v, first %+v", again, first)
	}
	forged := append([]byte(nil), c.Record(c.Council[0], "forged")...)
	forged[len(forged)-1] ^= 1
	stranger := replicatest.Principal{Name: "mallory", Operator: "op-a", Key: replicatest.Key(t)}
	for _, n := range []*replicatest.Node{leader, follower} {
		for _, one := range []struct {
			envelope []byte
			code     fsm.Code
		}{{forged, fsm.BadSignature}, {c.Record(stranger, "hello"), fsm.UnknownAuthor}, {[]byte("not cose"), fsm.NotCOSE}} {
			_, err := n.Replica.Submit(c.Context(), [][]byte{one.envelope}, replica.WaitCommitted)
			var rejected *replica.RejectedError
			if !errors.As(err, &rejected) || rejected.Verdicts[0].Code != one.code {
				t.Errorf("%s: got %v, want %s", n.Record.Name, err, one.code)
			}
		}
	}
}

func TestLinearizableRead(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader, follower := c.Leader(), c.Follower()
	for range 10 {
		receipt := c.Submit(leader, replica.WaitCommitted, c.Record(c.Council[0], "x"))
		for _, n := range []*replicatest.Node{follower, leader} {
			view, err := n.Replica.View(c.Context(), replica.Linearizable)
			if err != nil {
				t.Fatal(err)
			}
			if view.Size <= receipt.Last {
				t.Fatalf("%s: read at size %d after entry %d was acknowledged", n.Record.Name, view.Size, receipt.Last)
			}
		}
	}
}

func TestTransferLeadership(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader, follower := c.Leader(), c.Follower()
	if err := leader.Replica.TransferLeadership(c.Context(), follower.Record.Name); err != nil {
		t.Fatal(err)
	}
	follower.Await("it leads", func(s replica.Status) bool { return s.Role == replica.RoleLeader })
	sameDigest(t, c)
}

// Without a quorum nothing is acknowledged, and the certified state is still
// read.
func TestNoQuorum(t *testing.T) {
	c := replicatest.Start(t, 3, func(cfg *replica.Config) { cfg.Limits.LeaderHold = 2 * time.Second })
	leader := c.Leader()
	c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
	for _, n := range c.Nodes {
		if n != leader {
			if err := n.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "lost")}, replica.WaitCommitted)
	if !errors.Is(err, replica.ErrNoLeader) && !errors.Is(err, replica.ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
	if _, err := leader.Replica.View(c.Context(), replica.Linearizable); !errors.Is(err, replica.ErrNoLeader) {
		t.Fatalf("linearizable read without quorum: %v", err)
	}
	if _, err := leader.Replica.View(c.Context(), replica.Certified); err != nil {
		t.Fatal(err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader := c.Leader()
	for _, protocol := range []string{"quorate-raft/1", "http/1.1"} {
		for name, certificates := range map[string][]tls.Certificate{
			"unpinned": {replicatest.Certificate(t, "r1")}, "none": nil,
		} {
			raw, err := net.Dial("tcp", leader.Record.Peer)
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, Certificates: certificates, NextProtos: []string{protocol}})
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			// In TLS 1.3 the client's side of the handshake may end before the
			// server refuses: reading shows it.
			err = conn.Handshake()
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			_ = conn.Close()
			var netErr net.Error
			if err == nil || errors.As(err, &netErr) && netErr.Timeout() {
				t.Errorf("%s over %s: not refused: %v", name, protocol, err)
			}
		}
	}
}

// A bundle with one bad statement leaves nothing on the ledger.
func TestBundleIsWholeOrNothing(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	leader := c.Leader()
	before := leader.Replica.Status().Applied
	bad := append([]byte(nil), c.Record(c.Council[1], "bad")...)
	bad[len(bad)-1] ^= 1
	_, err := leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "good"), bad}, replica.WaitCommitted)
	var rejected *replica.RejectedError
	if !errors.As(err, &rejected) || len(rejected.Verdicts) != 2 || rejected.Verdicts[0].Code != fsm.BundleRejected {
		t.Fatalf("got %v", err)
	}
	view, err := leader.Replica.View(c.Context(), replica.Linearizable)
	if err != nil {
		t.Fatal(err)
	}
	for seq := before; seq < view.Size; seq++ {
		raw, err := leader.Replica.Archive().Entry(seq)
		if err != nil {
			t.Fatal(err)
		}
		if entry, err := ledger.ParseEntry(raw); err != nil || entry.Kind == ledger.KindStatement {
			t.Fatalf("entry %d: kind %v, %v", seq, entry.Kind, err)
		}
	}
}
