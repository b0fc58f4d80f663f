package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/audit"
)

// rotatingResults is an epoch in which every node of a fleet rotates its key, on
// replicas as people run them: what it costs them, how soon each rotation is
// certified, how they lie on the ledger, and how the epoch begins in which all the
// keys take effect.
type rotatingResults struct {
	Nodes        int     `json:"nodes"`
	Replicas     int     `json:"replicas"`
	EpochSeconds float64 `json:"epoch_seconds"`
	AdmitSeconds float64 `json:"admit_seconds"` // of the whole fleet, by decisions of up to 300 joins

	arrivals
	Refused   int     `json:"refused"`    // answers to rotations that are no acknowledgement; 0, or the section fails
	Again     int     `json:"sent_again"` // since it was not known what became of them
	Elections uint64  `json:"elections"`  // terms that began in that epoch
	Certified *spread `json:"certified"`  // a rotation, from before it is sent to the answer that it is certified

	Leader   spent `json:"leader"`   // over rest, for one rotation
	Follower spent `json:"follower"` // the mean of the followers

	Begin     begun `json:"begin"`      // of the epoch in which all keys take effect
	BeginIdle begun `json:"begin_idle"` // of one in which none does

	ExportBytes   int64   `json:"export_bytes"` // of the whole ledger, packed
	ExportEntries uint64  `json:"export_entries"`
	VerifySeconds float64 `json:"verify_seconds"`
}

// begun is how an epoch begins that is decided to begin now.
type begun struct {
	Applied   float64 `json:"applied_ms"`   // sent, until every replica is in it
	Certified float64 `json:"certified_ms"` // sent, until every replica has a certified head that covers it
	Lag       uint64  `json:"lag_entries"`  // most entries that a replica had applied and not certified meanwhile
}

const (
	rotatingReplicas = 4
	clusterEpoch     = 120 * time.Second // so long that 2 % a second is to be had: at 60 s it is not
	quickEpoch       = 30 * time.Second
	quickNodes       = 300
	restOfEpoch      = 10 // a tenth of the epoch long the replicas' rest is measured
)

// rotatingFounding has nodes whose keys are all due in the epoch after the one in which
// they are admitted, and take effect two later, as their keys end.
func rotatingFounding(epoch time.Duration) founding {
	return fleetFounding(fmt.Sprintf("policy: {epoch_millis: %d, key_epochs: %d, keys: {rotate_epochs: %d, late_epochs: %d}}\n",
		epoch.Milliseconds(), clusterKeyEpochs, clusterRotate, clusterLate))
}

const (
	clusterKeyEpochs = 2
	clusterRotate    = 2
	clusterLate      = 1
)

// rotating measures.
func (b *bench) rotating(ctx context.Context) (err error) {
	nodes, epoch := rotatingNodes, clusterEpoch
	if b.quick {
		nodes, epoch = quickNodes, quickEpoch
	}
	if b.nodes > 0 {
		nodes = b.nodes
	}
	if b.epoch > 0 {
		epoch = b.epoch
	}
	dir, err := os.MkdirTemp(b.dir, "rotating-")
	if err != nil {
		return err
	}
	c, err := found(b.program, dir, rotatingReplicas, rotatingFounding(epoch))
	if err != nil {
		return err
	}
	defer func() {
		if stopped := c.stop(); err == nil {
			err = stopped
		}
	}()
	if err := c.start(ctx); err != nil {
		return err
	}
	f := &rotatingFleet{cluster: c, epoch: epoch}
	out := &rotatingResults{Nodes: nodes, Replicas: rotatingReplicas, EpochSeconds: epoch.Seconds()}
	if err := f.measure(ctx, b, nodes, out); err != nil {
		return err
	}
	b.results.Rotating = out
	if out.Refused > 0 || out.Late > 0 || out.Rotations != nodes || out.Took != uint64(nodes) {
		return fmt.Errorf("of %d rotations %d were refused and %d are on the ledger, %d of them late; %d took effect", nodes, out.Refused, out.Rotations, out.Late, out.Took)
	}
	return nil
}

