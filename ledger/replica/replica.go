package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// Replica is one replica of one ledger. Its methods may be called from any
// goroutine, before, during and after Run.
type Replica struct {
	cfg      Config
	limits   Limits
	log      *slog.Logger
	genesis  ledger.Hash
	origin   string
	founding *ledger.Genesis
	kept     *foundersRecord      // the file peers; with certifier.publishing
	id       ledger.Hash          // its server (seats.go)
	ring     atomic.Pointer[ring] // its keys
	doubtful atomic.Bool          // whether the ring on the disk may be another: a write of it failed
	closed   bool                 // whether the store is
	swept    bool                 // whether sweepKeys is done; the rotation's loop alone asks

	files     files
	seqMu     sync.Mutex // over the file seq, of which the join loop and the rotation take
	lock      io.Closer  // of the data directory
	archive   *archive.Archive
	shell     *shell
	certifier *certifier
	cosigner  *cosigner
	pins      *pins
	wire      *wire
	peers     *peers
	store     *summedLog
	watchdog  *watchdog
	patience  *patience
	metrics   *metrics

	changed     broadcast // applied or certified size, leadership, alarms
	pinsChanged broadcast
	headSize    atomic.Uint64 // of the durable signed head

	node       atomic.Pointer[raft.Raft] // nil until it may vote
	snapshots  atomic.Pointer[raft.FileSnapshotStore]
	leading    atomic.Pointer[leadership]
	caughtUp   atomic.Bool
	stopping   atomic.Bool
	running    atomic.Bool
	abandoned  atomic.Bool // the disk hung while this replica stopped
	logFailure logFailure
	damages    damages
	haltedBy   atomic.Pointer[HaltedError]
	haltCh     chan struct{}
	stepDown   chan struct{} // capacity 1

	admission  *admission
	futures    futures
	logKey     atomic.Pointer[LogKey]
	formerLog  atomic.Pointer[formerLog] // nil: none, or its time is over
	pendingLog sync.Mutex                // the file of the pending log key
	signers    signerCache

	refusals  refusals
	forks     forks
	handovers handovers
	doubts    chan struct{} // capacity 1: a peer's role is in doubt
	censors   *censorship
	elections *elections
	followed  leaders

	generation atomic.Uint64 // of what is proven here; Raft speaks with no other
	recovered  *recovered    // the recovery that made this replica a member, nil without
	hasLog     bool          // Raft had a state when this replica was opened

	alarmMu sync.Mutex
	alarms  map[string]Alarm
	disk    map[string]error
}

// ErrAbrupt, as the cause of Run's context, stops a replica without grace: no
// leadership transfer. Nothing acknowledged depends on grace.
var ErrAbrupt = errors.New("stop without grace")

// Open reads and checks everything on disk. It starts no goroutine of its own;
// a replica that is not run must be closed.
func Open(cfg Config) (r *Replica, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	founding, genesis, err := ledger.ParseGenesis(cfg.Genesis)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	first, err := newIdentity(cfg.Key, cfg.Certificate)
	if err != nil {
		return nil, err
	}
	r = &Replica{
		cfg: cfg, limits: cfg.Limits, genesis: genesis, origin: founding.Origin, founding: founding,
		id: first.id, pins: newPins(founding, cfg.Limits.Linger),
		haltCh: make(chan struct{}), stepDown: make(chan struct{}, 1), doubts: make(chan struct{}, 1),
		alarms: map[string]Alarm{}, disk: map[string]error{}, futures: newFutures(),
		watchdog: newWatchdog(cfg.Limits.DiskStall), patience: newPatience(cfg.Raft.Election), logFailure: logFailure{happened: make(chan struct{})},
		damages: damages{found: map[uint64]*archive.DamageError{}, wake: make(chan struct{}, 1)},
	}
	r.files = files{cfg.Dir, r.watchdog}
	r.ring.Store(newLine(first)) // until it is read, under the lock
	r.pins.pinLinger = cfg.Limits.PinLinger
	r.log = cfg.Logger.With("replica", cfg.Name)
	if r.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	r.admission = newAdmission(cfg.Limits)
	r.censors = newCensorship(cfg.Limits.CensorLimit, censorBan*cfg.Raft.Election)
	r.elections = newElections(r)
	r.followed.patience = cfg.Raft.Heartbeat
	r.wire = newWire(&r.cfg, r.pins, r.ring.Load(), r.metrics.strangers.Inc)
	r.wire.generation = r.generation.Load
	r.wire.unsure = func() bool { return !r.caughtUp.Load() || r.outOfTouch() }
	r.peers = newPeers(r)
	defer func() {
		if err != nil {
			_ = r.Close()
			r = nil
		}
	}()
	return r, r.open()
}

