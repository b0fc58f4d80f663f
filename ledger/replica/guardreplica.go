package replica

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// newReplicaGuard puts this replica's rules together, the cheap ones first; the
// term counts what it lets pass, so it comes last.
func (r *Replica) newReplicaGuard(ctx context.Context, conns *handoff) *guard {
	conns.addr = peerAddr(r.serverAddress())
	config := &raft.NetworkTransportConfig{
		Stream:  &streams{handoff: newHandoff(conns.addr), wire: r.wire, ctx: ctx},
		MaxPool: 3, Timeout: r.limits.PeerTimeout,
		MaxRPCsInFlight: 1, // a stalled follower can wedge a pipeline, which is also slower
		Logger:          r.raftLogger("transport"),
	}
	t := newTerms(r.now, r.founding.Created, termRefill*r.cfg.Raft.Election, r.raftTerm)
	g := newGuard(config, conns, r.pins.pinnedPeers, r.refused,
		refuseWhen("halted", r.halted),
		refuseMalformed(),
		refuseSender(r.pins, r.doubtPins),
		refuseTransfers(&r.handovers, r.raftLeader),
		refuseOverwrites(r.raftCommitted, r.store.GetLog),
		refuseStampsAhead(r.now, func() uint64 { return r.shell.now.Load().state.Policy().MaxSkewMillis }),
		refuseVotes(func() error { return r.watchdog.stalled() }),
		refuseTerms(t))
	g.answers = func(to raft.ServerID, _, term uint64) error {
		err := t.allow(to, term, true)
		if err != nil {
			name := ""
			if p := r.pins.now.Load().byServer(to); p != nil {
				name = p.Name
			}
			r.refused("term", name, err)
		}
		return err
	}
	g.handing = func(to raft.ServerID) { r.sayHanding(ctx, to) }
	return g
}

func (r *Replica) raftTerm() uint64 {
	if node := r.node.Load(); node != nil {
		return node.CurrentTerm()
	}
	return 0
}

func (r *Replica) raftLeader() raft.ServerID {
	if node := r.node.Load(); node != nil {
		_, id := node.LeaderWithID()
		return id
	}
	return ""
}

// doubtPins has the replica set asked for: a peer acts in a role that the
// ledger, as far as it is known here, does not give it. It may have come by it
// since.
func (r *Replica) doubtPins() {
	select {
	case r.doubts <- struct{}{}:
	default:
	}
}

// handingMessage says to whom a leader hands on.
type handingMessage struct {
	To ledger.Hash `json:"to"`
}

// sayHanding tells the others that this leader hands on, before its successor
// asks for their votes. Whoever does not hear it does not vote past us.
func (r *Replica) sayHanding(ctx context.Context, to raft.ServerID) {
	id, err := ledger.ParseHash(string(to))
	if err != nil {
		return
	}
	r.handovers.say(raft.ServerID(r.id.String()), to)
	body, err := json.Marshal(handingMessage{id})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handingWait)
	defer cancel()
	var wg sync.WaitGroup
	for _, one := range r.peers.others() {
		if one.id == id || !r.pins.mayVote(one.id) {
			continue
		}
		wg.Go(func() { _, _ = r.peers.do(ctx, one, http.MethodPost, pathHanding, body, maxPeerNotes) })
	}
	wg.Wait()
}

func (r *Replica) serveHanding(_ http.ResponseWriter, q *http.Request, from *peer) error {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxPeerNotes))
	if err != nil {
		return err
	}
	var said handingMessage
	if err := json.Unmarshal(body, &said); err != nil {
		return err
	}
	if r.raftLeader() != from.serverID() {
		return errors.New("you do not lead")
	}
	r.handovers.say(from.serverID(), raft.ServerID(said.To.String()))
	return nil
}

// pauseOrDoubt waits, but no longer than until the pins are in doubt; it says
// which, and whether ctx is still alive.
func (r *Replica) pauseOrDoubt(ctx context.Context, d time.Duration) (doubted, alive bool) {
	if !pause(ctx, min(d, doubtPause)) { // so often at most
		return false, false
	}
	timer := time.NewTimer(max(0, d-doubtPause))
	defer timer.Stop()
	select {
	case <-r.doubts:
		return true, true
	case <-timer.C:
		return false, true
	case <-ctx.Done():
		return false, false
	}
}
