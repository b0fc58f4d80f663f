package ledger

import "fmt"

// Protection is the part of a policy that says how observations and evidence
// become verdicts (fsm/DESIGN.md, format 2). Reputation is in basis points,
// 0 to 10,000.
type Protection struct {
	AgeEpochs            uint64 `json:"age_epochs"`             // from admission until a node's word counts
	AttestEpochs         uint64 `json:"attest_epochs"`          // epochs that one attestation covers
	Attestors            uint64 `json:"attestors"`              // operators wanted to attest a node
	BadPoints            uint64 `json:"bad_points"`             // of a node.bad verdict
	BreakerBasisPoints   uint64 `json:"breaker_basis_points"`   // of the fleet that subjective verdicts may hold
	CleanPoints          uint64 `json:"clean_points"`           // of a clean attested epoch without strikes
	DownPoints           uint64 `json:"down_points"`            // of a node.down verdict: a crash is no offence
	ExcludeStrikes       uint64 `json:"exclude_strikes"`        //
	ForgetEpochs         uint64 `json:"forget_epochs"`          // clean epochs until the first strike expires
	HeatPoints           uint64 `json:"heat_points"`            // of a proven offence; heat falls by 1 an epoch
	LeaveReputation      uint64 `json:"leave_reputation"`       // from which a quarantine may end
	MinorPoints          uint64 `json:"minor_points"`           // of a flood, a contradiction, a false accusation
	Monitors             uint64 `json:"monitors"`               // operators drawn for a node; 0: as many as MonitorsFor says
	MutedEpochs          uint64 `json:"muted_epochs"`           // the accused cannot accuse its accusers this long
	PartitionBasisPoints uint64 `json:"partition_basis_points"` // of the fleet down at once: a partition
	ProbeQuota           uint64 `json:"probe_quota"`            // probes and acks of one node in one epoch
	ProbeTicks           uint64 `json:"probe_ticks"`            // between two probes of one subject
	QuarantineBelow      uint64 `json:"quarantine_below"`
	StartReputation      uint64 `json:"start_reputation"`
	StayEpochs           uint64 `json:"stay_epochs"` // least stay in quarantine, doubled by each strike
	VoteReputation       uint64 `json:"vote_reputation"`
	WindowTicks          uint64 `json:"window_ticks"` // in which accusations are counted together
}

// MinAccusers is the least number of operators whose word makes a verdict, and
// of eligible operators without which there are none.
const MinAccusers = 3

// maxMonitors is the most operators that a policy has drawn for a node.
const maxMonitors = 256

// DefaultProtection is what holds in a ledger of format 2 whose policy names
// none.
func DefaultProtection() Protection {
	return Protection{
		AgeEpochs:            64,
		AttestEpochs:         16,
		Attestors:            8,
		BadPoints:            1_500,
		BreakerBasisPoints:   2_000,
		CleanPoints:          40,
		DownPoints:           0,
		ExcludeStrikes:       6,
		ForgetEpochs:         512,
		HeatPoints:           100,
		LeaveReputation:      5_000,
		MinorPoints:          400,
		Monitors:             0,
		MutedEpochs:          32,
		PartitionBasisPoints: 2_000,
		ProbeQuota:           8_192,
		ProbeTicks:           3,
		QuarantineBelow:      3_000,
		StartReputation:      3_500,
		StayEpochs:           16,
		VoteReputation:       5_000,
		WindowTicks:          12,
	}
}

// MonitorsFor is how many of so many operators are to be drawn for a node, so that
// a draw falls to a third of them, more than two thirds of whose drawn find an
// honest node bad, with at most 1e-12. Each is of the form 3k+1: it takes k+1 to
// block a draw, where one less takes as many as it does of 3k. fsm/DESIGN.md has the
// figures.
func MonitorsFor(operators int) int {
	switch {
	case operators <= 107: // all, up to 50
		return 49
	case operators <= 158:
		return 61
	case operators <= 248:
		return 73
	case operators <= 431:
		return 85
	case operators <= 1_019:
		return 97
	}
	return 100
}

// DrawnOf is how many of so many operators that have nodes which may be drawn are
// drawn for a node.
func (p *Protection) DrawnOf(operators int) int {
	if p.Monitors != 0 {
		return int(p.Monitors)
	}
	return MonitorsFor(operators)
}

// validate checks the protection of a policy.
func (p *Protection) validate() error {
	if p.Monitors != 0 && p.Monitors < MinAccusers {
		return fmt.Errorf("protection.monitors: %d is outside %d to %d, nor 0, for as many as are needed", p.Monitors, MinAccusers, maxMonitors)
	}
	for _, b := range []struct {
		name          string
		value, lo, hi uint64
	}{
		{"age_epochs", p.AgeEpochs, 0, 1 << 20},
		{"attest_epochs", p.AttestEpochs, 1, MaxAttestEpochs},
		{"attestors", p.Attestors, MinAccusers, 1 << 10},
		{"bad_points", p.BadPoints, 1, 10_000},
		{"breaker_basis_points", p.BreakerBasisPoints, 0, 3_333},
		{"clean_points", p.CleanPoints, 1, 10_000},
		{"down_points", p.DownPoints, 0, 10_000},
		{"exclude_strikes", p.ExcludeStrikes, 1, 16},
		{"forget_epochs", p.ForgetEpochs, 1, 1 << 20},
		{"heat_points", p.HeatPoints, 0, 10_000},
		{"leave_reputation", p.LeaveReputation, p.QuarantineBelow, 10_000},
		{"minor_points", p.MinorPoints, 1, 10_000},
		{"monitors", p.Monitors, 0, maxMonitors},
		{"muted_epochs", p.MutedEpochs, 0, 1 << 20},
		{"partition_basis_points", p.PartitionBasisPoints, 1, 10_000},
		{"probe_quota", p.ProbeQuota, 1, 1 << 20},
		{"probe_ticks", p.ProbeTicks, 1, 1_000},
		{"quarantine_below", p.QuarantineBelow, 1, 9_999},
		{"start_reputation", p.StartReputation, p.QuarantineBelow, 10_000},
		{"stay_epochs", p.StayEpochs, 1, 1 << 16},
		{"vote_reputation", p.VoteReputation, p.QuarantineBelow, 10_000},
		{"window_ticks", p.WindowTicks, 2, 1_000},
	} {
		if b.value < b.lo || b.value > b.hi {
			return fmt.Errorf("protection.%s: %d is outside %d to %d", b.name, b.value, b.lo, b.hi)
		}
	}
	return nil
}
