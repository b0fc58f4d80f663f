package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/ledger/replica"
)

// result is what came of a run.
type result struct {
	violation *violation
	virtual   time.Duration
	wall      time.Duration
	entries   int
	acks      int
	decisions int
	rotations int
	resumed   time.Duration // longest from healing to certified again
	tally     tally
	total     uint64 // deliveries
	parted    time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%s in %s: %d entries, %d acknowledgements, %d decisions executed, %d keys of replicas rotated, %d deliveries, certified again after at most %s; %+v",
		r.virtual.Round(time.Second), r.wall.Round(100*time.Millisecond), r.entries, r.acks, r.decisions, r.rotations, r.total, r.resumed.Round(time.Millisecond), r.tally)
}

// run carries out a plan in a bubble of its own. bend may plant a bug or a liar
// before the replicas start.
func run(t *testing.T, p *plan, r *recorder, bend func(*world)) (res result) {
	t.Helper()
	dir := scratch(t)
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, p, dir, r)
		if os.Getenv("QUORATE_SIM_REPLICAS") != "" {
			w.logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
		}
		if bend != nil {
			bend(w)
		}
		res = w.live()
	})
	res.wall = time.Since(began)
	res.total, res.parted = r.total, r.parted
	return res
}

// scratch is a folder in memory where there is one: nothing here tests a disk's
// speed.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "quorate-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// live runs the rounds and gives what came of them.
func (w *world) live() result {
	d := &driver{world: w}
	traffic := w.traffic
	for _, n := range w.present() {
		if err := n.start(); err != nil {
			w.t.Error(err)
		}
	}
	traffic.start(w.plan.Clients)
	res := result{}
	for round := range w.plan.Rounds {
		if w.failed() != nil {
			break
		}
		w.note("round %d", round)
		if err := d.round(round); err != nil {
			w.checks.fail(invariantClean, "%v", err)
		}
		if err := d.heal(); err != nil {
			w.checks.fail(invariantClean, "%v", err)
		}
		w.steward.settle()
		res.resumed = max(res.resumed, w.resume(round))
		w.look()
		// Rounds begin at fixed times, so that a replay's faults do too.
		w.sleep(time.Until(w.began.Add(time.Duration(round+1) * (w.plan.Round + w.plan.Calm))))
		w.look()
	}
	close(w.quit)
	w.steward.wg.Wait()
	traffic.wg.Wait()
	if w.failed() == nil {
		w.resume(w.plan.Rounds)
		w.look()
		w.checks.finish()
	}
	_ = d.heal()
	w.stopAll()
	if w.failed() == nil {
		w.leftovers()
	}
	res.violation, res.virtual, res.tally = w.failed(), time.Since(w.began), traffic.tally
	res.entries, res.acks, res.decisions = len(w.checks.history), w.checks.counted, w.checks.decision.count
	res.rotations = w.checks.decision.rotations
	return res
}

// resume waits until a fresh statement is certified at every replica, and gives
// how long that took.
func (w *world) resume(round int) time.Duration {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), resumeLimit)
	defer cancel()
	traffic := &traffic{world: w}
	var s *said
	state := func(try int) { // a statement under a key that its governor still has
		for _, p := range w.up() {
			if view, err := p.replica.View(ctx, replica.Stale); err == nil {
				w.seated(view.State)
			}
		}
		s = traffic.record(w.governor(round+try), fmt.Sprint("after round ", round, " ", try, " ", began.UnixMilli()))
	}
	state(0)
	tries := 0
	for _, p := range w.up() {
		for {
			if w.checks.liar(p.node.name()) || len(w.plan.Liars) > 0 && p.replica.Status().Role == replica.RoleHalted {
				break // whom a liar led astray stays out until it gets new keys
			}
			if w.failed() != nil {
				return 0
			}
			receipt, err := p.replica.Submit(ctx, [][]byte{s.envelope}, replica.WaitCertified)
			if err == nil {
				w.checks.acknowledged(ack{s.id, receipt.Last, p.node.name(), true}, s.seq)
				s.seq = receipt.Last
				break
			}
			if rejected := (*replica.RejectedError)(nil); errors.As(err, &rejected) {
				tries++
				state(tries)
			}
			if ctx.Err() != nil && len(w.plan.Liars) > 0 {
				w.note("nothing certified at %s after round %d: %v", p.node.name(), round, err)
				return 0 // a liar and its victim are two of four: the rest may not go on, but are not deceived
			}
			if ctx.Err() != nil {
				w.checks.fail(invariantResumes, "%s after round %d: nothing certified at %s within %s of healing: %v; %+v", p.node.name(), round, p.node.name(),
					resumeLimit, err, p.replica.Status())
				return time.Since(began)
			}
			time.Sleep(time.Second)
		}
	}
	w.checks.everywhere(s.seq)
	return time.Since(began)
}
