package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"
)

// forkOfOne: r3 gets another history than r1 and r2. Theirs is certified, so r3
// finds that it went astray and halts; it comes back re-keyed.
func forkOfOne(ctx context.Context, s *scene) error {
	if err := s.forked(ctx, "r3"); err != nil {
		return err
	}
	victim := s.member("r3")
	reason := ""
	if err := s.await(ctx, "r3 halts", func() bool {
		reason = s.alarmed(ctx, victim, "halted")
		return reason != ""
	}); err != nil {
		return err
	}
	s.says("r3", "alarm %s", reason)
	for _, m := range s.members[:2] {
		s.says(m.name, "alarms: %s", s.alarmsOf(ctx, m))
	}
	if _, err := s.get(ctx, victim.url()+"/v1/entries?limit=1"); err == nil {
		s.fail("r3 halted and still serves entries")
	}
	took, err := s.submit(ctx, s.member("r1"), "alice", "after the fork")
	if err != nil {
		return err
	}
	s.says("client", "a statement at r1 was certified after %.1f s", took.Seconds())
	if err := s.truth(ctx); err != nil {
		return err
	}
	return s.rekey(ctx, victim)
}

// forkOfAll: every honest replica gets a history of its own. No head is certified
// any more, each replica says that others signed other heads, and a client that
// wants a fresh head is told that there is none.
func forkOfAll(ctx context.Context, s *scene) error {
	if err := s.forked(ctx, "r1,r2,r3"); err != nil {
		return err
	}
	for _, m := range s.honest() {
		alarm := ""
		if err := s.await(ctx, m.name+" raises the alarm fork", func() bool {
			alarm = s.alarmed(ctx, m, "fork")
			return alarm != ""
		}); err != nil {
			return err
		}
		s.says(m.name, "alarm %s", alarm)
	}
	for _, m := range s.honest() {
		if err := s.await(ctx, m.name+" says that nothing is certified", func() bool { return s.alarmed(ctx, m, "uncertified") != "" }); err != nil {
			return err
		}
	}
	s.says("all", "alarm uncertified after %.1f s; the way back is operator recover from the last certified head", s.took().Seconds())
	return nil
}

// forked makes the liar lead, gives the victims other histories, and says
// something for them to differ in.
func (s *scene) forked(ctx context.Context, victims string) error {
	if err := s.lead(ctx, s.liar()); err != nil {
		return err
	}
	if err := s.lie(ctx, "fork", "to", victims); err != nil {
		return err
	}
	// Whoever is asked may be a victim: the statement need not come through.
	limited, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := s.submit(limited, s.member("r1"), "bob", "a statement that some never get")
	s.says("client", "a statement at r1: %s", orCertified(err))
	s.says("attacker", "%s", s.deeds(ctx))
	return ctx.Err()
}

func orCertified(err error) string {
	if err == nil {
		return "certified"
	}
	return err.Error()
}

func (s *scene) alarmsOf(ctx context.Context, m *member) string {
	status, err := s.status(ctx, m)
	if err != nil {
		return err.Error()
	}
	if len(status.Alarms) == 0 {
		return "none"
	}
	return strings.Join(status.Alarms, "; ")
}

// rekey brings a replica back with a new key and an empty disk, by a decision of
// the council.
func (s *scene) rekey(ctx context.Context, m *member) error {
	begin := time.Now()
	if err := s.end(m, killed); err != nil {
		return err
	}
	if err := s.moveAside(m); err != nil {
		return err
	}
	operator := s.people[m.name].Operator
	if _, err := s.quorate(ctx, "keygen", "replica", m.name, "--operator", operator, "--out", "fresh", "--insecure-plain", "--peer", m.peer, "--api", m.url()); err != nil {
		return err
	}
	at := []string{"--server", s.member("r1").url(), "--genesis", filepath.Join("ledger", "genesis"), "--yes"}
	out, err := s.quorate(ctx, append([]string{"propose", "replica.rekey", "replica=@" + filepath.Join("fresh", m.name+".pub"), "--key", filepath.Join("keys", "alice.key"), "--output", "json"}, at...)...)
	if err != nil {
		return err
	}
	id := fieldOf(out, "id")
	if _, err := s.quorate(ctx, append([]string{"approve", id, "--key", filepath.Join("keys", "bob.key")}, at...)...); err != nil {
		return err
	}
	if err := s.configureFresh(m); err != nil {
		return err
	}
	if err := s.start(m); err != nil {
		return err
	}
	if err := s.await(ctx, m.name+" is active again", func() bool {
		status, err := s.status(ctx, m)
		return err == nil && status.Ready && status.Standing == "active" && status.GapFrom == status.GapTo
	}); err != nil {
		return err
	}
	s.says("council", "re-keyed %s; with an empty disk it was active again after %.1f s", m.name, time.Since(begin).Seconds())
	return nil
}
