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
	if err := h.partition(both([]int{leader.number}, h.allBut(leader))); err != nil {
		return err
	}
	if err := h.some(ctx, 20); err != nil {
		return err
	}
	rest(ctx, hurtFor)
	return nil
}

// allBut are the numbers of the others.
func (c *cluster) allBut(one *member) []int {
	var others []int
	for _, m := range c.members {
		if m != one {
			others = append(others, m.number)
		}
	}
	return others
}

// split: a leader in a minority acknowledges nothing, the majority goes on.
func split(ctx context.Context, h *harm) error {
	leader, before, err := h.leader(ctx)
	if err != nil {
		return err
	}
	if err := h.partition(both([]int{leader.number}, h.allBut(leader))); err != nil {
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

// oneWay: the leader is not heard, or does not hear; the others go on.
func oneWay(ctx context.Context, h *harm) error {
	leader, _, err := h.leader(ctx)
	if err != nil {
		return err
	}
	var cuts []cut
	unheard := h.chance.IntN(2) == 0
	for _, other := range h.allBut(leader) {
		if unheard {
			cuts = append(cuts, cut{leader.number, other})
		} else {
			cuts = append(cuts, cut{other, leader.number})
		}
	}
	if err := h.partition(cuts); err != nil {
		return err
	}
	if unheard {
		h.note("nobody heard %s", leader.name)
	} else {
		h.note("%s heard nobody", leader.name)
	}
	if err := h.some(ctx, 10); err != nil {
		return err
	}
	rest(ctx, hurtFor)
	return nil
}

// mostTerms is how many terms may pass while two replicas do not hear each
// other: with pre-votes neither can disturb a leader that a majority hears.
const mostTerms = 8

// bridgeCut: two replicas that do not hear each other do not drive the terms up.
func bridgeCut(ctx context.Context, h *harm) error {
	leader, before, err := h.leader(ctx)
	if err != nil {
		return err
	}
	others := h.allBut(leader)
	other := others[h.chance.IntN(len(others))]
	if err := h.partition(both([]int{leader.number}, []int{other})); err != nil {
		return err
	}
	if err := h.some(ctx, 10); err != nil {
		return err
	}
	rest(ctx, 2*hurtFor)
	if err := h.some(ctx, 10); err != nil {
		return err
	}
	_, now, err := h.leader(ctx)
	if err != nil {
		return err
	}
	if now.Term > before.Term+mostTerms {
		return fmt.Errorf("the term went from %d to %d", before.Term, now.Term)
	}
	h.note("%s and r%d apart, terms %d to %d", leader.name, other, before.Term, now.Term)
	return nil
}
