package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/archive"
)

// errDiskStalled: a write or an fsync has been under way for longer than
// Limits.DiskStall, and than the recent ones let expect.
var errDiskStalled = errors.New("the disk does not answer")

// watchdog times every write while it is under way, so that a disk that hangs
// is known before it has answered, if it ever does. A nil one times nothing.
//
// A leader whose disk hangs in Raft's log is blocked in Raft's main loop, and
// can hand leadership to nobody; its heartbeats come from other goroutines and
// go on, so that its followers would wait with it for ever. The fence below
// silences it.
type watchdog struct {
	limit time.Duration

	mu      sync.Mutex
	next    uint64
	writes  map[uint64]diskWrite
	recent  map[string][]time.Duration    // of each part, the newest last
	waiting map[uint64]context.CancelFunc // of those who wait for Raft's main loop
}

// diskWrite is one that is under way.
type diskWrite struct {
	part  string
	began time.Time
}

func newWatchdog(limit time.Duration) *watchdog {
	return &watchdog{limit: limit, writes: map[uint64]diskWrite{}, recent: map[string][]time.Duration{}, waiting: map[uint64]context.CancelFunc{}}
}

// begin says that a write to a part of the disk is under way until end is called.
func (w *watchdog) begin(part string) (end func()) {
	if w == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.next
	w.next++
	began := time.Now()
	w.writes[id] = diskWrite{part, began}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.writes, id)
		list := append(w.recent[part], time.Since(began))
		w.recent[part] = list[max(0, len(list)-recentWrites):]
	}
}

// usual is the median of what recent writes to a part took; requires mu.
func (w *watchdog) usual(part string) time.Duration {
	list := slices.Clone(w.recent[part])
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}

func (w *watchdog) usually(part string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.usual(part)
}

// patience is how long a write to a part may take before it is overdue: a disk
// that is slow by nature, as all may be, is worked with; one that becomes slow is
// not waited for. Requires mu.
func (w *watchdog) patience(part string) time.Duration {
	return min(max(w.limit, stallFactor*w.usual(part)), max(w.limit, maxDiskStall))
}

// stalled is an errDiskStalled while a write to one of the parts, or to any if
// none is named, is overdue.
func (w *watchdog) stalled(parts ...string) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, write := range w.writes {
		since := time.Since(write.began)
		if since < w.limit || since < w.patience(write.part) {
			continue
		}
		for _, part := range parts {
			if write.part == part {
				return fmt.Errorf("%w: %s, for %s", errDiskStalled, write.part, since.Round(10*time.Millisecond))
			}
		}
		if len(parts) == 0 {
			return fmt.Errorf("%w: %s, for %s", errDiskStalled, write.part, since.Round(10*time.Millisecond))
		}
	}
	return nil
}

// unstalled gives a context that ends with ctx, and when Raft's log is found to
// hang: what waits for Raft's main loop then waits in vain.
func (w *watchdog) unstalled(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.next
	w.next++
	w.waiting[id] = cancel
	return ctx, func() {
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, id)
	}
}

func (w *watchdog) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cancel := range w.waiting {
		cancel()
	}
}

// watchdogLoop raises and clears the alarm, makes a leader that can still act
// hand on, and ends the replica once its disk has failed for good.
func (r *Replica) watchdogLoop(ctx context.Context) error {
	timer := time.NewTicker(max(r.limits.DiskStall/8, time.Millisecond))
	defer timer.Stop()
	stalled := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.logFailure.happened:
			return r.logFailure.error()
		case <-timer.C:
		}
		err := r.watchdog.stalled()
		switch {
		case err != nil:
			if !stalled {
				r.metrics.diskStalls.Inc()
				r.metrics.diskStalled.Set(1)
			}
			r.raise(alarmDiskStalled, err.Error())
			r.handOn()
			if r.watchdog.stalled(diskLog) != nil {
				r.watchdog.release()
			}
		case stalled:
			r.metrics.diskStalled.Set(0)
			r.clear(alarmDiskStalled)
		}
		stalled = err != nil
	}
}

// fence is what Raft sends through. While Raft's log hangs nothing that a leader
// or a candidate says goes out, so that the others elect one whose disk works;
// and a replica whose disk hangs or refuses writes asks for no votes.
type fence struct {
	GuardedTransport
	stalled func() error // of Raft's log
	unfit   func() error
	asks    func(term uint64) // hears of each request for votes
}

func (f *fence) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	if err := f.stalled(); err != nil {
		return err
	}
	return f.GuardedTransport.AppendEntries(id, to, q, a)
}

func (f *fence) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	if err := f.unfit(); err != nil {
		return err
	}
	f.asks(q.Term)
	return f.GuardedTransport.RequestVote(id, to, q, a)
}

func (f *fence) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	if err := f.unfit(); err != nil {
		return err
	}
	return f.GuardedTransport.RequestPreVote(id, to, q, a)
}

// refuseVotes refuses to vote, and to be made leader, while the disk hangs. What
// a leader sends is taken: it waits for the disk as ever, and a follower whose
// disk hangs knows its leader.
func refuseVotes(stalled func() error) guardRule {
	return guardRule{"disk_stalled", func(q *request) error {
		switch q.Command.(type) {
		case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest, *raft.TimeoutNowRequest:
			return stalled()
		}
		return nil
	}}
}

// unlessStalled waits for something that needs the disk; once that hangs, for no
// longer than ShutdownLimit in all. What is left behind ends with the process, or
// when the disk answers.
func (r *Replica) unlessStalled(wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	patience := r.limits.ShutdownLimit
	if r.abandoned.Load() {
		patience = time.Millisecond
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-timer.C:
		}
		if err := r.watchdog.stalled(); err != nil {
			r.abandoned.Store(true)
			return fmt.Errorf("stop replica: %w", err)
		}
		timer.Reset(r.limits.DiskStall)
	}
}

// timedFS times what the archive writes.
type timedFS struct {
	archive.FS
	watchdog *watchdog
}

func (f *timedFS) Create(name string) (archive.File, error) {
	defer f.watchdog.begin(diskArchive)()
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &timedFile{file, f.watchdog}, nil
}

func (f *timedFS) Rename(from, to string) error {
	defer f.watchdog.begin(diskArchive)()
	return f.FS.Rename(from, to)
}

func (f *timedFS) Remove(name string) error {
	defer f.watchdog.begin(diskArchive)()
	return f.FS.Remove(name)
}

func (f *timedFS) MkdirAll(name string) error {
	defer f.watchdog.begin(diskArchive)()
	return f.FS.MkdirAll(name)
}

func (f *timedFS) SyncDir(name string) error {
	defer f.watchdog.begin(diskArchive)()
	return f.FS.SyncDir(name)
}

type timedFile struct {
	archive.File
	watchdog *watchdog
}

func (f *timedFile) Write(b []byte) (int, error) {
	defer f.watchdog.begin(diskArchive)()
	return f.File.Write(b)
}

func (f *timedFile) Sync() error {
	defer f.watchdog.begin(diskArchive)()
	return f.File.Sync()
}
