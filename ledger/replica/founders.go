package replica

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// Whom a replica speaks with before it has a state: that comes with Raft's
// replay, which needs a leader, which needs peers. Genesis may name nobody who is
// left, and when all replicas start at once nobody can prove a newer set, so each
// keeps the newest certified one.

// foundersRecord is the file peers.
type foundersRecord struct {
	Generation uint64             `json:"generation"`
	Index      uint64             `json:"index"` // of the authority link that made the set
	Replicas   []recoveredReplica `json:"replicas"`
}

// keepFounders writes the replica set of a certified state, if it is another than
// the one that was written. It requires certifier.publishing.
func (r *Replica) keepFounders(s *sealedState) error {
	now := foundersRecord{Generation: s.state.Meta().Generation, Index: s.authority.Index}
	if was := r.kept; was != nil && was.Generation == now.Generation && was.Index == now.Index {
		return nil
	}
	for _, one := range s.state.Replicas() {
		now.Replicas = append(now.Replicas, newRecoveredReplica(one))
	}
	if err := r.files.replaceChecked(peersFile, now); err != nil {
		return err
	}
	r.kept = &now
	return nil
}

// settleFounders takes those in genesis's place whom the disk knows to be
// replicas since: by the newest certified set, or by a recovery. Whose vote counts
// the newest authority link says.
func (r *Replica) settleFounders(latest ledger.Authority) error {
	var record foundersRecord
	known, err := r.files.readChecked(peersFile, &record)
	if err != nil {
		return err
	}
	var left []ledger.Replica
	if r.recovered != nil {
		left = r.recovered.Left
		if !known || record.Generation < r.recovered.Generation {
			if latest.Generation < r.recovered.Generation {
				return nil // as openRecovered has it
			}
			known, record = true, foundersRecord{Replicas: r.recovered.Replicas}
		}
	}
	if !known {
		return nil
	}
	if record.Index > 0 {
		r.kept = &record
	}
	var set []*peer
	for _, one := range record.Replicas {
		p := one.peer()
		if isActive(latest, p.KeyID()) {
			p.standing = fsm.ReplicaActive
		}
		set = append(set, p)
	}
	r.pins.refound(set, left)
	return nil
}
