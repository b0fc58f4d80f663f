package main

import (
	"context"
	"fmt"
)

// separate cuts the leader off from all others, and lasts until clients of
// either side have asked both.
func separate(ctx context.Context, h *harm) error {
	leader, _, err := h.leader(ctx)
	if err != nil {
		return err
	}
	var others []int
	for _, m := range h.members {
		if m != leader {
			others = append(others, m.number)
		}
	}
	if err := h.partition(both([]int{leader.number}, others)); err != nil {
		return err
	}
	if err := h.some(ctx, 20); err != nil {
		return err
	}
	rest(ctx, hurtFor)
	return nil
}

// split: a leader in a minority acknowledges nothing, the majority goes on.
func split(ctx context.Context, h *harm) error {
	leader, before, err := h.leader(ctx)
	if err != nil {
		return err
	}
	var minority, majority []int
	for _, m := range h.members {
		if m == leader {
			minority = append(minority, m.number)
		} else {
			majority = append(majority, m.number)
		}
	}
	// Of an even cluster half is no majority either.
	if len(h.members)%2 == 0 && h.chance.IntN(2) == 0 {
		minority, majority = append(minority, majority[0]), majority[1:]
		if len(majority) <= len(h.members)/2 {
			minority, majority = minority[:1], append([]int{minority[1]}, majority...)
		}
	}
	if err := h.partition(both(minority, majority)); err != nil {
		return err
	}
	from := h.load.now()
	if err := h.some(ctx, 10); err != nil {
		return err
	}
	rest(ctx, hurtFor)
	if n := h.load.history.acknowledged(from, func(o op) bool { return o.member == leader.number }); n > 0 {
		return fmt.Errorf("%s, cut off from a majority, acknowledged %d statements", leader.name, n)
	}
	h.note("%s led term %d alone", leader.name, before.Term)
	return nil
}
