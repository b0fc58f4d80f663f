package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// reconfigured makes the liar lead and send a configuration of Raft that nobody
// decided, and demands that the honest three keep theirs and go on without the
// liar.
func (s *scene) reconfigured(ctx context.Context, parameters ...string) error {
	if err := s.lead(ctx, s.liar()); err != nil {
		return err
	}
	if err := s.lie(ctx, "reconfigure", parameters...); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	_, err := s.submit(limited, s.member("r1"), "bob", "under another configuration")
	cancel()
	s.Says("client", "a statement at r1: %s", orCertified(err))
	s.Says("attacker", "%s", s.deeds(ctx))
	s.saysRefusals(ctx)
	return s.withoutLiar(ctx)
}

// withoutLiar kills the liar, and demands that the three others have each other
// as voters, elect one of them and certify.
func (s *scene) withoutLiar(ctx context.Context) error {
	s.heads.hear(ctx)
	if err := s.end(s.liar(), killed); err != nil {
		return err
	}
	begin := time.Now()
	for _, m := range s.honest() {
		if _, err := s.submit(ctx, m, "carol", "the liar is gone"); err != nil {
			return fmt.Errorf("with the liar gone: %w", err)
		}
		status, err := s.status(ctx, m)
		if err != nil {
			return err
		}
		voters := 0
		for _, p := range status.Peers {
			if p.Suffrage == "Voter" {
				voters++
			}
		}
		s.Demand(voters == replicas && status.Quorum == 3, "%s counts %d voters and a quorum of %d", m.name, voters, status.Quorum)
	}
	s.Says("all", "with the liar killed, statements at r1, r2 and r3 were certified within %.1f s; each counts 4 voters", time.Since(begin).Seconds())
	return s.noAlarms(ctx, s.honest()...)
}

func (s *scene) saysRefusals(ctx context.Context) {
	for _, m := range s.honest() {
		s.Says(m.name, "guard refused %s", counted(s.refusals(ctx, m)))
	}
}

// refusedBySomebody sums what the guards of the honest replicas refused.
func (s *scene) refusedBySomebody(ctx context.Context) int {
	n := 0
	for _, m := range s.honest() {
		for _, count := range s.refusals(ctx, m) {
			n += count
		}
	}
	return n
}

func counted(byRule map[string]int) string {
	if len(byRule) == 0 {
		return "nothing"
	}
	return fmt.Sprint(byRule)[3:]
}

// strangerAdded: nobody ever talks to the stranger.
func strangerAdded(ctx context.Context, s *scene) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	var calls atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	if err := s.reconfigured(ctx, "add", "00000000000000000000000000000000000000000000000000000000000000ff@"+l.Addr().String()); err != nil {
		return err
	}
	s.Says("stranger", "was called %d times", calls.Load())
	s.Demand(calls.Load() == 0, "an honest replica called the stranger")
	s.Demand(s.refusedBySomebody(ctx) > 0, "no guard refused anything")
	return nil
}

func voterRemoved(ctx context.Context, s *scene) error {
	if err := s.reconfigured(ctx, "remove", "r3"); err != nil {
		return err
	}
	s.Demand(s.refusedBySomebody(ctx) > 0, "no guard refused anything")
	return nil
}

// garbageConfigured: Raft itself panics at a configuration that does not decode.
func garbageConfigured(ctx context.Context, s *scene) error {
	return s.reconfigured(ctx, "garbage", "1")
}

