package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// lose takes the quorum away for good, lets the council go on with the replicas
// that are left (f.Others) and new ones in the place of the lost, and has the old
// majority come back with its disks. What ails the world is healed before, so
// that whatever was certified then is known to everybody.
func (d *driver) lose(f fault, number int) error {
	w := d.world
	if err := d.heal(); err != nil || w.failed() != nil {
		return err
	}
	w.steward.settle()
	w.resume(number)
	var left, lost []*node
	for _, n := range w.present() {
		if slices.Contains(f.Others, n.name()) {
			left = append(left, n)
		} else {
			lost = append(lost, n)
		}
	}
	w.look()
	for _, n := range lost {
		n.lost.Store(true)
		if err := n.crash(); err != nil {
			return err
		}
	}
	d.partitions++
	for _, n := range left {
		n.minority.Store(d.partitions)
	}
	w.sleep(f.For)
	for _, n := range left {
		n.minority.Store(0)
		if err := n.stop(); err != nil {
			return fmt.Errorf("stop %s: %w", n.name(), err)
		}
	}
	if w.failed() != nil {
		return nil
	}
	if w.aged != nil {
		w.aged(left)
	}
	fresh, err := d.recover(left, lost)
	if err != nil || w.failed() != nil {
		return err
	}
	for _, n := range append(slices.Clone(left), fresh...) {
		if err := n.start(); err != nil {
			return err
		}
	}
	if err := d.joined(append(left, fresh...)); err != nil {
		return err
	}
	return d.returned(lost)
}

// recover is what operators and council do: they compare what the disks that are
// left hold, sign for the newest head, and apply that to each of them. It gives
// the new replicas, which are not started yet.
func (d *driver) recover(left, lost []*node) (fresh []*node, err error) {
	w := d.world
	var best *replica.Survivor
	surveys := map[*node]*replica.Survivor{}
	for _, n := range left {
		s, err := replica.Survey(n.dir, w.entry)
		if err != nil {
			return nil, fmt.Errorf("survey %s: %w", n.name(), err)
		}
		if surveys[n] = s; best == nil || s.Head.Size > best.Head.Size {
			best = s
		}
	}
	body := ledger.Recover{At: uint64(time.Now().UnixMilli()), Generation: best.Generation + 1, Head: best.Head}
	body.Until = body.At + uint64(time.Hour.Milliseconds())
	for _, n := range left {
		body.Keep = append(body.Keep, n.name())
	}
	for _, n := range lost {
		one := w.steward.fresh(n.name(), true)
		body.New = append(body.New, one.record)
		fresh = append(fresh, w.newNode(one))
	}
	statements, err := w.signRecovery(body, best.Authority)
	if err != nil {
		return nil, err
	}
	for _, n := range left {
		if surveys[n].Whole < best.Head.Size {
			w.note("%s has %d entries of %d: it can't be recovered as it is", n.name(), surveys[n].Whole, best.Head.Size)
		}
		for range 2 { // the second changes nothing
			report, err := replica.Recover(context.Background(), replica.RecoverOptions{Dir: n.dir, Name: n.name(), Genesis: w.entry, Key: n.key.Public(),
				LogStore: n.store(), Statements: statements, Checkpoint: best.Checkpoint, Links: best.Links})
			if err != nil {
				return nil, fmt.Errorf("recover %s: %w", n.name(), err)
			}
			w.note("recovered %s as generation %d from size %d, %d statements dropped, already %t", n.name(), report.Generation, report.Size, report.Dropped, report.Already)
		}
	}
	w.checks.fork(body, left, len(left)+len(lost))
	w.traffic.fork(body)
	w.generation.Store(body.Generation)
	for i, n := range lost {
		n.left.Store(true)
		w.replace(n, fresh[i])
	}
	return fresh, nil
}

// signRecovery makes the statements with which the council of an authority goes
// on.
func (w *world) signRecovery(body ledger.Recover, a ledger.Authority) ([][]byte, error) {
	var statements [][]byte
	var first ledger.Hash
	for _, m := range a.Council {
		k := w.keyNamed(m.KeyID())
		if k == nil {
			return nil, fmt.Errorf("nobody has the key of %s", m.Name)
		}
		typ, content := ledger.TypeRecover, any(body)
		if len(statements) > 0 {
			typ, content = ledger.TypeApprove, ledger.Ballot{Proposal: first}
		}
		envelope, err := ledger.Sign(k, ledger.Payload{Author: m.Name, Generation: body.Generation - 1, Ledger: w.hash, Type: typ}, content)
		if err != nil {
			return nil, err
		}
		if len(statements) == 0 {
			st, err := ledger.ParseStatement(envelope)
			if err != nil {
				return nil, err
			}
			first = st.ID
		}
		if statements = append(statements, envelope); uint64(len(statements)) >= a.RecoverThreshold() {
			break
		}
	}
	return statements, nil
}

