package main

import (
	"context"
	"strings"
)

// cosignaturesWithheld: three of four certify without the liar.
func cosignaturesWithheld(ctx context.Context, s *scene) error {
	if err := s.lie(ctx, "withheld"); err != nil {
		return err
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	return s.noAlarms(ctx, s.honest()...)
}

// cosignaturesTwoFaced: whoever is sent the other root names the liar, by both
// of its signatures; nobody certifies the other head.
func cosignaturesTwoFaced(ctx context.Context, s *scene) error {
	if err := s.lie(ctx, "twofaced", "to", "r2"); err != nil {
		return err
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	victim := s.member("r2")
	alarm := ""
	if err := s.Await(ctx, "r2 raises the alarm fork", func() bool {
		alarm = s.alarmed(ctx, victim, "fork")
		return alarm != ""
	}); err != nil {
		return err
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	s.Says("r2", "alarm %s", alarm)
	s.Demand(strings.Contains(alarm, liarName+" cosigned root"), "the alarm does not name the liar")
	return s.noAlarms(ctx, s.member("r1"), s.member("r3"))
}

// goesOn demands that statements at each honest replica are certified.
func (s *scene) goesOn(ctx context.Context, statements int) error {
	for i := range statements {
		m := s.honest()[i%len(s.honest())]
		took, err := s.submit(ctx, m, []string{"alice", "bob", "carol"}[i%3], "life goes on")
		if err != nil {
			return err
		}
		s.Says("client", "a statement at %s was certified after %.1f s", m.name, took.Seconds())
	}
	return nil
}

func (s *scene) noAlarms(ctx context.Context, of ...*member) error {
	for _, m := range of {
		status, err := s.status(ctx, m)
		if err != nil {
			return err
		}
		s.Demand(len(status.Alarms) == 0, "%s raised alarms: %v", m.name, status.Alarms)
		s.Demand(status.Role == "leader" || status.Role == "follower", "%s is %s", m.name, status.Role)
	}
	return nil
}
