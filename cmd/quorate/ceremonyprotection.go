package main

import (
	"reflect"

	"github.com/quorate/quorate/ledger"
)

// ceremonyProtection overrides the default figures of the rules that judge nodes,
// field by field: those of ledger.Protection.
type ceremonyProtection struct {
	AgeEpochs            *uint64 `yaml:"age_epochs"`
	AttestEpochs         *uint64 `yaml:"attest_epochs"`
	Attestors            *uint64 `yaml:"attestors"`
	BadPoints            *uint64 `yaml:"bad_points"`
	BreakerBasisPoints   *uint64 `yaml:"breaker_basis_points"`
	CleanPoints          *uint64 `yaml:"clean_points"`
	DownPoints           *uint64 `yaml:"down_points"`
	ExcludeStrikes       *uint64 `yaml:"exclude_strikes"`
	ForgetEpochs         *uint64 `yaml:"forget_epochs"`
	HeatPoints           *uint64 `yaml:"heat_points"`
	LeaveReputation      *uint64 `yaml:"leave_reputation"`
	MinorPoints          *uint64 `yaml:"minor_points"`
	Monitors             *uint64 `yaml:"monitors"`
	MutedEpochs          *uint64 `yaml:"muted_epochs"`
	PartitionBasisPoints *uint64 `yaml:"partition_basis_points"`
	ProbeQuota           *uint64 `yaml:"probe_quota"`
	ProbeTicks           *uint64 `yaml:"probe_ticks"`
	QuarantineBelow      *uint64 `yaml:"quarantine_below"`
	StartReputation      *uint64 `yaml:"start_reputation"`
	StayEpochs           *uint64 `yaml:"stay_epochs"`
	VoteReputation       *uint64 `yaml:"vote_reputation"`
	WindowTicks          *uint64 `yaml:"window_ticks"`
}

// over gives the protection with what the ceremony changes.
func (c *ceremonyProtection) over(p ledger.Protection) ledger.Protection {
	changes, into := reflect.ValueOf(c).Elem(), reflect.ValueOf(&p).Elem()
	for i := range changes.NumField() {
		if value := changes.Field(i); !value.IsNil() {
			into.FieldByName(changes.Type().Field(i).Name).SetUint(value.Elem().Uint())
		}
	}
	return p
}
