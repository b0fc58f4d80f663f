package main

import (
	"context"
	"strings"
	"time"
)

// stampsAhead: nothing so stamped is appended by an honest replica; the liar is
// replaced, and statements go on.
func stampsAhead(ctx context.Context, s *scene) error {
	return s.badStamps(ctx, "1h", func() {
		refused := 0
		for _, m := range s.honest() {
			n := s.refusals(ctx, m)["stamp_ahead"]
			s.Says(m.name, "refused %d appends by stamp_ahead", n)
			refused += n
		}
		s.Demand(refused > 0, "no honest replica refused a stamp ahead")
	})
}

// timeHeld makes the liar lead and hold the ledger's time back, or its seals, for
// longer than anybody vouches for a seal. A leader that is only some seconds
// behind goes unnoticed until then: the demand is that the honest ones refuse it,
// and that what is said meanwhile is certified.
func timeHeld(lie string, parameters ...string) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		if err := s.lead(ctx, s.liar()); err != nil {
			return err
		}
		begin := time.Now()
		if err := s.lie(ctx, lie, parameters...); err != nil {
			return err
		}
		// Statements all the while, so that there is something to certify.
		for time.Since(begin) < 2*maxSkew {
			limited, cancel := context.WithTimeout(ctx, time.Second)
			_, _ = s.submit(limited, s.member("r1"), "alice", "before it shows")
			cancel()
		}
		took, err := s.submit(ctx, s.member("r2"), "bob", "said under held time")
		s.Says("attacker", "%s", s.deeds(ctx))
		refused := 0
		for _, m := range s.honest() {
			n := s.refusals(ctx, m)["stall"]
			s.Says(m.name, "refused the leader %d times by stall", n)
			refused += n
		}
		if err != nil {
			return err
		}
		s.Says("client", "a statement at r2 was certified after %.1f s, %.1f s into the lie; %s leads now", took.Seconds(), time.Since(begin).Seconds(), s.leader(ctx))
		s.Demand(refused > 0, "no honest replica refused a leader that holds time back")
		s.Demand(s.leader(ctx) != liarName, "the liar leads still")
		if _, err = s.submit(ctx, s.member("r3"), "carol", "and another"); err != nil {
			return err
		}
		return s.stampsAreNow(ctx)
	}
}

// badStamps makes the liar lead and stamp, and demands that an honest replica's
// statement is certified all the same, with a stamp near our clock.
func (s *scene) badStamps(ctx context.Context, by string, look func()) error {
	if err := s.lead(ctx, s.liar()); err != nil {
		return err
	}
	if err := s.lie(ctx, "stamps", "by", by); err != nil {
		return err
	}
	took, err := s.submit(ctx, s.honest()[0], "alice", "said under a liar's clock")
	s.Says("attacker", "%s", s.deeds(ctx))
	look()
	if err != nil {
		return err
	}
	s.Says("client", "a statement at r1 was certified after %.1f s; %s leads now", took.Seconds(), s.leader(ctx))
	_, err = s.submit(ctx, s.honest()[1], "bob", "and another")
	if err != nil {
		return err
	}
	return s.stampsAreNow(ctx)
}

// stampsAreNow demands that the newest entry's stamp is near our clock.
func (s *scene) stampsAreNow(ctx context.Context) error {
	c, err := s.client("", s.honest()...)
	if err != nil {
		return err
	}
	defer c.Close()
	head, err := c.Sync(ctx)
	if err != nil {
		return err
	}
	entry, err := c.Entry(ctx, head.Size-1)
	if err != nil {
		return err
	}
	away := time.Since(time.UnixMilli(int64(entry.Stamp))).Abs()
	s.Says("auditor", "the newest certified entry is stamped %s from our clock", away.Round(time.Millisecond))
	s.Demand(away < 10*time.Second, "the ledger's time is %s from ours", away)
	return nil
}

// alarmed is the first alarm of a replica that begins so, "" for none.
func (s *scene) alarmed(ctx context.Context, m *member, code string) string {
	status, err := s.status(ctx, m)
	if err != nil {
		return ""
	}
	for _, a := range status.Alarms {
		if strings.HasPrefix(a, code+":") {
			return a
		}
	}
	return ""
}
