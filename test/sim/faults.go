package sim

import (
	"fmt"
	"slices"
	"time"
)

// carryOut does a fault and undoes it after its time. The driver alone calls it,
// in the order of the plan; ends run by the driver too (undo).
type pending struct {
	at   time.Time
	undo func() error
}

// driver carries out the plan's faults.
type driver struct {
	world      *world
	pending    []pending
	partitions int64
}

// round runs one round of faults. Everything is undone when it returns.
func (d *driver) round(number int) error {
	w := d.world
	began := time.Now()
	for i, f := range w.plan.Faults {
		if f.Round != number {
			continue
		}
		if err := d.until(began.Add(f.At)); err != nil || w.failed() != nil {
			return err
		}
		var undo func() error
		var err error
		switch f.Kind {
		case faultAdd, faultRemove, faultRekey:
			w.recorder.carry(f)
			w.steward.change(f)
		case faultLose:
			w.recorder.carry(f)
			err = d.lose(f, number)
		default:
			err = w.handle(func() (err error) {
				undo, err = d.do(i, f)
				return err
			})
		}
		if err != nil {
			return err
		}
		if undo != nil {
			d.pending = append(d.pending, pending{time.Now().Add(f.For), undo})
			slices.SortStableFunc(d.pending, func(a, b pending) int { return a.at.Compare(b.at) })
		}
	}
	return d.until(began.Add(w.plan.Round))
}

// until undoes what is to end by a time, and waits for it.
func (d *driver) until(at time.Time) error {
	for len(d.pending) > 0 && !d.pending[0].at.After(at) {
		next := d.pending[0]
		if !d.world.sleep(time.Until(next.at)) {
			return nil
		}
		d.pending = d.pending[1:]
		if err := d.world.handle(next.undo); err != nil {
			return err
		}
	}
	d.world.sleep(time.Until(at))
	return nil
}

