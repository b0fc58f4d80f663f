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
	Clients  int           `json:"clients"`
	Liars    []string      `json:"liars,omitempty"`
	LogStore string        `json:"log_store,omitempty"` // of every replica; "": of one in three raft-wal, else bolt
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

	faultAdd    = "add"    // a replica joins
	faultRemove = "remove" // one is removed
	faultRekey  = "re-key" // one gets new keys, after its disk was lost if amount is not 0
	faultLose   = "lose"   // all but the others are lost for good, the council goes on with these, and the lost come back

	// faultLook is none: the archives are compared.
	faultLook = "look"
)

// changes says whether a kind changes who the replicas are.
func changes(kind string) bool {
	return kind == faultAdd || kind == faultRemove || kind == faultRekey || kind == faultLose
}

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
	p := &plan{Seed: seed, Replicas: replicas, Round: 20 * time.Minute, Calm: calm, Pace: pace, Clients: clients}
	p.Rounds = max(int(length/(p.Round+p.Calm)), 1)
	chance := chanceFor(seed, "plan")
	names := make([]string, replicas)
	for i := range names {
		names[i] = fmt.Sprintf("r%d", i+1)
	}
	for round := range p.Rounds {
		var faults []fault
		change, after := drawChange(chance, names, replicas)
		change.Round = round
		for range 3 + chance.IntN(10) {
			if f := p.drawFault(chance, round, union(names, after)); change.Kind != faultLose || f.At < change.At {
				faults = append(faults, f)
			}
		}
		faults, names = append(faults, change), after
		for at := lookEvery; at < p.Round; at += lookEvery {
			faults = append(faults, fault{Round: round, At: at, Kind: faultLook})
		}
		slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
		p.Faults = append(p.Faults, faults...)
	}
	return p
}

// drawChange draws what befalls the replica set in a round, and the set after it.
// It stays near its first size.
func drawChange(chance *rand.Rand, names []string, size int) (f fault, after []string) {
	f = fault{At: between(chance, 0, 12*time.Minute), Target: names[chance.IntN(len(names))]}
	switch draw := chance.IntN(8); {
	case draw == 0:
		f.Kind, f.At, f.For = faultLose, between(chance, 4*time.Minute, 8*time.Minute), between(chance, 5*time.Second, time.Minute)
		for _, k := range chance.Perm(len(names))[:1+chance.IntN((len(names)-1)/2)] {
			f.Others = append(f.Others, names[k])
		}
		f.Target = ""
		return f, names
	case draw < 4:
		f.Kind, f.Amount = faultRekey, chance.Int64N(2)
		return f, names
	case len(names) > max(size, 3) || draw > 4 && len(names) == size && size > 3:
		f.Kind = faultRemove
		return f, slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == f.Target })
	}
	f.Kind = faultAdd
	for number := 1; slices.Contains(names, f.Target); number++ {
		f.Target = fmt.Sprintf("r%d", number)
	}
	return f, union(names, []string{f.Target})
}

func union(a, b []string) []string {
	both := append(slices.Clone(a), b...)
	slices.Sort(both)
	return slices.Compact(both)
}

func (p *plan) drawFault(chance *rand.Rand, round int, present []string) fault {
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
	names := make([]string, len(present))
	for i, k := range chance.Perm(len(present)) {
		names[i] = present[k]
	}
	f.Target = names[0]
	if chance.IntN(3) == 0 {
		f.Target = roleLeader
	}
	switch f.Kind {
	case faultPartition:
		f.Others = names[1 : 1+chance.IntN((len(names)+1)/2)]
	case faultOneWay:
		f.Others = names[1 : 2+chance.IntN(len(names)-1)]
	case faultBridge:
		f.Others = names[1 : 1+len(names)/2]
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