func (r *Replica) open() error {
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	var err error
	if r.lock, err = r.files.lock(); err != nil {
		return fmt.Errorf("open replica: %w", err)
	}
	if err := r.openRecovered(); err != nil {
		return err
	}
	if err := r.files.makeDirs(); err != nil {
		return err
	}
	if err := r.openRing(); err != nil {
		return fmt.Errorf("open replica: %w", err)
	}
	if err := r.checkLines(); err != nil {
		return err
	}
	var halt haltedRecord
	if was, err := r.files.readChecked(haltedFile, &halt); err != nil {
		return err
	} else if was {
		r.halt(halt.Reason)
	}
	if err := r.loadForks(); err != nil {
		return err
	}
	if r.archive, err = archive.Open(filepath.Join(r.cfg.Dir, archiveDir), archive.Options{FS: &timedFS{r.cfg.Hooks.archive(), r.watchdog}, Damaged: r.damages.note}); err != nil {
		return err
	}
	if err := r.foundHistory(); err != nil {
		return err
	}
	if err := r.openCertified(); err != nil {
		return err
	}
	if err := r.openShell(); err != nil {
		return err
	}
	if r.cosigner, err = newCosigner(r); err != nil {
		return err
	}
	if err := r.openLogKey(); err != nil {
		return err
	}
	if err := r.loadHandovers(); err != nil {
		return err
	}
	if r.store, err = openLogStore(&r.cfg, r.log); err != nil {
		return err
	}
	last, err := r.store.LastIndex()
	r.hasLog = last > 0 || newestSnapshot(r.cfg.Dir) > 0
	return err
}

// foundHistory makes sure that entry 0 is our genesis.
func (r *Replica) foundHistory() error {
	if _, _, gap := r.archive.Gap(); gap && r.archive.Whole() == 0 {
		return errors.New("open replica: the history lacks its genesis")
	}
	var damage *archive.DamageError
	if err := r.archive.Append(0, r.cfg.Genesis); errors.As(err, &damage) {
		return nil // the tree's root tells, and the repair sees to it
	} else if err != nil {
		return fmt.Errorf("open replica: the history on disk is of another ledger: %w", err)
	}
	_, err := r.archive.Sync()
	return err
}

func (r *Replica) openShell() error {
	founded, err := fsm.New(r.cfg.Genesis)
	if err != nil {
		return fmt.Errorf("open replica: %w", err)
	}
	r.shell = newShell(founded, r.cfg.Genesis, r.origin, r.genesis, r.archive, newVerifier(r.limits), r.limits)
	r.shell.test, r.shell.verifier.test = r.cfg.Hooks, r.cfg.Hooks
	r.shell.hooks = shellHooks{
		halt: r.halt, halted: r.halted,
		diskFail: func(err error) { r.diskFailed(diskArchive, err) },
		applied:  r.onApplied, restored: r.adoptProven, links: r.links,
		counted: r.metrics.applied,
	}
	if now := r.certifier.now.Load(); now != nil {
		return r.shell.certify(now.checkpoint.Head, now.note)
	}
	return nil
}