// measure goes through the epochs: nodes are admitted in the first one, rotate in the
// second, rest in the third and have their new keys in the fourth.
func (f *rotatingFleet) measure(ctx context.Context, b *bench, nodes int, out *rotatingResults) error {
	if err := f.makeNodes(nodes); err != nil {
		return err
	}
	if _, err := f.advance(ctx); err != nil { // so that there is a whole epoch for it
		return err
	}
	began := time.Now()
	if err := f.admitAll(ctx); err != nil {
		return fmt.Errorf("admit nodes: %w", err)
	}
	out.AdmitSeconds = time.Since(began).Seconds()
	b.note("%d nodes admitted in %.0f s", nodes, out.AdmitSeconds)
	schedule, err := f.schedule(ctx)
	if err != nil {
		return err
	}
	resting := metersOf(f.children())
	pause(ctx, f.epoch/restOfEpoch)
	rest := metersOf(f.children())
	if out.BeginIdle, err = f.advance(ctx); err != nil {
		return err
	}
	if err := f.rotate(ctx, schedule, resting, rest, out); err != nil {
		return err
	}
	b.note("%d rotations: certified p50 %.0f ms, p99 %.0f ms; %d refused", nodes, out.Certified.P50, out.Certified.P99, out.Refused)
	if out.Begin, err = f.advance(ctx); err != nil {
		return err
	}
	b.note("the epoch in which they take effect: certified after %.0f ms; one without: %.0f ms", out.Begin.Certified, out.BeginIdle.Certified)
	if err := f.speakAnew(ctx); err != nil {
		return err
	}
	leader, err := f.leader(ctx)
	if err != nil {
		return err
	}
	status, err := leader.status(ctx)
	if err != nil {
		return err
	}
	entries, err := leader.entries(ctx, status.Certified)
	if err != nil {
		return err
	}
	if out.arrivals, err = readArrivals(entries, schedule.epoch, schedule.due); err != nil {
		return err
	}
	return f.export(ctx, b, leader, out)
}

// rotate has all nodes rotate at their times, and waits until the epoch is over by
// the clock.
func (f *rotatingFleet) rotate(ctx context.Context, s *schedule, resting, rest []meter, out *rotatingResults) error {
	leader, err := f.leader(ctx)
	if err != nil {
		return err
	}
	before, err := leader.status(ctx)
	if err != nil {
		return err
	}
	if before.Epoch != s.epoch {
		return fmt.Errorf("it is epoch %d, the nodes rotate in %d", before.Epoch, s.epoch)
	}
	if err := s.begin(ctx, leader); err != nil {
		return err
	}
	busy := metersOf(f.children())
	sent, err := f.send(ctx, s)
	if err != nil {
		return err
	}
	out.Certified, out.Refused, out.Again = spreadOf(sent.times), len(sent.refused), sent.again
	if len(sent.refused) > 0 {
		return fmt.Errorf("%d rotations are refused, the first one: %w", len(sent.refused), sent.refused[0])
	}
	err = await(ctx, f.epoch+startLimit, func() error {
		status, err := leader.status(ctx)
		if err == nil && status.Epoch == s.epoch {
			err = errors.New("the epoch of the rotations is not over")
		}
		return err
	})
	if err != nil {
		return err
	}
	done := metersOf(f.children())
	after, err := leader.status(ctx)
	if err != nil {
		return err
	}
	out.Elections = after.Term - before.Term
	for i, m := range f.members {
		one := spentBy(busy[i], done[i], resting[i], rest[i], len(f.nodes))
		if m == leader {
			out.Leader = one
		} else {
			out.Follower.add(one, float64(len(f.members)-1))
		}
	}
	return nil
}

// advance decides that the next epoch begins now, and says how it began.
func (f *rotatingFleet) advance(ctx context.Context) (begun, error) {
	var out begun
	leader, err := f.leader(ctx)
	if err != nil {
		return out, err
	}
	before, err := leader.status(ctx)
	if err != nil {
		return out, err
	}
	bundle, err := f.decide(ctx, leader, "epoch.advance", []byte("{}"))
	if err != nil {
		return out, err
	}
	began := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- f.submit(leader, bundle, "?wait=certified") }()
	err = await(ctx, startLimit, func() error {
		applied, certified := true, true
		for _, m := range f.members {
			status, err := m.status(ctx)
			if err != nil {
				return err
			}
			out.Lag = max(out.Lag, status.Lag)
			applied = applied && status.Epoch > before.Epoch
			certified = certified && status.Epoch > before.Epoch && status.Lag == 0
		}
		if applied && out.Applied == 0 {
			out.Applied = millis(time.Since(began))
		}
		if !certified {
			return errors.New("the epoch has not begun at every replica")
		}
		out.Certified = millis(time.Since(began))
		return nil
	})
	return out, errors.Join(err, <-sent)
}

