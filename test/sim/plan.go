package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// plan is all of a run that chance decides beforehand. It follows from the seed
// alone; only targets given as a role ("leader") are settled while it runs.
type plan struct {
	Seed     uint64        `json:"seed"`
	Replicas int           `json:"replicas"`
	Rounds   int           `json:"rounds"`
	Round    time.Duration `json:"round"` // of faults; a calm follows, in which everything must heal
	Calm     time.Duration `json:"calm"`  // at the end of each round
	Pace     time.Duration `json:"pace"`  // longest wait of a client between what it does
	Faults   []fault       `json:"faults"`
	Liars    []string      `json:"liars,omitempty"`
}

// fault is one thing that goes wrong, at a time since its round began, for a
// while.
type fault struct {
	Round  int           `json:"round"`
	At     time.Duration `json:"at"`
	For    time.Duration `json:"for"`
	Kind   string        `json:"kind"`
	Target string        `json:"target,omitempty"` // a replica, or a role
	Others []string      `json:"others,omitempty"` // of a partition: those on the target's side; of a one-way cut: whom it does not reach
	Amount int64         `json:"amount,omitempty"` // milliseconds: of a clock's jump, or the longest delay
}

func (f fault) String() string {
	s := fmt.Sprintf("%s %s", f.Kind, f.Target)
	if len(f.Others) > 0 {
		s += fmt.Sprintf(" with %v", f.Others)
	}
	if f.Amount != 0 {
		s += fmt.Sprintf(" %d ms", f.Amount)
	}
	return s + " for " + f.For.String()
}

// The kinds of faults.
const (
	faultPartition = "partition" // target and others from the rest, both ways
	faultOneWay    = "one-way"   // what the target says does not reach the others
	faultBridge    = "bridge"    // two halves that only the target connects
	faultSlow      = "slow"      // each delivery from and to the target takes up to amount longer
	faultStall     = "stall"     // nothing passes from the target to one other, then all of it
	faultReset     = "reset"     // the target's streams break
	faultCrash     = "crash"     // and starts again from the disk after a while
	faultCrashAll  = "crash-all"
	faultRestart   = "restart"    // gracefully
	faultClock     = "clock"      // the target's wall clock jumps by amount, and back
	faultFull      = "disk-full"  // writes fail with ENOSPC
	faultFailing   = "disk-fails" // writes fail with EIO; the process is started anew after
	faultSlowDisk  = "disk-stall" // writes wait
	faultDuplicate = "duplicate"  // the target's Raft requests are sent again later
	faultLate      = "late"       // answers to the target's Raft requests come late

	// faultLook is none: the archives are compared.
	faultLook = "look"
)

// roleLeader is the target that leads when the fault comes.
const roleLeader = "leader"

// faultWeights says how often each kind is drawn.
var faultWeights = []struct {
	kind   string
	weight int
}{
	{faultPartition, 14}, {faultOneWay, 10}, {faultBridge, 6}, {faultSlow, 8}, {faultStall, 6}, {faultReset, 6},
	{faultCrash, 16}, {faultCrashAll, 2}, {faultRestart, 4}, {faultClock, 8}, {faultFull, 4}, {faultFailing, 4},
	{faultSlowDisk, 5}, {faultDuplicate, 8}, {faultLate, 6},
}

// draw makes a plan of rounds that last about hours in all, calms included.
func draw(seed uint64, replicas int, length time.Duration) *plan {
	p := &plan{Seed: seed, Replicas: replicas, Round: 20 * time.Minute, Calm: calm, Pace: pace}
	p.Rounds = max(int(length/(p.Round+p.Calm)), 1)
	chance := chanceFor(seed, "plan")
	for round := range p.Rounds {
		var faults []fault
		for range 3 + chance.IntN(10) {
			faults = append(faults, p.drawFault(chance, round))
		}
		for at := lookEvery; at < p.Round; at += lookEvery {
			faults = append(faults, fault{Round: round, At: at, Kind: faultLook})
		}
		slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
		p.Faults = append(p.Faults, faults...)
	}
	return p
}

func (p *plan) drawFault(chance *rand.Rand, round int) fault {
	f := fault{Round: round, At: between(chance, 0, p.Round-time.Minute)}
	f.For = min(between(chance, 5*time.Second, 6*time.Minute), p.Round-f.At)
	total := 0
	for _, one := range faultWeights {
		total += one.weight
	}
	at := chance.IntN(total)
	for _, one := range faultWeights {
		if at -= one.weight; at < 0 {
			f.Kind = one.kind
			break
		}
	}
	names := make([]string, p.Replicas)
	for i, k := range chance.Perm(p.Replicas) {
		names[i] = fmt.Sprintf("r%d", k+1)
	}
	f.Target = names[0]
	if chance.IntN(3) == 0 {
		f.Target = roleLeader
	}
	switch f.Kind {
	case faultPartition:
		f.Others = names[1 : 1+chance.IntN((p.Replicas+1)/2)]
	case faultOneWay:
		f.Others = names[1 : 2+chance.IntN(p.Replicas-1)]
	case faultBridge:
		f.Others = names[1 : 1+p.Replicas/2]
	case faultStall:
		f.Others = names[1:2]
	case faultSlow:
		f.Amount = between(chance, int64(20), 8_000)
	case faultClock:
		f.Amount = []int64{3_600_000, -3_600_000, 20_000, -20_000, 3_000, -3_000}[chance.IntN(6)]
	case faultSlowDisk:
		f.For = min(f.For, time.Minute)
	}
	return f
}
