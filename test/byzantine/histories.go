package main

import (
	"context"
	"strings"
)

// laggard: r3 was down and comes back, and the leader that lies sends it no log.
// Of two snapshots it takes the true one, and fills the gap before it from peers,
// one of which gives it another past; whoever is asked first is drawn, so it lags
// again and again until the liar was.
func laggard(ctx context.Context, s *scene) error {
	victim := s.member("r3")
	asked := false
	for round := 1; !asked && round <= lagRounds; round++ {
		if err := s.lead(ctx, s.liar()); err != nil {
			return err
		}
		if err := s.end(victim, killed); err != nil {
			return err
		}
		for _, name := range []string{"r1", "r2", "r1"} {
			if _, err := s.submit(ctx, s.member(name), "alice", "while r3 is down"); err != nil {
				return err
			}
		}
		if err := s.lie(ctx, "history", "to", "r3", "starve", "1"); err != nil {
			return err
		}
		if err := s.start(victim); err != nil {
			return err
		}
		if err := s.Await(ctx, "r3 answers", func() bool { _, err := s.status(ctx, victim); return err == nil }); err != nil {
			return err
		}
		before, err := s.status(ctx, victim)
		if err != nil {
			return err
		}
		if err := s.snapshots(ctx, victim, before.Applied, round == 1); err != nil {
			return err
		}
		// It gets the log again, and false history still.
		if err := s.lie(ctx, "history", "to", "r3"); err != nil {
			return err
		}
		if err := s.Await(ctx, "r3 has the whole history", func() bool {
			status, err := s.status(ctx, victim)
			return err == nil && status.Ready && status.GapFrom == status.GapTo && status.Certified > before.Applied
		}); err != nil {
			s.Says("r3", "alarms: %s", s.alarmsOf(ctx, victim))
			return err
		}
		asked = strings.Contains(s.deeds(ctx), "entries that are not the ledger's")
		if asked {
			s.Says("r3", "was given a false past in round %d, and filled its gap from the others", round)
		}
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	s.Demand(asked, "the liar was never asked for history in %d rounds: nothing was staged", lagRounds)
	if err := s.truth(ctx); err != nil {
		return err
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	return s.noAlarms(ctx, s.honest()...)
}

// snapshots sends a laggard a forged snapshot, the first time, and then a true one.
func (s *scene) snapshots(ctx context.Context, victim *member, before uint64, forged bool) error {
	if forged {
		told, err := s.do(ctx, "snapshot", "as", "forged", "to", victim.name)
		if err != nil {
			return err
		}
		s.Says("attacker", "a forged snapshot: %s", told)
		status, err := s.status(ctx, victim)
		if err != nil {
			return err
		}
		s.Demand(!strings.Contains(told, "taken") || strings.Contains(told, "not taken"), "%s took a forged snapshot", victim.name)
		s.Demand(status.Applied == before, "%s went from size %d to %d by a forged snapshot", victim.name, before, status.Applied)
	}
	return s.Await(ctx, victim.name+" takes a true snapshot", func() bool {
		told, err := s.do(ctx, "snapshot", "as", "true", "to", victim.name)
		status, failed := s.status(ctx, victim)
		return err == nil && failed == nil && strings.HasSuffix(told, "taken") && !strings.HasSuffix(told, "not taken") && status.Applied > before
	})
}

// endlessLinks: a newcomer is given links without end by one peer, and walks the
// chain with what the others give.
func endlessLinks(ctx context.Context, s *scene) error {
	if err := s.lie(ctx, "history", "to", "r3"); err != nil {
		return err
	}
	victim := s.member("r3")
	if err := s.rekey(ctx, victim); err != nil {
		return err
	}
	deeds := ""
	if err := s.Await(ctx, "the liar has given r3 a link", func() bool {
		deeds = s.deeds(ctx)
		return strings.Contains(deeds, "link without end")
	}); err != nil {
		return err
	}
	s.Says("attacker", "%s", deeds)
	s.Demand(strings.Contains(deeds, "cut off") && !strings.Contains(deeds, "taken"), "r3 took a link without end")
	s.Says("r3", "holds %d MB", victim.process.Memory())
	s.Demand(victim.process.Memory() < moreMemory, "r3 holds %d MB after links without end", victim.process.Memory())
	return s.goesOn(ctx, 3)
}