// speakAnew has some nodes say something under their new keys.
func (f *rotatingFleet) speakAnew(ctx context.Context) error {
	leader, err := f.leader(ctx)
	if err != nil {
		return err
	}
	status, err := leader.status(ctx)
	if err != nil {
		return err
	}
	for i := 0; i < len(f.nodes); i += max(len(f.nodes)/16, 1) {
		n, seq, tick := f.nodes[i], uint64(0), uint64(time.Now().UnixMilli())/10_000
		said, err := ledger.Sign(n.key(n.next), ledger.Payload{Author: n.name, Epoch: &status.Epoch, Seq: &seq, Ledger: f.genesis, Type: ledger.TypeObserve},
			ledger.Observe{Counter: 1, Kind: ledger.LinkUp, Subject: f.nodes[(i+1)%len(f.nodes)].name, From: tick, To: tick})
		if err != nil {
			return err
		}
		if err := f.submit(leader, said, ""); err != nil {
			return fmt.Errorf("%s under its new key: %w", n.name, err)
		}
	}
	return nil
}

// export exports the ledger with the program and verifies it.
func (f *rotatingFleet) export(ctx context.Context, b *bench, leader *member, out *rotatingResults) error {
	path := filepath.Join(f.dir, "export"+audit.PackedSuffix)
	if err := run(b.program, "export", "--out", path, "--server", "http://"+leader.api, "--genesis", f.genesis.String()); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	began := time.Now()
	report, err := audit.Verify(ctx, path, audit.Options{Genesis: f.genesis})
	if err != nil {
		return fmt.Errorf("verify the export: %w", err)
	}
	out.VerifySeconds = time.Since(began).Seconds()
	out.ExportBytes, out.ExportEntries = info.Size(), report.Entries
	if report.Statements[ledger.TypeRotate] != len(f.nodes) {
		return fmt.Errorf("the export has %d rotations of %d", report.Statements[ledger.TypeRotate], len(f.nodes))
	}
	return nil
}

// children are the replicas' processes, in the order of the members.
func (c *cluster) children() []*process {
	list := make([]*process, len(c.members))
	for i, m := range c.members {
		list[i] = m.child
	}
	return list
}

// print is the part of the table.
func (o *rotatingResults) print(w *strings.Builder) {
	fmt.Fprintf(w, "\nAn epoch of %.0f s in which all of %d nodes rotate, on %d replicas as processes\n", o.EpochSeconds, o.Nodes, o.Replicas)
	fmt.Fprintf(w, "  refused %d, late %d (both 0); sent again %d, elections %d; admitted in %.0f s\n", o.Refused, o.Late, o.Again, o.Elections, o.AdmitSeconds)
	fmt.Fprintf(w, "  entries %d, %.1f MB: %.0f bytes a rotation\n", o.Entries, float64(o.Bytes)/1e6, o.RotationBytes)
	fmt.Fprintf(w, "  a rotation sent to certified  p50 %.0f ms  p99 %.0f ms  worst %.0f ms\n", o.Certified.P50, o.Certified.P99, o.Certified.Worst)
	fmt.Fprintf(w, "  ordered after it was due      p50 %.0f ms  p99 %.0f ms  worst %.0f ms\n", o.Behind.P50, o.Behind.P99, o.Behind.Worst)
	fmt.Fprintf(w, "  the fullest second has %.2f %% of them (at most 2 %%, from 5,000 nodes and 90 s on)\n", o.Fullest)
	for _, r := range []struct {
		who string
		*spent
	}{{"the leader", &o.Leader}, {"a follower", &o.Follower}} {
		fmt.Fprintf(w, "  %s, over rest: %.1f s of a core (%.2f ms a rotation); for one it sends %.1f kB, receives %.1f kB, writes %.1f kB to files\n",
			r.who, r.CPU*float64(o.Nodes)/1000, r.CPU, r.Sent/1e3, r.Received/1e3, r.Written/1e3)
	}
	fmt.Fprintf(w, "  the epoch in which they take effect: decided, in it everywhere after %.0f ms, certified everywhere after %.0f ms (lag of at most %d entries); one without: %.0f and %.0f ms\n",
		o.Begin.Applied, o.Begin.Certified, o.Begin.Lag, o.BeginIdle.Applied, o.BeginIdle.Certified)
	fmt.Fprintf(w, "  export of all %d entries: %.1f MB; verified in %.1f s\n", o.ExportEntries, float64(o.ExportBytes)/1e6, o.VerifySeconds)
}