// heal undoes whatever is left, and starts whoever is down.
func (d *driver) heal() error {
	for _, p := range d.pending {
		if err := d.world.handle(p.undo); err != nil {
			return err
		}
	}
	d.pending = nil
	return d.world.handle(func() error {
		for _, n := range d.world.present() {
			if n.running() == nil && !n.lost.Load() {
				if err := n.start(); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// do carries out fault i and gives how to undo it.
func (d *driver) do(i int, f fault) (undo func() error, err error) {
	w := d.world
	if f.Target == roleLeader {
		f.Target = w.present()[i%len(w.present())].name()
		if leader := w.leader(); leader != nil {
			f.Target = leader.name()
		}
		w.recorder.hit(i, f.Target)
	}
	f.Others = slices.DeleteFunc(slices.Clone(f.Others), func(name string) bool { return name == f.Target || w.named(name) == nil })
	n := w.named(f.Target)
	if n == nil && f.Kind != faultLook {
		w.note("there is no %s: %s", f.Target, f)
		return nil, nil
	}
	w.recorder.carry(f)
	switch f.Kind {
	case faultLook:
		w.look()
		return nil, nil
	case faultPartition:
		return d.partition(append(f.Others, f.Target)), nil
	case faultOneWay:
		var links []link
		for _, other := range f.Others {
			links = append(links, link{f.Target, other})
		}
		return d.cut(links), nil
	case faultBridge:
		var links []link
		for _, a := range w.present() {
			for _, b := range w.present() {
				if a != n && b != n && slices.Contains(f.Others, a.name()) != slices.Contains(f.Others, b.name()) {
					links = append(links, link{a.name(), b.name()})
				}
			}
		}
		return d.cut(links), nil
	case faultSlow:
		return d.slow(f.Target, time.Duration(f.Amount)*time.Millisecond), nil
	case faultStall:
		until := time.Now().Add(min(f.For, 30*time.Second))
		w.network.alter(func(of func(link) *fate) {
			for _, other := range f.Others {
				of(link{f.Target, other}).until = until
			}
		})
		return nil, nil
	case faultReset:
		for _, other := range w.present() {
			w.network.reset(f.Target, other.name())
		}
		return nil, nil
	case faultClock:
		n.clock.Store(f.Amount)
		return func() error { n.clock.Store(0); return nil }, nil
	case faultDuplicate:
		n.messages.again.Store(true)
		return func() error { n.messages.again.Store(false); return nil }, nil
	case faultLate:
		n.messages.late.Store(true)
		return func() error { n.messages.late.Store(false); return nil }, nil
	}
	return d.doProcess(n, f)
}

// doProcess carries out what happens to processes and disks.
func (d *driver) doProcess(n *node, f fault) (undo func() error, err error) {
	restart := func() error {
		if n.running() != nil || n.lost.Load() || d.world.named(n.name()) != n {
			return nil
		}
		return n.start()
	}
	switch f.Kind {
	case faultCrash:
		return restart, n.crash()
	case faultCrashAll:
		for _, one := range d.world.present() {
			if err := one.crash(); err != nil {
				return nil, err
			}
		}
		return func() error {
			for _, one := range d.world.present() {
				if one.running() == nil && !one.lost.Load() {
					if err := one.start(); err != nil {
						return err
					}
				}
			}
			return nil
		}, nil
	case faultRestart:
		if err := n.stop(); err != nil {
			return nil, fmt.Errorf("stop %s: %w", n.name(), err)
		}
		return restart, nil
	case faultFull:
		disk := n.disk
		disk.ail(errFull)
		return d.freshStart(n, disk), nil
	case faultFailing:
		disk := n.disk
		disk.ail(errFailing)
		return d.freshStart(n, disk), nil
	case faultSlowDisk:
		disk := n.disk
		disk.stop()
		return func() error { disk.resume(); return nil }, nil
	}
	return nil, fmt.Errorf("unknown fault %q", f.Kind)
}

// freshStart makes a disk well and starts the process on it anew, as an operator
// does: what an archive could not write it gives up until then.
func (d *driver) freshStart(n *node, ailing *disk) func() error {
	return func() error {
		ailing.ail(nil)
		if n.running() == nil || n.disk != ailing {
			return nil
		}
		if err := n.crash(); err != nil {
			return err
		}
		return n.start()
	}
}

func (d *driver) cut(links []link) (undo func() error) {
	change := func(by int) {
		d.world.network.alter(func(of func(link) *fate) {
			for _, l := range links {
				of(l).cut += by
			}
		})
	}
	change(1)
	return func() error { change(-1); return nil }
}

// partition cuts a side from the rest, and marks whoever is left without a
// quorum, for as long as that is sure.
func (d *driver) partition(side []string) (undo func() error) {
	w := d.world
	var links []link
	var left []*node
	nodes := w.present()
	minority := len(side) <= len(nodes)/2
	for _, a := range nodes {
		within := slices.Contains(side, a.name())
		if within == minority || 2*len(side) == len(nodes) {
			left = append(left, a)
		}
		for _, b := range nodes {
			if within != slices.Contains(side, b.name()) {
				links = append(links, link{a.name(), b.name()})
			}
		}
	}
	d.partitions++
	number := d.partitions
	heal := d.cut(links)
	for _, n := range left {
		if w.steward.changing() == "" { // else who votes is changing
			n.minority.CompareAndSwap(0, number)
		}
	}
	return func() error {
		for _, n := range left {
			n.minority.CompareAndSwap(number, 0)
		}
		return heal()
	}
}

func (d *driver) slow(target string, by time.Duration) (undo func() error) {
	change := func(by time.Duration) {
		d.world.network.alter(func(of func(link) *fate) {
			for _, other := range d.world.present() {
				of(link{target, other.name()}).slow = by
				of(link{other.name(), target}).slow = by
			}
		})
	}
	change(by)
	return func() error { change(0); return nil }
}
