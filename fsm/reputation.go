package fsm

import "github.com/quorate/quorate/ledger"

// Reputation is exact in integers. Its unit is the basis point, its clock the
// epoch. The model, its parameters and what they withstand are in DESIGN.md.

const fullReputation = 10_000

// ReputationRecord is the record "reputation/NAME" of a node.
type ReputationRecord struct {
	Charge     uint64 `json:"charge,omitempty"`     // seq of the node.down verdict that is not charged yet
	Clean      uint64 `json:"clean,omitempty"`      // clean epochs since the last strike came or went
	Decided    bool   `json:"decided,omitempty"`    // quarantined by decision, so released by decision
	Down       bool   `json:"down,omitempty"`       // by verdict
	Founder    bool   `json:"founder,omitempty"`    // admitted before the first epoch: its age is waived
	Heat       uint64 `json:"heat,omitempty"`       // as of HeatEpoch; it falls by 1 an epoch
	HeatEpoch  uint64 `json:"heat_epoch,omitempty"` //
	Last       uint64 `json:"last,omitempty"`       // seq of the newest effect that is about the node
	Legacy     uint64 `json:"legacy,omitempty"`     // epoch before which its word does not count, by what removed nodes of its operator left
	MissEpoch  uint64 `json:"miss_epoch,omitempty"` // of the last miss; they are forgotten together
	Misses     uint64 `json:"misses,omitempty"`     // accusations that the others contradicted
	Mutes      []Mute `json:"mutes,omitempty"`      // by operator
	Reputation uint64 `json:"reputation"`
	Stay       uint64 `json:"stay,omitempty"` // epoch before which a quarantine does not end
	Strikes    uint64 `json:"strikes,omitempty"`
	Subjective bool   `json:"subjective,omitempty"` // quarantined by the word of others
}

// Mute says that a node that an operator's node accused does not accuse that
// operator's nodes until an epoch: retaliation counts for nothing.
type Mute struct {
	Operator string `json:"operator"`
	Until    uint64 `json:"until"` // epoch
}

// heat returns the heat in an epoch.
func (r *ReputationRecord) heat(epoch uint64) uint64 {
	if passed := epoch - min(epoch, r.HeatEpoch); passed < r.Heat {
		return r.Heat - passed
	}
	return 0
}

// offend takes points for a proven offence: the more strikes and the more
// recent offences, the more. It returns what it took.
func (r *ReputationRecord) offend(p *ledger.Protection, points, epoch uint64) uint64 {
	heat := r.heat(epoch)
	taken := min(points*(r.Strikes+1)*(100+heat)/100, r.Reputation)
	r.Reputation -= taken
	r.Heat, r.HeatEpoch = min(heat+p.HeatPoints, 100*fullReputation), epoch
	return taken
}

// credit gives what a clean attested epoch is worth. After enough of them a
// strike is forgotten.
func (r *ReputationRecord) credit(p *ledger.Protection, epoch uint64) {
	r.Reputation = min(r.Reputation+(p.CleanPoints>>r.Strikes)*100/(100+r.heat(epoch)), fullReputation)
	if r.Strikes == 0 {
		return
	}
	r.Clean++
	if r.Clean >= p.ForgetEpochs<<(r.Strikes-1) {
		r.Strikes--
		r.Clean = 0
	}
}

// strike counts another time in quarantine and says until when it lasts at
// least.
func (r *ReputationRecord) strike(p *ledger.Protection, epoch uint64) {
	r.Strikes++
	r.Clean = 0
	r.Stay = epoch + p.StayEpochs<<r.Strikes>>1
}

// muted reports whether what the node says of an operator's nodes counts for
// nothing in an epoch.
func (r *ReputationRecord) muted(operator string, epoch uint64) bool {
	for _, m := range r.Mutes {
		if m.Operator == operator {
			return epoch < m.Until
		}
	}
	return false
}

// mute mutes the node towards an operator, and forgets mutes that have ended.
func (r *ReputationRecord) mute(operator string, epoch, until uint64) {
	mutes := make([]Mute, 0, len(r.Mutes)+1)
	for _, m := range r.Mutes {
		if m.Operator != operator && epoch < m.Until {
			mutes = append(mutes, m)
		}
	}
	if len(mutes) >= maxMutes { // the one that ends first makes room
		first := 0
		for i := range mutes {
			if mutes[i].Until < mutes[first].Until {
				first = i
			}
		}
		mutes = append(mutes[:first], mutes[first+1:]...)
	}
	r.Mutes = insertMute(mutes, Mute{Operator: operator, Until: until})
}

// miss counts an accusation that the others contradicted and returns what it
// costs: the first is free, each further one doubles, and after a long time
// without any they are forgotten.
func (r *ReputationRecord) miss(p *ledger.Protection, epoch uint64) (points uint64) {
	if r.Misses > 0 && epoch == r.MissEpoch {
		return 0 // a node that lost its own way to the others finds all of them down at once
	}
	if epoch >= r.MissEpoch+p.ForgetEpochs {
		r.Misses = 0
	}
	r.Misses, r.MissEpoch = min(r.Misses+1, maxMisses), epoch
	if r.Misses == 1 {
		return 0
	}
	return p.MinorPoints << (r.Misses - 2)
}

func insertMute(mutes []Mute, m Mute) []Mute {
	at := len(mutes)
	for i := range mutes {
		if m.Operator < mutes[i].Operator {
			at = i
			break
		}
	}
	return append(mutes[:at], append([]Mute{m}, mutes[at:]...)...)
}
