package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/stagehand"
)

// disaster is the faults of a run, in their order, and what became of them.
type disaster struct {
	*fleet
	begin, epochs uint64
	victim        string // whose key expired
	parted        partition
	done          int
}

// at is the epoch at so many hundredths of the run.
func (d *disaster) at(hundredths float64) uint64 {
	return d.begin + uint64(float64(d.epochs)*hundredths/100)
}

// strikes plays all faults.
func (d *disaster) strikes(ctx context.Context) error {
	for _, one := range []func(context.Context) error{d.rollsAgents, d.rollsReplicas, d.parts, d.pauses, d.killsLeader, d.leavesOneAway} {
		if err := one(ctx); err != nil {
			return err
		}
		d.done++
	}
	return nil
}

// faults is how many there are.
const faults = 6

func (d *disaster) rollsAgents(ctx context.Context) error {
	longest := time.Duration(0)
	for i, a := range d.agents {
		if err := d.until(ctx, d.at(10+20*float64(i)/nodesOfFleet)); err != nil {
			return err
		}
		began := time.Now()
		back := d.away(a, false, false)
		d.Ends(a.Name, &a.Process, stopLimit)
		if err := d.startAgent(a); err != nil {
			return err
		}
		if err := d.follows(ctx, a); err != nil {
			return err
		}
		back()
		longest = max(longest, time.Since(began))
	}
	d.Says("agents", "epochs %d to %d: all %d ended and started again, one by one; back after %.1f s at most", d.at(10), d.newest.Load(), nodesOfFleet, longest.Seconds())
	return nil
}

func (d *disaster) rollsReplicas(ctx context.Context) error {
	longest := time.Duration(0)
	for i, r := range d.replicas {
		if err := d.until(ctx, d.at(35+10*float64(i)/replicasOfFleet)); err != nil {
			return err
		}
		began := time.Now()
		d.Ends(r.Name, &r.Process, stopLimit)
		if err := d.startReplica(r); err != nil {
			return err
		}
		if err := d.ready(ctx, r); err != nil {
			return err
		}
		longest = max(longest, time.Since(began))
	}
	d.Says("replicas", "epochs %d to %d: all ended and started again, one by one; back after %.1f s at most", d.at(35), d.newest.Load(), longest.Seconds())
	return nil
}

// parts cuts the lines between five agents with a replica that follows and all others,
// for two epochs: both sides run, speak, and hear their own.
func (d *disaster) parts(ctx context.Context) error {
	if err := d.until(ctx, d.at(46)); err != nil || d.lines == nil {
		return err
	}
	cut, agents, err := d.some(ctx)
	if err != nil {
		return err
	}
	var nodes []int
	var back []func()
	others := d.hindersAllBut(agents)
	for _, a := range agents {
		nodes = append(nodes, slices.Index(d.agents, a))
		back = append(back, d.hinders(a))
		d.parted.names = append(d.parted.names, a.Name)
	}
	from, before := d.newest.Load(), d.lines.Parted()
	if err := d.places.parts(nodes, []int{slices.Index(d.replicas, cut)}); err != nil {
		return err
	}
	d.parted.from = time.Now()
	waited := d.until(ctx, from+cutEpochs+1) // two whole ones
	apart := d.areApart(ctx, cut, agents)
	d.parted.to = time.Now()
	d.lines.Mend()
	others()
	if err := errors.Join(waited, apart); err != nil {
		return err
	}
	dropped := d.lines.Parted() - before
	d.Demand(dropped > 0, "no packet was for the other side: nothing was parted")
	if err := d.allFollow(ctx, cut, agents, back); err != nil {
		return err
	}
	d.Says("partition", "epochs %d to %d: the lines between %s with %d agents of as many operators and all others are cut for %.1f s, %d packets dropped; all follow %.1f s later",
		from, from+cutEpochs, cut.Name, cutAgents, d.parted.to.Sub(d.parted.from).Seconds(), dropped, time.Since(d.parted.to).Seconds())
	return nil
}

