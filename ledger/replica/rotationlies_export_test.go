package replica

import (
	"slices"

	"github.com/quorate/quorate/ledger"
)

// KeepCosigner makes the next key as prepareKey does, but keeps the cosigning key: a
// liar may, the rules look at its size alone.
func (r *Replica) KeepCosigner() error {
	return r.lieOf(func(made *identity) { made.c44 = r.ring.Load().active().c44 })
}

// MakeNextKey makes the next key as prepareKey does, due or not.
func (r *Replica) MakeNextKey() error { return r.lieOf(func(*identity) {}) }

// TakePin makes a next key that names a TLS pin which is another's.
func (r *Replica) TakePin(pin ledger.Hash) error {
	return r.lieOf(func(made *identity) { made.pin = pin })
}

// NextPin is the TLS pin of the next key; zero without one.
func (r *Replica) NextPin() ledger.Hash {
	if next := r.ring.Load().next(); next != nil {
		return next.pin
	}
	return ledger.Hash{}
}

// lieOf is prepareKey for a key that is changed before it is announced.
func (r *Replica) lieOf(change func(*identity)) error {
	state := r.shell.now.Load().state
	seq, err := r.reserveSeq(state.Epoch())
	if err != nil {
		return err
	}
	made, file, err := r.newKey()
	if err != nil {
		return err
	}
	g := r.ring.Load()
	change(made)
	record, key := g.record, made.public()
	key.File = file
	record.Keys = append(slices.Clone(record.Keys), key)
	record.Next = &made.id
	if record.Said, err = r.announcement(state, seq, g.active(), made); err != nil {
		return err
	}
	return r.changeRing(g.with(record, made))
}
