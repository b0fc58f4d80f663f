package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// arrivals is how the rotations of a fleet stand on the ledger, by its entries alone.
type arrivals struct {
	Rotations     int     `json:"rotations"`
	Entries       int     `json:"entries"` // of that epoch, the effect with which it begins among them
	Bytes         int     `json:"bytes"`
	RotationBytes float64 `json:"rotation_bytes"`         // of an entry
	Fullest       float64 `json:"fullest_second_percent"` // most rotations in any 1,000 ms by the entries' stamps, of all of that epoch
	Behind        *spread `json:"behind"`                 // from the time that a rotation is due to the stamp of its entry
	Late          int     `json:"late"`                   // rotations outside of that epoch, and nodes that an alarm names
	Took          uint64  `json:"took_effect"`            // as the effect of the epoch says, two epochs later
}

// readArrivals reads the entries of a ledger whose nodes rotate in one epoch, each so
// long after its beginning.
func readArrivals(entries [][]byte, epoch uint64, due map[string]time.Duration) (arrivals, error) {
	a := arrivals{}
	var stamps []uint64
	var behind []time.Duration
	now, start, rotationBytes := uint64(0), uint64(0), 0
	for _, raw := range entries {
		e, err := ledger.ParseEntry(raw)
		if err != nil {
			return a, err
		}
		rotator := ""
		switch e.Kind {
		case ledger.KindEffect:
			begun, late, err := readEffect(e)
			if err != nil {
				return a, err
			}
			a.Late += late
			if begun == nil {
				break
			}
			if now = begun.Epoch; now == epoch {
				start = begun.Start
			}
			if now == epoch+2 {
				a.Took = begun.Rotated
			}
		case ledger.KindStatement:
			st, err := ledger.ParseStatement(e.Content)
			if err != nil {
				return a, err
			}
			if st.Payload.Type == ledger.TypeRotate {
				rotator = st.Payload.Author
			}
		}
		if now == epoch {
			a.Entries, a.Bytes = a.Entries+1, a.Bytes+len(raw)
		}
		if rotator == "" {
			continue
		}
		a.Rotations, rotationBytes = a.Rotations+1, rotationBytes+len(raw)
		at, known := due[rotator]
		if !known {
			return a, fmt.Errorf("%s rotates, and nobody planned it", rotator)
		}
		if now != epoch {
			a.Late++
			continue
		}
		stamps = append(stamps, e.Stamp)
		behind = append(behind, time.Duration(int64(e.Stamp)-int64(start))*time.Millisecond-at)
	}
	if a.Rotations == 0 {
		return a, fmt.Errorf("nobody rotates in %d entries", len(entries))
	}
	a.RotationBytes = float64(rotationBytes) / float64(a.Rotations)
	a.Fullest = 100 * float64(mostWithin(stamps, 1_000)) / float64(a.Rotations)
	a.Behind = spreadOf(behind)
	return a, nil
}

// readEffect gives the epoch that an effect begins, and how many nodes it says are late
// or have lost their key.
func readEffect(e *ledger.Entry) (begun *fsm.EpochEffect, late int, err error) {
	effect, err := e.Effect()
	if err != nil {
		return nil, 0, err
	}
	switch effect.Type {
	case fsm.EffectEpoch:
		begun = &fsm.EpochEffect{}
		return begun, 0, canon.Unmarshal(effect.Body, begun)
	case fsm.EffectAlarm:
		var alarm fsm.AlarmEffect
		if err := canon.Unmarshal(effect.Body, &alarm); err != nil {
			return nil, 0, err
		}
		if alarm.Kind == fsm.AlarmRotationLate || alarm.Kind == fsm.AlarmKeyExpired {
			late = int(alarm.Count)
		}
	}
	return nil, late, nil
}

// mostWithin is how many of the stamps lie at most within a time that is so long,
// wherever it begins.
func mostWithin(stamps []uint64, length uint64) int {
	slices.Sort(stamps)
	most, first := 0, 0
	for i, at := range stamps {
		for stamps[first]+length <= at {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