// termLeapt: no term near 2^60 is taken, by whichever request; elections go on.
func termLeapt(ctx context.Context, s *scene) error {
	for _, term := range []string{"0x1000000000000000", "0xffffffffffffffff"} {
		for _, by := range []string{"prevotes", "votes", "appends"} {
			told, err := s.do(ctx, "leap", "by", by, "term", term)
			if err != nil {
				return err
			}
			s.Says("attacker", "%s of term %s: %.160s", by, term, told)
		}
	}
	s.saysRefusals(ctx)
	for _, m := range s.honest() {
		status, err := s.status(ctx, m)
		if err != nil {
			return err
		}
		s.Says(m.name, "is in term %d", status.Term)
		s.Demand(status.Term < 1<<32, "%s is in term %d", m.name, status.Term)
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	return s.withoutLiar(ctx)
}

// disruptedBy keeps the liar at unseating leaders, and demands that statements
// are certified all the while.
func (s *scene) disruptedBy(ctx context.Context, by string) error {
	if err := s.lead(ctx, s.member("r1")); err != nil {
		return err
	}
	before := s.terms(ctx)
	if err := s.lie(ctx, "disrupt", "by", by); err != nil {
		return err
	}
	worst := time.Duration(0)
	for i := range 4 {
		took, err := s.submit(ctx, s.honest()[i%3], "alice", "in between")
		if err != nil {
			s.saysRefusals(ctx)
			return err
		}
		worst = max(worst, took)
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	s.saysRefusals(ctx)
	s.Says("client", "four statements one after the other, the slowest certified after %.1f s; the term rose by %d", worst.Seconds(), s.terms(ctx)-before)
	return nil
}

// terms is the highest term of an honest replica.
func (s *scene) terms(ctx context.Context) uint64 {
	highest := uint64(0)
	for _, m := range s.honest() {
		if status, err := s.status(ctx, m); err == nil {
			highest = max(highest, status.Term)
		}
	}
	return highest
}

func disruptedByVotes(ctx context.Context, s *scene) error    { return s.disruptedBy(ctx, "votes") }
func disruptedByTimeouts(ctx context.Context, s *scene) error { return s.disruptedBy(ctx, "timeouts") }

// electionClaimed: nobody follows the liar, and what the leader acknowledged
// stays, after kill -9 of all too.
func electionClaimed(ctx context.Context, s *scene) error {
	if err := s.lead(ctx, s.member("r1")); err != nil {
		return err
	}
	before := s.terms(ctx)
	if err := s.lie(ctx, "claim"); err != nil {
		return err
	}
	for range 3 { // each claim is refused once the voters were asked
		if err := s.goesOn(ctx, 3); err != nil {
			s.saysRefusals(ctx)
			return err
		}
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	s.saysRefusals(ctx)
	for _, m := range s.honest() {
		s.Demand(s.refusals(ctx, m)["election"] > 0, "%s refused no claim", m.name)
	}
	rose := s.terms(ctx) - before
	s.Says("all", "the term rose by %d", rose)
	s.Demand(rose <= 2, "claims moved the term by %d", rose) // a starved machine elects for nothing
	return s.withoutLiar(ctx)
}

// overwritten: no honest replica lets go of a committed entry; after kill -9 of
// all, all is still there.
func overwritten(ctx context.Context, s *scene) error {
	if err := s.lead(ctx, s.member("r1")); err != nil {
		return err // so that there are entries of a term before the liar's
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	if err := s.lead(ctx, s.liar()); err != nil {
		return err
	}
	return s.overwrite(ctx, "")
}

// usurped: the same from a replica that does not lead, in the name of the one
// that does and in its own.
func usurped(ctx context.Context, s *scene) error {
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	// By two steps, so that there are entries of an earlier term, whoever led first.
	for _, name := range []string{"r2", "r1"} {
		if err := s.lead(ctx, s.member(name)); err != nil {
			return err
		}
	}
	if told, err := s.do(ctx, "overwrite", "as", "r1"); err != nil {
		return err
	} else {
		s.Says("attacker", "%.300s", told)
	}
	return s.overwrite(ctx, liarName)
}

func (s *scene) overwrite(ctx context.Context, as string) error {
	told, err := s.do(ctx, "overwrite", "as", as)
	if err != nil {
		return err
	}
	s.Says("attacker", "%.300s", told)
	s.Says("attacker", "%s", s.deeds(ctx))
	s.saysRefusals(ctx)
	s.heads.hear(ctx)
	if err := s.end(s.liar(), killed); err != nil {
		return err
	}
	if err := s.goesOn(ctx, 1); err != nil {
		return err
	}
	return s.restarted(ctx)
}
