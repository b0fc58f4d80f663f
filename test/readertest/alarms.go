package readertest

import (
	"maps"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// Alarms of keys: who is late, or too late. They are told when an epoch begins.
const (
	rotationLate = "rotation_late"
	keyExpired   = "key_expired"
	replicaLate  = "replica_rotation_late"
	toldNames    = 32
)

// alarm takes note of what is told.
func (r *Reader) alarm(effect *ledger.Effect) error {
	var body struct {
		Count uint64   `json:"count"`
		Kind  string   `json:"kind"`
		Names []string `json:"names"`
	}
	if err := canon.Unmarshal(effect.Body, &body); err != nil {
		return err
	}
	if uint64(len(body.Names)) != min(body.Count, toldNames) {
		r.complain("%s of %d tells %d names", body.Kind, body.Count, len(body.Names))
	}
	told := strings.Join(body.Names, " ")
	if r.alarms[body.Kind] == told {
		r.complain("%s tells nothing new", body.Kind)
	}
	r.alarms[body.Kind] = told
	r.Judged["alarm "+body.Kind]++
	return nil
}

// checkAlarms holds the alarms that are on against those that the keys give, once all
// are told that an epoch's beginning gives.
func (r *Reader) checkAlarms() {
	if !r.begun {
		return
	}
	r.begun = false
	want := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Nodes)) {
		n := r.Nodes[name]
		k, waits := r.Keys[n.Key], n.Next != ledger.Hash{}
		switch {
		case n.Standing == excluded:
		case k.Revoked && waits:
		case k.Revoked || r.Epoch > k.To+r.grace:
			want[keyExpired] = append(want[keyExpired], name)
		case !waits && r.Epoch <= k.To && k.To-r.Epoch < r.late:
			want[rotationLate] = append(want[rotationLate], name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.names[replica])) {
		if k := r.Keys[r.names[replica][name]]; !r.joining[name] && r.lateOld > 0 && r.Epoch > k.From+r.lateOld {
			want[replicaLate] = append(want[replicaLate], name)
		}
	}
	for _, kind := range []string{rotationLate, keyExpired, replicaLate} {
		if now := strings.Join(want[kind], " "); len(want[kind]) <= toldNames && now != r.alarms[kind] {
			r.complain("epoch %d began with the alarm %s of %q, and it is %q", r.Epoch, kind, r.alarms[kind], now)
		}
	}
}