// areApart demands that those who are cut off run, and have heard of nothing since.
func (d *disaster) areApart(ctx context.Context, cut *stagehand.Replica, agents []*agent) error {
	leader, err := d.leader(ctx)
	if err != nil {
		return err
	}
	there, err := d.replicaStatus(ctx, leader)
	if err != nil {
		return err
	}
	here, err := d.replicaStatus(ctx, cut)
	if err != nil {
		return err
	}
	d.Demand(leader != cut && here.Certified < there.Certified, "%s, which is cut off, has a head of %d, the others of %d", cut.Name, here.Certified, there.Certified)
	for _, a := range agents {
		s, err := a.Status(ctx)
		if err != nil {
			return err
		}
		d.Demand(s.Epoch < d.newest.Load() && s.Peers > 0, "%s, which is cut off, knows epoch %d of %d, and has %d peers", a.Name, s.Epoch, d.newest.Load(), s.Peers)
	}
	return nil
}

// spares gives five agents whose key is in force for long enough that two epochs without
// the ledger leave time to rotate it: one that has less would need to be re-keyed, as the
// one that is left away does.
func (d *disaster) spares(ctx context.Context) (list []*agent, err error) {
	err = stagehand.Await(ctx, time.Duration(keyEpochs)*d.epoch, "five agents have time to spare", func() bool {
		list = nil
		for _, a := range d.agents {
			s, err := a.Status(ctx)
			if err == nil && len(list) < cutAgents && (s.Key.Next != "" || s.Key.ValidTo >= d.newest.Load()+cutEpochs+rotateEpochs) {
				list = append(list, a)
			}
		}
		return len(list) == cutAgents
	})
	return list, err
}

// follower gives a replica that does not lead now.
func (d *disaster) follower(ctx context.Context) (*stagehand.Replica, error) {
	leader, err := d.leader(ctx)
	for _, r := range d.replicas {
		if r != leader && err == nil {
			return r, nil
		}
	}
	return nil, err
}

// some gives a replica that follows and five agents, for whom two epochs can go wrong.
func (d *disaster) some(ctx context.Context) (*stagehand.Replica, []*agent, error) {
	cut, err := d.follower(ctx)
	if err != nil {
		return nil, nil, err
	}
	agents, err := d.spares(ctx)
	return cut, agents, err
}

// allFollow waits until those who were cut off or stopped follow the ledger again; each
// agent's back is called then.
func (d *disaster) allFollow(ctx context.Context, cut *stagehand.Replica, agents []*agent, back []func()) error {
	for i, a := range agents {
		if err := d.follows(ctx, a); err != nil {
			return err
		}
		back[i]()
	}
	return d.ready(ctx, cut)
}

// pauses stops five agents and a replica that follows, for two epochs.
func (d *disaster) pauses(ctx context.Context) error {
	if err := d.until(ctx, d.at(54)); err != nil {
		return err
	}
	cut, agents, err := d.some(ctx)
	if err != nil {
		return err
	}
	var back []func()
	others := d.hindersAllBut(agents)
	for _, a := range agents {
		back = append(back, d.away(a, true, true))
	}
	from := d.newest.Load()
	if err := d.signals(syscall.SIGSTOP, cut, agents); err != nil {
		return err
	}
	began := time.Now()
	waited := d.until(ctx, from+cutEpochs+1) // two whole ones
	if err := d.signals(syscall.SIGCONT, cut, agents); err != nil {
		return err
	}
	others()
	if waited != nil {
		return waited
	}
	took, woken := time.Since(began), time.Now()
	if err := d.allFollow(ctx, cut, agents, back); err != nil {
		return err
	}
	d.Says("pause", "epochs %d to %d: %s and %d agents of as many operators stopped (SIGSTOP) for %.1f s; all follow %.1f s later", from, from+cutEpochs, cut.Name, cutAgents, took.Seconds(), time.Since(woken).Seconds())
	return nil
}

func (d *disaster) signals(sig syscall.Signal, r *stagehand.Replica, agents []*agent) error {
	err := r.Process.Signal(sig)
	for _, a := range agents {
		if failed := a.Process.Signal(sig); err == nil {
			err = failed
		}
	}
	return err
}

