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
	s.says("client", "bob's statement at r2 was certified after %.1f s", took.Seconds())
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
	s.says("attacker", "%s", s.deeds(ctx))
	s.saysRefusals(ctx)
	if err != nil {
		return err
	}
	s.says("client", "alice's statement at r1 was certified after %.1f s; %s leads now", took.Seconds(), s.leader(ctx))
	s.demand(took < censorWithin, "that took longer than %s", censorWithin)
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
	before := s.memory(s.member("r1"))
	if err := s.lie(ctx, lie); err != nil {
		return err
	}
	worst := time.Duration(0)
	for i := range 8 {
		took, err := s.submit(ctx, s.honest()[i%3], "alice", "meanwhile")
		if err != nil {
			s.says("attacker", "%s", s.deeds(ctx))
			return err
		}
		worst = max(worst, took)
	}
	s.says("attacker", "%s", s.deeds(ctx))
	for _, m := range s.honest() {
		s.says(m.name, "%d descriptors, %d MB; %.0f cosignatures did not verify", openFiles(m), s.memory(m), s.counter(ctx, m, "quorate_bad_cosignatures_total"))
	}
	s.says("client", "eight statements one after the other, the slowest certified after %.1f s", worst.Seconds())
	s.demand(worst < 5*time.Second, "that took too long")
	s.demand(s.memory(s.member("r1")) < before+moreMemory, "r1 has %d MB, %d before", s.memory(s.member("r1")), before)
	return s.noAlarms(ctx, s.honest()...)
}

func answersLate(ctx context.Context, s *scene) error    { return s.served(ctx, "silent") }
func answersEndless(ctx context.Context, s *scene) error { return s.served(ctx, "endless") }
func flooded(ctx context.Context, s *scene) error        { return s.served(ctx, "flood") }