// openCertified reads the authority chain and the newest certified checkpoint,
// so that the certified log is served at once.
func (r *Replica) openCertified() error {
	links := []*ledger.Link{{Genesis: r.cfg.Genesis}}
	chain, err := ledger.NewChain(r.genesis, links[0])
	if err != nil {
		return fmt.Errorf("open replica: %w", err)
	}
	for n := uint64(1); ; n++ {
		b, err := r.files.read(linkName(n))
		if err != nil {
			return err
		}
		if b == nil {
			break
		}
		link, err := ledger.ParseLink(b)
		if err == nil {
			err = chain.Extend(link)
		}
		if err != nil {
			return &FileError{File: linkName(n), Reason: err.Error()}
		}
	}
	r.reachGeneration(chain.Latest.Generation)
	if err := r.settleFounders(chain.Latest); err != nil {
		return err
	}
	r.certifier = newCertifier(r, chain)
	note, err := r.files.read(certifiedFile)
	if note == nil || err != nil {
		return err
	}
	checkpoint, err := chain.VerifyCheckpoint(note)
	if err != nil {
		return &FileError{File: certifiedFile, Reason: err.Error()}
	}
	head := checkpoint.Head
	if root, err := r.archive.TreeHash(head.Size); err == nil && ledger.Hash(root) != head.Root {
		return fmt.Errorf("open replica: the history's root at size %d is %x, the certified one is %s", head.Size, root, head.Root)
	}
	authority := chain.ForSize(head.Size)
	r.certifier.now.Store(&certifiedHead{checkpoint: checkpoint, note: note, authority: authority, signed: checkpoint.Signed(authority) * 1000})
	for _, s := range checkpoint.Cosignatures {
		for _, replica := range authority.Active() {
			if replica.Name == s.Replica && s.Verify(authority.Branch(), head, replica) == nil {
				r.certifier.newest[replica.KeyID()] = cosigned{head, s}
			}
		}
	}
	return nil
}

// Close releases a replica that is not running.
func (r *Replica) Close() error {
	if r.metrics != nil {
		r.metrics.unregister()
	}
	if r.peers != nil {
		r.peers.close()
	}
	return r.unlessStalled(r.closeDisk)
}

func (r *Replica) closeDisk() error {
	var errs []error
	if r.store != nil && !r.closed {
		// It stays where it is: Raft waits for none of its connections, on which a last
		// heartbeat may be judged yet.
		errs = append(errs, r.store.Close())
		r.closed = true
	}
	if r.archive != nil {
		errs = append(errs, r.archive.Close())
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
		r.lock = nil
	}
	return errors.Join(errs...)
}

// onApplied runs on Raft's goroutine after each batch.
func (r *Replica) onApplied(old, now *applied) {
	r.reachGeneration(now.state.Meta().Generation)
	changed := !r.pins.hasApplied() || old.state.Meta().Versions["replicas"] != now.state.Meta().Versions["replicas"] ||
		old.state.Authority().Index != now.state.Authority().Index || old.state.PendingHandover() != now.state.PendingHandover()
	if changed {
		r.pins.apply(now.state.Next(), now.state.Replicas())
		r.pinsChanged.fire()
	}
	r.metrics.appliedSize.Set(float64(now.state.Next()))
	r.changed.fire()
}

// halt stops this replica for good: it found that its history is not the
// ledger's, and must neither vote, sign nor serve.
func (r *Replica) halt(reason string) {
	if r.haltedBy.CompareAndSwap(nil, &HaltedError{Reason: reason}) {
		r.log.Error("halted", "reason", reason)
		r.raise(alarmHalted, reason)
		close(r.haltCh)
		r.changed.fire()
	}
}

// haltForGood is halt for what this replica alone knows, and has to remember: a
// restart would replay its own history, sign it, and vote by it again.
func (r *Replica) haltForGood(reason string) {
	r.halt(reason)
	// Crash here: it is found out again, as it was now.
	if err := r.files.replaceChecked(haltedFile, haltedRecord{reason}); err != nil {
		r.log.Error("remember that this replica halted", "error", err)
	}
}

func (r *Replica) halted() error {
	if h := r.haltedBy.Load(); h != nil {
		return h
	}
	return nil
}

// serverAddress is where the ledger says that this replica is; a replica that
// the ledger does not know yet says where it listens.
func (r *Replica) serverAddress() string {
	if me := r.pins.now.Load().byID(r.id); me != nil {
		return me.Peer
	}
	return r.cfg.Listen
}

func (r *Replica) foundingMember() bool {
	return slices.ContainsFunc(r.founding.Replicas, func(one ledger.Replica) bool { return one.KeyID() == r.id })
}

