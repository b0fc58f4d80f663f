package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// node is one replica: its identity, its disk, and the process that runs, if
// one does.
type node struct {
	world *world
	*identity
	clock atomic.Int64 // milliseconds that its clock is off
	dir   string       // of the newest process
	disk  *disk

	messages  *messages
	starts    int
	station   string                  // its name on the network
	lost      atomic.Bool             // its disk is gone: nobody starts it again
	published uint64                  // newest certified head that it showed; with the lock of checks
	left      atomic.Bool             // a recovery went on without it
	process   atomic.Pointer[process] // nil while it is down
	minority  atomic.Int64            // number of the partition that left it without a quorum; 0 for none
	crashes   int
	hooks     func(*replica.Hooks) // what a planted bug or a liar changes
}

// process is one start of a replica.
type process struct {
	node    *node
	host    *host
	replica *replica.Replica
	cancel  context.CancelCauseFunc
	done    chan error
	dead    atomic.Bool   // crashed or stopped: what it still answers does not count
	ended   chan struct{} // closed with dead
	scanned uint64        // the driver only
}

func (n *node) name() string { return n.record.Name }

// store is which log store the replica has, for good.
func (n *node) store() string {
	if n.world.plan.LogStore != "" {
		return n.world.plan.LogStore
	}
	if mix(n.world.plan.Seed, n.name(), "store", uint64(n.identity.generation))%3 == 0 {
		return replica.LogStoreWAL
	}
	return replica.LogStoreBolt
}

func (n *node) running() *process { return n.process.Load() }

// now is the node's wall clock.
func (n *node) now() uint64 { return uint64(time.Now().UnixMilli() + n.clock.Load()) }

func (n *node) config(h *host) replica.Config {
	cfg := replica.Config{
		Dir: n.dir, Name: n.name(), Genesis: n.world.entry, Key: n.key, Certificate: n.certificate,
		LogKey: n.world.logKey, LogStore: n.store(), Listen: n.record.Peer, Network: h,
		Raft: replica.RaftTuning{
			Heartbeat: heartbeat, Election: election, LeaderLease: heartbeat / 2, Commit: commitEvery,
			NoSync: true, SnapshotInterval: snapshotEvery, SnapshotThreshold: 64, TrailingLogs: 64, WALSegmentBytes: segmentBytes,
		},
		Limits: replica.Limits{
			LeaderHold: leaderHold, Recosign: recosign, TickCheck: tickCheck, CertifyPull: pullEvery, Membership: membership, ScrubInterval: scrubEvery,
		},
		Hooks: &replica.Hooks{Clock: n.now, Archive: n.disk, Log: n.disk.log, LogFiles: n.disk.logFiles, Transport: n.messages.wrap,
			Apply: n.world.checks.observe(n), Signed: func(head ledger.Head) { n.world.checks.signed(n, head) }},
	}
	for _, other := range n.world.present() {
		cfg.Seeds = append(cfg.Seeds, other.record.Peer)
	}
	if n.identity.generation > 0 {
		cfg.LogKey = nil // whoever comes later gets it from the others
	}
	if n.world.bend != nil {
		n.world.bend(n, cfg.Hooks)
	}
	if n.world.logger != nil {
		cfg.Logger = n.world.logger
	}
	if n.hooks != nil {
		n.hooks(cfg.Hooks)
	}
	return cfg
}

// start opens and runs the replica on its disk.
func (n *node) start() error {
	n.starts++
	if n.dir == "" {
		n.dir = filepath.Join(n.world.dir, fmt.Sprintf("%s.%d-%d", n.name(), n.identity.generation, n.starts))
	}
	n.disk = newDisk(n.dir)
	n.disk.careless = n.world.careless
	n.disk.configured = func(index, term uint64, servers []raft.Server) { n.world.checks.configured(n, index, term, servers) }
	h := n.world.network.host(n.station, n.record.Peer)
	r, err := replica.Open(n.config(h))
	if err != nil {
		h.unplug()
		return fmt.Errorf("open %s: %w", n.name(), err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &process{node: n, host: h, replica: r, cancel: cancel, done: make(chan error, 1), ended: make(chan struct{})}
	go func() { p.done <- r.Run(ctx) }()
	n.process.Store(p)
	n.world.watch(p)
	return nil
}

// stop ends the process gracefully and gives what Run returned.
func (n *node) stop() error {
	p := n.running()
	if p == nil {
		return nil
	}
	n.process.Store(nil)
	n.disk.resume()
	select {
	case err := <-p.done: // a failing disk ends a replica; it says so in its own way
		n.world.note("%s had ended with %v", n.name(), err)
		p.bury()
		return nil
	default:
	}
	p.cancel(context.Canceled)
	err := p.wait()
	p.bury()
	return err
}

func (p *process) wait() error {
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case err := <-p.done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s does not stop within %s", p.node.name(), stopLimit)
	}
}

// bury makes the process unheard of.
func (p *process) bury() {
	p.dead.Store(true)
	close(p.ended)
	p.host.unplug()
}

// crash ends the process at this instant. What it has said may still arrive, what
// it does from now on has no effect: its network is gone, and the disk that the
// next start finds is a copy made while everything stood still.
func (n *node) crash() error {
	p := n.running()
	if p == nil {
		return nil
	}
	synctest.Wait()
	n.crashes++
	next := filepath.Join(n.world.dir, fmt.Sprintf("%s.%d-%d", n.name(), n.identity.generation, n.starts+1))
	if err := n.disk.crash(next, chanceFor(n.world.plan.Seed, fmt.Sprint("crash ", n.name(), n.crashes))); err != nil {
		return fmt.Errorf("crash %s: %w", n.name(), err)
	}
	p.bury()
	n.process.Store(nil)
	n.disk.resume()
	p.cancel(replica.ErrAbrupt)
	old := n.dir
	n.dir = next
	n.world.buried.Go(func() {
		if err := <-p.done; err != nil {
			n.world.note("%s ended with %v", n.name(), err)
		}
		_ = os.RemoveAll(old)
	})
	return nil
}
