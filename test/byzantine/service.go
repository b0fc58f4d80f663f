package main

import (
	"context"
	"time"
)

// censored makes the liar lead and keep alice's statements off the ledger, and
// demands that one at r1 is certified within the replicas' limit all the same.
func (s *scene) censored(ctx context.Context, by string) error {
	if err := s.lead(ctx, s.liar()); err != nil {
		return err
	}
	if err := s.lie(ctx, "censor", "author", "alice", "by", by); err != nil {
		return err
	}
	took, err := s.submit(ctx, s.member("r2"), "bob", "I may speak")
	if err != nil {
		return err
	}
	s.Says("client", "bob's statement at r2 was certified after %.1f s", took.Seconds())
	// Bob goes on: a leader that orders nothing at all is no censor.
	speaking, quiet := context.WithCancel(ctx)
	defer quiet()
	go func() {
		for speaking.Err() == nil {
			_, _ = s.submit(speaking, s.member("r2"), "bob", "I still may")
			select {
			case <-speaking.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	took, err = s.submit(ctx, s.member("r1"), "alice", "I may not")
	s.Says("attacker", "%s", s.deeds(ctx))
	s.saysRefusals(ctx)
	if err != nil {
		return err
	}
	s.Says("client", "alice's statement at r1 was certified after %.1f s; %s leads now", took.Seconds(), s.leader(ctx))
	s.Demand(took < censorWithin, "that took longer than %s", censorWithin)
	return nil
}

func censoredByBusy(ctx context.Context, s *scene) error    { return s.censored(ctx, "busy") }
func censoredBySilence(ctx context.Context, s *scene) error { return s.censored(ctx, "silence") }
func censoredByReceipt(ctx context.Context, s *scene) error { return s.censored(ctx, "receipt") }

// served makes the liar misbehave towards its peers, by a lie without
// parameters, and demands that statements are certified meanwhile.
func (s *scene) served(ctx context.Context, lie string) error {
	if err := s.lead(ctx, s.member("r1")); err != nil {
		return err
	}
	before := s.member("r1").process.Memory()
	if err := s.lie(ctx, lie); err != nil {
		return err
	}
	worst := time.Duration(0)
	for i := range 8 {
		took, err := s.submit(ctx, s.honest()[i%3], "alice", "meanwhile")
		if err != nil {
			s.Says("attacker", "%s", s.deeds(ctx))
			return err
		}
		worst = max(worst, took)
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	for _, m := range s.honest() {
		s.Says(m.name, "%d descriptors, %d MB; %.0f cosignatures did not verify", m.process.OpenFiles(), m.process.Memory(), s.counter(ctx, m, "quorate_bad_cosignatures_total"))
	}
	s.Says("client", "eight statements one after the other, the slowest certified after %.1f s", worst.Seconds())
	s.Demand(worst < 5*time.Second, "that took too long")
	s.Demand(s.member("r1").process.Memory() < before+moreMemory, "r1 has %d MB, %d before", s.member("r1").process.Memory(), before)
	return s.noAlarms(ctx, s.honest()...)
}

func answersLate(ctx context.Context, s *scene) error    { return s.served(ctx, "silent") }
func answersEndless(ctx context.Context, s *scene) error { return s.served(ctx, "endless") }
func flooded(ctx context.Context, s *scene) error        { return s.served(ctx, "flood") }
