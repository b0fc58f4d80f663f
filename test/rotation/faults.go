package main

import (
	"context"
	"fmt"
	"path/filepath"
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
	done          int
}

// at is the epoch at so many hundredths of the run.
func (d *disaster) at(hundredths float64) uint64 {
	return d.begin + uint64(float64(d.epochs)*hundredths/100)
}

// strikes plays all faults.
func (d *disaster) strikes(ctx context.Context) error {
	for _, one := range []func(context.Context) error{d.rollsAgents, d.rollsReplicas, d.cuts, d.killsLeader, d.leavesOneAway} {
		if err := one(ctx); err != nil {
			return err
		}
		d.done++
	}
	return nil
}

// faults is how many there are.
const faults = 5

func (d *disaster) rollsAgents(ctx context.Context) error {
	longest := time.Duration(0)
	for i, a := range d.agents {
		if err := d.until(ctx, d.at(10+20*float64(i)/nodesOfFleet)); err != nil {
			return err
		}
		began := time.Now()
		back := d.away(a, false, false)
		d.ends(a.name, &a.process)
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
		d.ends(r.name, &r.process)
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

// cuts stops five agents and a replica that follows, for two epochs.
func (d *disaster) cuts(ctx context.Context) error {
	if err := d.until(ctx, d.at(50)); err != nil {
		return err
	}
	leader, err := d.leader(ctx)
	if err != nil {
		return err
	}
	var cut *replica
	for _, r := range d.replicas {
		if r != leader {
			cut = r
		}
	}
	agents := d.agents[2 : 2+cutAgents]
	var back []func()
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
	if waited != nil {
		return waited
	}
	took, woken := time.Since(began), time.Now()
	for i, a := range agents {
		if err := d.follows(ctx, a); err != nil {
			return err
		}
		back[i]()
	}
	if err := d.ready(ctx, cut); err != nil {
		return err
	}
	d.Says("partition", "epochs %d to %d: %s and %d agents of as many operators stopped (SIGSTOP) for %.1f s; all follow %.1f s later", from, from+cutEpochs, cut.name, cutAgents, took.Seconds(), time.Since(woken).Seconds())
	return nil
}

func (d *disaster) signals(sig syscall.Signal, r *replica, agents []*agent) error {
	err := r.process.Signal(sig)
	for _, a := range agents {
		if failed := a.process.Signal(sig); err == nil {
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
	_ = old.process.End(syscall.SIGKILL, stopLimit) // it says that it was killed
	old.process = nil
	now, err := d.leader(ctx)
	if err != nil {
		return err
	}
	elected := time.Since(began)
	d.Demand(now != old, "%s was killed and leads", old.name)
	if err := d.startReplica(old); err != nil {
		return err
	}
	if err := d.ready(ctx, old); err != nil {
		return err
	}
	d.Says("leader", "epoch %d: %s is killed (SIGKILL); %s leads %.1f s later, and %s follows it again after %.1f s in all", d.at(62), old.name, now.name, elected.Seconds(), old.name, time.Since(began).Seconds())
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
	d.victim = a.name
	began := d.newest.Load()
	back := d.away(a, false, true)
	d.ends(a.name, &a.process)
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
	d.ends(a.name, &a.process)
	join, err := d.makes(a, a.name+"-again")
	if err != nil {
		return err
	}
	path := filepath.Join("joins", a.name+"-again.cose")
	if err := d.writes(path, join); err != nil {
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
	d.Says("away", "%s is away from epoch %d on; its key ends with epoch %d, no successor. It comes back: %.150s", a.name, began, ends, word)
	d.Says("away", "what it signs then is refused: %s; re-keyed by decision, it follows and speaks in epoch %d", code, d.newest.Load())
	return nil
}

// chooses finds the agent whose key ends first of those whose window is still to come.
func (d *disaster) chooses(ctx context.Context) (chosen *agent, ends uint64, err error) {
	err = stagehand.Await(ctx, patience, "a node's window is still to come", func() bool {
		for _, a := range d.agents {
			s, err := d.ask(ctx, a)
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
	var s agentStatus
	err = stagehand.Await(ctx, patience, a.name+" says that its key ended", func() bool {
		s, _ = d.ask(ctx, a)
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
	s, err := d.ask(ctx, a)
	if err != nil {
		d.Fail("ask %s: %v", a.name, err)
	}
	made, _ := filepath.Glob(filepath.Join(a.dir, "state", "keys", "*.key"))
	for _, path := range append(made, filepath.Join(a.dir, "node.key")) {
		file, err := keys.ReadFile(path, nil)
		if err != nil || ledger.Hash(file.Key.ID()).String() != s.Key.ID {
			continue
		}
		got := d.quorate(ctx, "record", "--text", "I am back", "--key", path)
		d.Demand(got.code == 1 && strings.Contains(got.all(), "key_expired"), "a record of %s under its expired key: exit code %d: %.300s", a.name, got.code, got.all())
		return "key_expired"
	}
	d.Fail("%s has no file of its key %s", a.name, s.Key.ID)
	return "never signed"
}
