package main

import (
	"context"
	"fmt"
	"io"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// keysView is how the ledger's keys stand: certified, as a server says.
type keysView struct {
	Epoch   uint64         `json:"epoch"` // whose beginning counted
	Count   uint64         `json:"count"`
	Rotated uint64         `json:"rotated"`
	Alarms  []client.Alarm `json:"alarms"`
	Spare   int            `json:"spare_operators"` // that may be lost before the council can't change authority any more
}

// keys asks for the keys' standing; nil where the server knows none.
func (l *link) keys(ctx context.Context) *keysView {
	alarms, err := l.Alarms(ctx, client.Read{})
	if err != nil {
		return nil
	}
	view := &keysView{Alarms: alarms.Alarms}
	if epochs, err := l.Epochs(ctx, client.Read{Limit: 1}); err == nil && len(epochs.Epochs) > 0 {
		if e := epochs.Epochs[0]; e.Count != nil {
			view.Epoch, view.Count, view.Rotated = e.Epoch, *e.Count, *e.Rotated
		}
	}
	if head := l.Head(); head != nil {
		view.Spare = spareOperators(&head.Authority)
	}
	if view.Count == 0 && len(view.Alarms) == 0 {
		return nil
	}
	return view
}

// spareOperators is how many operators of the council may be lost before some action
// that changes authority can't be decided any more; below 0: it can't be now.
func spareOperators(a *ledger.Authority) int {
	operators := map[string]bool{}
	for _, m := range a.Council {
		operators[m.Operator] = true
	}
	spare := len(operators)
	for action, threshold := range a.Thresholds {
		if action != "council.reseat" && ledger.ChangesAuthority(action) {
			spare = min(spare, len(operators)-int(threshold))
		}
	}
	return spare
}

func (k *keysView) count(kind string) uint64 {
	for _, a := range k.Alarms {
		if a.Kind == kind {
			return a.Count
		}
	}
	return 0
}

// keys prints the keys and what the ledger warns of.
func (v *statusView) keys(w io.Writer) {
	k := v.Keys
	if k == nil {
		return
	}
	if k.Count > 0 {
		fmt.Fprintf(w, "\nkeys      %d in force, %d rotated in epoch %d, %d late, %d expired\n",
			k.Count, k.Rotated, k.Epoch, k.count(fsm.AlarmRotationLate), k.count(fsm.AlarmKeyExpired))
	}
	name := "alarms"
	for _, a := range k.Alarms {
		kind := a.Kind
		if kind == fsm.AlarmCouncilThin && k.Spare > 0 {
			kind += " (warning)"
		}
		fmt.Fprintf(w, "%-9s %s, since epoch %d: %s\n", name, kind, a.Since, clean(alarmWords(&a)))
		name = ""
	}
	if k.Spare < 0 {
		fmt.Fprintln(w, "COUNCIL   has too few operators for some action that changes authority; the recovery set can re-seat it: quorate propose council.reseat")
	}
}

// replicaKeys prints how the servers' own keys stand.
func (v *statusView) replicaKeys(w io.Writer) {
	name := "keys of"
	for _, s := range v.Servers {
		if s.Status == nil || s.Status.Key == nil {
			continue
		}
		key := s.Status.Key
		when := "is to rotate in epoch " + fmt.Sprint(key.Due)
		switch {
		case key.Next != "":
			when = "rotates now, to " + key.Next[:min(len(key.Next), 8)] + "…"
		case key.Due == 0:
			when = "is not to rotate"
		}
		if key.Late > 0 && s.Status.Epoch >= key.Late {
			when += ", which is late"
		}
		if key.Off {
			when += "; it makes no new one (rotation.off)"
		}
		if name != "" {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%-9s %s: %s…, since epoch %d, %s\n", name, clean(s.Status.Name), clean(key.ID[:min(len(key.ID), 8)]), key.Since, clean(when))
		name = ""
	}
}
