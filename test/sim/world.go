package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
)

// world is one cluster in one bubble of virtual time.
type world struct {
	*founding
	t        testing.TB
	plan     *plan
	dir      string
	began    time.Time
	network  *network
	checks   *checks
	recorder *recorder
	logger   *slog.Logger

	hands    chan struct{} // held by whoever starts and ends processes
	steward  steward
	traffic  *traffic
	untold   bool                        // a planted bug: what a recovery left out does not hear of it
	careless bool                        // a planted bug: raft-wal's fsyncs do nothing
	aged     func(left []*node)          // a planted bug: what becomes of the disks that are left
	bend     func(*node, *replica.Hooks) // a planted bug of every replica

	buried  sync.WaitGroup // processes that crashed and are ending
	watched sync.WaitGroup
	quit    chan struct{}

	generation atomic.Uint64 // of the ledger

	keyMu sync.Mutex
	keys  map[ledger.Hash]*keys.PrivateKey // that governors got since, by id

	mu       sync.Mutex
	nodes    []*node // the present replicas
	retired  []*node // those of before, whose processes ended
	first    *violation
	violated chan struct{} // closed at the first violation
}

// newWorld founds a ledger on an empty folder. It is called inside the bubble.
func newWorld(t testing.TB, p *plan, dir string, r *recorder) *world {
	w := &world{t: t, plan: p, dir: dir, began: time.Now(), recorder: r, quit: make(chan struct{}), violated: make(chan struct{}), keys: map[ledger.Hash]*keys.PrivateKey{}, hands: make(chan struct{}, 1)}
	w.steward.world, w.traffic = w, &traffic{world: w}
	r.begin(w.began)
	w.founding = found(t, p.Replicas)
	for _, p := range w.council {
		w.keys[ledger.Hash(p.key.ID())] = p.key
	}
	w.network = newNetwork(p.Seed, r)
	w.checks = newChecks(w.founding, w.violate)
	for _, one := range w.replicas {
		w.nodes = append(w.nodes, w.newNode(one))
	}
	return w
}

// newNode makes the node of an identity, with an empty disk.
func (w *world) newNode(one *identity) *node {
	return &node{world: w, identity: one, station: one.record.Name, messages: &messages{seed: w.plan.Seed, name: one.record.Name}}
}

// present lists the replicas that there are now, running or not.
func (w *world) present() []*node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.nodes)
}

// replace takes a node out, puts one in, or both; nil is none.
func (w *world) replace(old, fresh *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old != nil {
		w.nodes = slices.DeleteFunc(w.nodes, func(n *node) bool { return n == old })
		w.retired = append(w.retired, old)
	}
	if fresh != nil {
		w.nodes = append(w.nodes, fresh)
		slices.SortFunc(w.nodes, func(a, b *node) int { return strings.Compare(a.name(), b.name()) })
	}
}

// handle does something to processes, alone: it may take virtual time.
func (w *world) handle(do func() error) error {
	w.hands <- struct{}{}
	defer func() { <-w.hands }()
	return do()
}

// violate keeps the first violation, and ends the run.
func (w *world) violate(v *violation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = v
		w.note("VIOLATION %v", v)
		close(w.violated)
	}
}

func (w *world) failed() *violation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// note writes a line of what happened to the record.
func (w *world) note(format string, args ...any) { w.recorder.note(fmt.Sprintf(format, args...)) }

// sleep waits, and reports whether the run goes on.
func (w *world) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.violated:
	case <-w.quit:
	}
	return false
}

// watch follows what a process publishes until it ends.
func (w *world) watch(p *process) {
	w.watched.Go(func() {
		newest := uint64(0)
		for {
			changed := p.replica.Changed()
			if p.dead.Load() {
				return
			}
			if note, size := p.replica.Checkpoint(); size > newest && !w.checks.liar(p.node.name()) {
				newest = size
				w.checks.certified(p.node, note)
			}
			select {
			case <-changed:
			case <-p.ended:
				return
			case <-w.violated:
				return
			}
		}
	})
}

// governor is one of the council, with the newest key that is known to be his.
func (w *world) governor(i int) principal {
	w.keyMu.Lock()
	defer w.keyMu.Unlock()
	return w.council[i%len(w.council)]
}

// newKey makes a key that a decision may give a governor.
func (w *world) newKey(name string) *keys.PrivateKey {
	k := keyOf(name)
	w.keyMu.Lock()
	defer w.keyMu.Unlock()
	w.keys[ledger.Hash(k.ID())] = k
	return k
}

// keyNamed gives a governor's key by its id, nil if nobody has it.
func (w *world) keyNamed(id ledger.Hash) *keys.PrivateKey {
	w.keyMu.Lock()
	defer w.keyMu.Unlock()
	return w.keys[id]
}

// seated learns from a state which keys the governors hold.
func (w *world) seated(state *fsm.State) {
	w.keyMu.Lock()
	defer w.keyMu.Unlock()
	for i := range w.council {
		if seat, ok := state.Governor(w.council[i].name); ok {
			if k := w.keys[seat.KeyID()]; k != nil {
				w.council[i].key = k
			}
		}
	}
}

// up lists the processes that run.
func (w *world) up() []*process {
	var list []*process
	for _, n := range w.present() {
		if p := n.running(); p != nil {
			list = append(list, p)
		}
	}
	return list
}

func (w *world) named(name string) *node {
	for _, n := range w.present() {
		if n.name() == name {
			return n
		}
	}
	return nil
}

// leader is the node that leads by its own word and the highest term; nil when
// none does.
func (w *world) leader() *node {
	var found *node
	term := uint64(0)
	for _, p := range w.up() {
		if s := p.replica.Status(); s.Role == replica.RoleLeader && s.Term >= term {
			found, term = p.node, s.Term
		}
	}
	return found
}

// look compares every archive with the history, and then asks after whoever
// halted: a halt has a cause, which is what should be seen first.
func (w *world) look() {
	for _, p := range w.up() {
		if !w.checks.liar(p.node.name()) {
			p.scanned = w.checks.scan(p, p.scanned)
		}
	}
	for _, p := range w.up() {
		// Where nobody lies that is our bug, since nothing here hands a replica
		// older data than it had.
		if s := p.replica.Status(); s.Role == replica.RoleHalted && len(w.plan.Liars) == 0 {
			w.checks.fail(invariantClean, "%s halted: %v", p.node.name(), s.Alarms)
		}
	}
}

// stopAll ends every process gracefully, and waits for those that crashed.
func (w *world) stopAll() {
	var wg sync.WaitGroup
	for _, n := range w.present() {
		wg.Go(func() {
			if err := n.stop(); err != nil && !errors.Is(err, replica.ErrHalted) {
				w.checks.fail(invariantClean, "%s ended with %v", n.name(), err)
			}
		})
	}
	wg.Wait()
	w.buried.Wait()
	w.watched.Wait()
}

// leftovers looks for temporary files in the folders of stopped replicas.
func (w *world) leftovers() {
	for _, n := range w.present() {
		for _, pattern := range []string{"*.tmp", "*/*.tmp", "archive/tmp/*", "raft/snapshots/*.tmp"} {
			if found, _ := filepath.Glob(filepath.Join(n.dir, pattern)); len(found) > 0 {
				w.checks.fail(invariantClean, "%s left %v", n.name(), found)
			}
		}
	}
}
