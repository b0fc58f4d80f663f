package main

import (
	"context"
	"strings"
)

// snapshotSent makes the liar lead and install a snapshot that lies at every
// honest replica, then kills it, and demands that the others have lost nothing,
// agree and go on, after kill -9 too.
func (s *scene) snapshotSent(ctx context.Context, as string) error {
	if err := s.lead(ctx, s.liar()); err != nil {
		return err
	}
	kept, err := s.do(ctx, "keep-snapshot")
	if err != nil {
		return err
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	before, err := s.status(ctx, s.member("r1"))
	if err != nil {
		return err
	}
	if as == "old" {
		s.Says("attacker", "%s", kept)
	}
	told, err := s.do(ctx, "snapshot", "as", as)
	if err != nil {
		return err
	}
	s.Says("attacker", "%s", told)
	s.saysRefusals(ctx)
	// "taken" may be said by a replica that has all of it in its log, and leaves
	// the content alone: what counts is what it serves afterwards.
	for _, m := range s.honest() {
		status, err := s.status(ctx, m)
		if err != nil {
			return err
		}
		policy, err := s.Get(ctx, m.url()+"/v1/policy?consistency=stale")
		if err != nil {
			return err
		}
		s.Demand(strings.Contains(string(policy), `"quota":65536`), "%s has another policy: %s", m.name, policy)
		s.Demand(status.Applied >= before.Applied, "%s went back from size %d to %d", m.name, before.Applied, status.Applied)
	}
	if err := s.withoutLiar(ctx); err != nil {
		return err
	}
	return s.restarted(ctx)
}

// restarted kills every honest replica with -9, and demands that they come back
// and go on.
func (s *scene) restarted(ctx context.Context) error {
	for _, m := range s.members {
		if err := s.end(m, killed); err != nil {
			return err
		}
	}
	for _, m := range s.honest() {
		if err := s.start(m); err != nil {
			return err
		}
	}
	for _, m := range s.honest() {
		if err := s.Await(ctx, m.name+" is ready after kill -9", func() bool {
			status, err := s.status(ctx, m)
			return err == nil && status.Ready
		}); err != nil {
			s.Says(m.name, "alarms: %s", s.alarmsOf(ctx, m))
			return err
		}
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	return s.noAlarms(ctx, s.honest()...)
}

func snapshotAs(as string) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error { return s.snapshotSent(ctx, as) }
}