// raftConfig is Raft's configuration, by our tuning.
func (r *Replica) raftConfig() *raft.Config {
	t := r.cfg.Raft
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(r.id.String())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.LeaderLease
	c.CommitTimeout = t.Commit
	c.MaxAppendEntries = t.MaxAppendEntries
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = t.SnapshotInterval, t.SnapshotThreshold, t.TrailingLogs
	c.Logger = r.raftLogger("raft")
	c.NoLegacyTelemetry = true
	return c
}

// raftNode is Raft with what it stands on.
type raftNode struct {
	raft   *raft.Raft
	guard  *guard
	ending chan struct{} // closed before Raft is told to shut down
	wg     sync.WaitGroup
}

// startRaft starts Raft; from here on this replica votes.
func (r *Replica) startRaft(ctx context.Context, conns *handoff) (*raftNode, error) {
	n := &raftNode{guard: r.newReplicaGuard(ctx, conns), ending: make(chan struct{})}
	n.wg.Go(n.guard.run)
	fail := func(err error) (*raftNode, error) {
		n.guard.shut()
		n.wg.Wait()
		return nil, err
	}
	inner, err := raft.NewFileSnapshotStoreWithLogger(filepath.Join(r.cfg.Dir, raftDir), r.limits.SnapshotRetain, newRaftLogger(r.log, "snapshots"))
	if err != nil {
		return fail(fmt.Errorf("open snapshots: %w", err))
	}
	r.snapshots.Store(inner)
	snapshots := &provingSnapshots{SnapshotStore: &summedSnapshots{inner, r.files}, prove: func(from io.Reader, o snapshotOrigin) error { return r.proveSnapshot(ctx, from, o) }, point: r.cfg.Hooks.point}
	disk := &diskLogStore{LogStore: r.cfg.Hooks.log(r.store), stable: r.cfg.Hooks.stable(r.store),
		watchdog: r.watchdog, failure: &r.logFailure, stopping: n.ending, report: r.logWritten}
	logs, err := raft.NewLogCache(512, disk)
	if err != nil {
		return fail(err)
	}
	existing, err := raft.HasExistingState(r.store, r.store, inner)
	if err != nil {
		return fail(fmt.Errorf("read raft log: %w", err))
	}
	if !existing && r.cosigner.head.Size > 0 {
		// Its votes are forgotten: it could vote twice in a term, for one whose log
		// lacks what it helped to commit.
		r.halt("raft's log and votes are lost, while this replica signed before: older data; re-key it (replica.rekey)")
		return fail(r.halted())
	}
	config := r.raftConfig()
	if !existing && r.foundingMember() {
		if err := raft.BootstrapCluster(config, logs, r.store, inner, n.guard, raft.Configuration{Servers: r.raftFounders()}); err != nil {
			return fail(fmt.Errorf("bootstrap raft: %w", err))
		}
	}
	fenced := &fence{n.guard, func() error { return r.watchdog.stalled(diskLog) }, r.diskUnfit, r.patience.asks}
	if n.raft, err = newRaft(config, r.shell, logs, disk, snapshots, r.cfg.Hooks.transport(fenced)); err != nil {
		return fail(fmt.Errorf("start raft: %w", err))
	}
	r.node.Store(n.raft)
	r.changed.fire()
	return n, nil
}

func (n *raftNode) shutdown() error {
	close(n.ending)
	_ = n.guard.Close() // Raft's main loop may be reading a snapshot from a peer that sends no more
	err := n.raft.Shutdown().Error()
	n.guard.shut()
	n.wg.Wait()
	return err
}

// logWritten hears how each write to Raft's log went.
func (r *Replica) logWritten(err error) {
	if err != nil {
		r.diskFailed(diskLog, err)
	} else {
		r.diskWell(diskLog)
	}
}

// graceful hands leadership over, so that writers need not wait for an
// election.
func (r *Replica) graceful(ctx context.Context, node *raft.Raft) {
	if node.State() != raft.Leader {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.ShutdownLimit)
	defer cancel()
	if err := r.futures.do(ctx, node.LeadershipTransfer); err != nil {
		r.log.Info("transfer leadership", "error", err)
	}
}