func (d *disaster) killsLeader(ctx context.Context) error {
	if err := d.until(ctx, d.at(62)); err != nil {
		return err
	}
	old, err := d.leader(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	_ = old.Process.End(syscall.SIGKILL, stopLimit) // it says that it was killed
	old.Process = nil
	now, err := d.leader(ctx)
	if err != nil {
		return err
	}
	elected := time.Since(began)
	d.Demand(now != old, "%s was killed and leads", old.Name)
	if err := d.startReplica(old); err != nil {
		return err
	}
	if err := d.ready(ctx, old); err != nil {
		return err
	}
	d.Says("leader", "epoch %d: %s is killed (SIGKILL); %s leads %.1f s later, and %s follows it again after %.1f s in all", d.at(62), old.Name, now.Name, elected.Seconds(), old.Name, time.Since(began).Seconds())
	return nil
}

// leavesOneAway ends an agent before its window and until its key expired, and has the
// node re-keyed.
func (d *disaster) leavesOneAway(ctx context.Context) error {
	if err := d.until(ctx, d.at(70)); err != nil {
		return err
	}
	a, ends, err := d.chooses(ctx)
	if err != nil {
		return err
	}
	d.victim = a.Name
	began := d.newest.Load()
	back := d.away(a, false, true)
	d.Ends(a.Name, &a.Process, stopLimit)
	if err := d.until(ctx, ends+graceEpochs+1); err != nil {
		return err
	}
	if err := d.startAgent(a); err != nil {
		return err
	}
	word, err := d.comesBackExpired(ctx, a)
	if err != nil {
		return err
	}
	code := d.refused(ctx, a)
	d.Ends(a.Name, &a.Process, stopLimit)
	join, err := d.makes(a, a.Name+"-again")
	if err != nil {
		return err
	}
	path := filepath.Join("joins", a.Name+"-again.cose")
	if err := d.Writes(path, join); err != nil {
		return err
	}
	if err := d.decides(ctx, "node.rekey", "join=@"+path); err != nil {
		return err
	}
	if err := d.startAgent(a); err != nil {
		return err
	}
	if err := d.follows(ctx, a); err != nil {
		return err
	}
	back()
	d.Says("away", "%s is away from epoch %d on; its key ends with epoch %d, no successor. It comes back: %.150s", a.Name, began, ends, word)
	d.Says("away", "what it signs then is refused: %s; re-keyed by decision, it follows and speaks in epoch %d", code, d.newest.Load())
	return nil
}

// chooses finds the agent whose key ends first of those whose window is still to come.
func (d *disaster) chooses(ctx context.Context) (chosen *agent, ends uint64, err error) {
	err = stagehand.Await(ctx, patience, "a node's window is still to come", func() bool {
		for _, a := range d.agents {
			s, err := a.Status(ctx)
			if err == nil && s.Key.Next == "" && s.Key.ValidTo >= d.newest.Load()+rotateEpochs+1 && (chosen == nil || s.Key.ValidTo < ends) {
				chosen, ends = a, s.Key.ValidTo
			}
		}
		return chosen != nil
	})
	return chosen, ends, err
}

// comesBackExpired gives what an agent says of a key that is over.
func (d *disaster) comesBackExpired(ctx context.Context, a *agent) (word string, err error) {
	var s stagehand.AgentStatus
	err = stagehand.Await(ctx, patience, a.Name+" says that its key ended", func() bool {
		s, _ = a.Status(ctx)
		word = s.Trouble["key"]
		return strings.Contains(word, "re-keyed by decision")
	})
	if err != nil {
		return "", fmt.Errorf("%w: %+v", err, s)
	}
	return word, nil
}

// refused signs something under the key of a node that expired, and gives the code with
// which the ledger refuses it.
func (d *disaster) refused(ctx context.Context, a *agent) string {
	s, err := a.Status(ctx)
	if err != nil {
		d.Fail("ask %s: %v", a.Name, err)
	}
	made, _ := filepath.Glob(filepath.Join(a.dir, "state", "keys", "*.key"))
	for _, path := range append(made, filepath.Join(a.dir, "node.key")) {
		file, err := keys.ReadFile(path, nil)
		if err != nil || ledger.Hash(file.Key.ID()).String() != s.Key.ID {
			continue
		}
		got := d.Command(ctx, "record", "--text", "I am back", "--key", path)
		d.Demand(got.Code == 1 && strings.Contains(got.All(), "key_expired"), "a record of %s under its expired key: exit code %d: %.300s", a.Name, got.Code, got.All())
		return "key_expired"
	}
	d.Fail("%s has no file of its key %s", a.Name, s.Key.ID)
	return "never signed"
}