// joined waits until all replicas of the new generation are active and vote.
func (d *driver) joined(nodes []*node) error {
	w := d.world
	began := time.Now()
	for slices.ContainsFunc(nodes, func(n *node) bool { return !w.arrived(n) }) {
		if time.Since(began) > memberLimit {
			w.checks.fail(invariantMembers, "after a recovery not everybody is active within %s: %s", memberLimit, w.standings())
		}
		if !w.sleep(time.Second) {
			return nil
		}
	}
	return nil
}

// returned starts the replicas of the branch that was left, as their operators
// may who know of nothing: they must find out and stop. They end here for good.
func (d *driver) returned(lost []*node) error {
	w := d.world
	for _, n := range lost {
		n.station = "left-" + n.name()
	}
	if w.untold {
		defer d.cut(w.between(lost))()
	}
	for _, n := range lost {
		if err := n.start(); err != nil {
			return err
		}
	}
	began := time.Now()
	for slices.ContainsFunc(lost, func(n *node) bool { return n.running().replica.Status().Role != replica.RoleHalted }) {
		if time.Since(began) > returnLimit {
			w.checks.fail(invariantBranches, "replicas that a recovery left out go on for %s", returnLimit)
		}
		if !w.sleep(time.Second) {
			break
		}
	}
	for _, n := range lost {
		if err := n.stop(); err != nil && !errors.Is(err, replica.ErrHalted) {
			return fmt.Errorf("stop %s: %w", n.name(), err)
		}
	}
	return nil
}

// between lists the links between some replicas and the present ones.
func (w *world) between(some []*node) []link {
	var links []link
	for _, a := range some {
		for _, b := range w.present() {
			links = append(links, link{a.station, b.station}, link{b.station, a.station})
		}
	}
	return links
}

// branch is the one that a recovery left.
type branch struct {
	size      uint64 // newest certified when it was left
	threshold int
	signers   map[ledger.Head]map[string]bool
}

// fork goes on with the branch that a recovery opens: all that was certified
// must be in it, and is compared again when the archives are read.
func (c *checks) fork(body ledger.Recover, left []*node, replicas int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := body.Head.Size
	newest := uint64(0)
	for s := range c.heads {
		newest = max(newest, s)
	}
	for _, n := range left {
		if n.published > size {
			c.fail(invariantBranches, "the recovery goes on from size %d, and %s had published the certified head of size %d", size, n.name(), n.published)
		}
	}
	if c.resumed >= size {
		c.fail(invariantBranches, "the recovery goes on from size %d, and entry %d was certified everywhere", size, c.resumed)
	}
	if head, ok := c.heads[size]; !ok || head.Root != body.Head.Root {
		c.fail(invariantBranches, "the recovery goes on from a head of size %d that nobody published", size)
	}
	c.left = &branch{size: newest, threshold: ledger.CosignThreshold(replicas), signers: map[ledger.Head]map[string]bool{}}
	c.before = c.history[:min(size, uint64(len(c.history)))]
	c.history, c.ids, c.decision = nil, map[ledger.Hash][]uint64{}, newDecisions(c.founding)
	kept := append(c.settled, c.acks...)
	c.acks, c.settled = nil, nil
	for _, a := range kept {
		if a.seq < size {
			c.acks = append(c.acks, a)
		} else if a.certified && slices.ContainsFunc(left, func(n *node) bool { return n.name() == a.by }) {
			c.fail(invariantBranches, "%s acknowledged entry %d as certified, and the recovery goes on from size %d", a.by, a.seq, size)
		}
	}
	c.most = min(c.most, size-1)
	for s := range c.digests {
		if s > size {
			delete(c.digests, s)
		}
	}
	for s := range c.heads {
		if s > size {
			delete(c.heads, s)
		}
	}
	for s := range c.signers {
		if s > size {
			delete(c.signers, s)
		}
	}
}

// leftSigned hears of a head that a replica of the left branch cosigned after
// the recovery: too few may do so to certify it.
func (c *checks) leftSigned(name string, head ledger.Head) {
	if head.Size <= c.left.size {
		return
	}
	if c.left.signers[head] == nil {
		c.left.signers[head] = map[string]bool{}
	}
	c.left.signers[head][name] = true
	if len(c.left.signers[head]) >= c.left.threshold {
		c.fail(invariantBranches, "%d replicas of the branch that was left cosigned its size %d", len(c.left.signers[head]), head.Size)
	}
}

// fork forgets where statements stood that the branch may not have.
func (t *traffic) fork(body ledger.Recover) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.said {
		if s.seq >= body.Head.Size {
			s.seq = 0
		}
	}
}
