package replica_test

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
	"sync/atomic"
	"syscall"
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

// A leader whose Raft log refuses writes acknowledges nothing and hands on;
// reads go on, and what was acknowledged before and after stays.
func TestDiskFull(t *testing.T) {
	full := map[string]*atomic.Bool{}
	c := replicatest.Start(t, 3, nil)
	for _, n := range c.Nodes {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		broken := &atomic.Bool{}
		full[n.Record.Name] = broken
		n.Prepare = func(r *replica.Replica) {
			r.BreakLog(func() error {
				if broken.Load() {
					return syscall.ENOSPC
				}
				return nil
			})
		}
		n.Start()
	}
	leader := c.Leader()
	before := c.Submit(leader, replica.WaitCertified, c.Record(c.Council[0], "before"))
	full[leader.Record.Name].Store(true)
	// A seal may hit the full disk first: then another leads already, and the
	// statement is brought there.
	acks := map[ledger.Hash]uint64{}
	receipt, err := leader.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[0], "refused, or elsewhere")}, replica.WaitCommitted)
	if err == nil {
		acks[receipt.Verdicts[0].ID] = receipt.Last
	} else if !errors.Is(err, replica.ErrDiskFull) {
		t.Fatalf("got %v", err)
	}
	leader.Await("it no longer leads", func(s replica.Status) bool { return s.Role != replica.RoleLeader && s.Leader != "" })
	if view, err := leader.Replica.View(c.Context(), replica.Certified); err != nil || view.Size <= before.Last {
		t.Fatalf("reads do not go on: %v", err)
	}
	alarm, status := false, leader.Replica.Status()
	if status.Ready {
		t.Error("a replica whose disk failed calls itself ready")
	}
	for _, a := range status.Alarms {
		alarm = alarm || a.Code == "disk_full"
	}
	if !alarm {
		t.Fatal("no alarm")
	}
	after := c.Submit(c.Leader(), replica.WaitCommitted, c.Record(c.Council[0], "after"))
	full[leader.Record.Name].Store(false)
	if err := leader.Replica.WaitApplied(c.Context(), after.Last); err != nil {
		t.Fatal(err)
	}
	leader.Await("the alarm is over", func(s replica.Status) bool { return len(s.Alarms) == 0 && s.Ready })
	sameDigest(t, c)
	for _, n := range c.Nodes {
		holds(t, n, acks)
	}
}

func TestSingleReplica(t *testing.T) {
	c := replicatest.Start(t, 1, nil)
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "alone"))
	if err := c.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	c.Nodes[0].Start()
	sameDigest(t, c)
}

// A pending log key takes over when the decision that names it is executed,
// and the other replicas fetch it.
func TestLogRekey(t *testing.T) {
	c := replicatest.Start(t, 3, nil)
	n := c.Follower()
	fresh, err := n.Replica.NewLogKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.Replica.NewLogKey(); err != nil || !reflect.DeepEqual(again, fresh) {
		t.Fatalf("asked again, it makes another while one is pending: %v", err)
	}
	c.Decide(c.Leader(), "log.rekey", fresh)
	want := ledger.LogVKey(c.Genesis.Origin, fresh)
	for _, n := range c.Nodes {
		n.Await("its checkpoint bears the new log key's lines", func(replica.Status) bool {
			note, _ := n.Replica.Checkpoint()
			checkpoint, err := ledger.ParseCheckpoint(note)
			if err != nil || len(checkpoint.LogLines) != 4 { // beside the former one's
				return false
			}
			view, err := n.Replica.View(c.Context(), replica.Certified)
			return err == nil && ledger.LogVKey(c.Genesis.Origin, view.State.Log()) == want
		})
		walk(t, c, n)
	}
}

// Strangers who connect and say nothing neither hold up a replica's handshake
// nor take the places of its connections.
func TestSilentStrangersHoldNobodyUp(t *testing.T) {
	c := replicatest.Start(t, 3, func(cfg *replica.Config) {
		cfg.Limits.HandshakeLimit = replicatest.Patience
		cfg.Limits.PeerConns = 40
	})
	n := c.Follower()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	n.Start()
	for range 200 {
		conn, err := net.Dial("tcp", n.Record.Peer)
		for ; err != nil; conn, err = net.Dial("tcp", n.Record.Peer) {
			select {
			case <-time.After(time.Millisecond): // it does not listen yet
			case <-c.Context().Done():
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	n.Await("it hears of a leader", func(s replica.Status) bool { return s.Ready })
	c.Submit(c.Leader(), replica.WaitCertified, c.Record(c.Council[0], "in spite of them"))
	sameDigest(t, c)
}
