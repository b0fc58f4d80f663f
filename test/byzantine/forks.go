package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// forkOfOne: r3 gets another history than r1 and r2. Theirs is certified, so r3
// finds that it went astray and halts; it comes back re-keyed.
func forkOfOne(ctx context.Context, s *scene) error {
	if err := s.forked(ctx, "r3"); err != nil {
		return err
	}
	victim := s.member("r3")
	reason := ""
	if err := s.Await(ctx, "r3 halts", func() bool {
		reason = s.alarmed(ctx, victim, "halted")
		return reason != ""
	}); err != nil {
		return err
	}
	s.Says("r3", "alarm %s", reason)
	for _, m := range s.members[:2] {
		s.Says(m.name, "alarms: %s", s.alarmsOf(ctx, m))
	}
	if _, err := s.Get(ctx, victim.url()+"/v1/entries?limit=1"); err == nil {
		s.Fail("r3 halted and still serves entries")
	}
	took, err := s.submit(ctx, s.member("r1"), "alice", "after the fork")
	if err != nil {
		return err
	}
	s.Says("client", "a statement at r1 was certified after %.1f s", took.Seconds())
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
		if err := s.Await(ctx, m.name+" raises the alarm fork", func() bool {
			alarm = s.alarmed(ctx, m, "fork")
			return alarm != ""
		}); err != nil {
			return err
		}
		s.Says(m.name, "alarm %s", alarm)
	}
	for _, m := range s.honest() {
		if err := s.Await(ctx, m.name+" says that nothing is certified", func() bool { return s.alarmed(ctx, m, "uncertified") != "" }); err != nil {
			return err
		}
	}
	s.Says("all", "alarm uncertified after %.1f s", s.Took().Seconds())
	if err := s.evidence(ctx, s.member("r1")); err != nil {
		return err
	}
	return s.recovered(ctx)
}

// evidence has a replica write the proof of the liar's two histories, which the
// program verifies with the genesis hash alone, and refuses once it is changed.
func (s *scene) evidence(ctx context.Context, m *member) error {
	folder := filepath.Join("evidence", m.name)
	if err := os.MkdirAll(filepath.Join(s.Dir, folder), 0o700); err != nil {
		return err
	}
	socket := filepath.Join("ledger", m.name, "operator.sock")
	if err := s.Await(ctx, m.name+" has the proof that the liar signed two histories", func() bool {
		status, err := s.status(ctx, m)
		return err == nil && slices.ContainsFunc(status.Forks, func(f client.Fork) bool { return f.Replica == liarName && f.Proven })
	}); err != nil {
		return err
	}
	if _, err := s.Quorate(ctx, "operator", "forks", "--socket", socket, "--out", folder); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, folder, "fork-*.json"))
	if err != nil {
		return err
	}
	s.Demand(len(files) == 1 && strings.Contains(files[0], liarName), "the proofs of %s are %v, want one against the liar", m.name, files)
	if len(files) == 0 {
		return nil
	}
	genesis := filepath.Join("ledger", "genesis")
	out, err := s.Quorate(ctx, "verify", files[0], "--genesis", genesis)
	if err != nil {
		return err
	}
	s.Demand(strings.Contains(out, "replica "+liarName), "the proof is said to be about somebody else: %s", out)
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	// With one head twice nothing is proven.
	p, err := ledger.ParseForkProof(text)
	if err != nil {
		return err
	}
	p.Theirs, p.Consistency = p.Ours, nil
	if text, err = p.Encode(); err != nil {
		return err
	}
	changed := filepath.Join(s.Dir, folder, "changed.json")
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		return err
	}
	_, err = s.Quorate(ctx, "verify", changed, "--genesis", genesis)
	s.Demand(err != nil, "a changed proof verifies")
	s.Says("auditor", "%s's proof against the liar verifies offline, a changed one does not", m.name)
	return nil
}

// recovered ends the fork as the playbook of a lost quorum says: all stop, the
// council decides that the ledger goes on from the last certified head without
// the liar, and that is what it does, though the liar comes back.
func (s *scene) recovered(ctx context.Context) error {
	begin := time.Now()
	s.heads.hear(ctx)
	before := uint64(0)
	for _, m := range s.honest() {
		if status, err := s.status(ctx, m); err == nil {
			before = max(before, status.Certified)
		}
	}
	for _, m := range s.members {
		if err := s.end(m, syscall.SIGTERM); err != nil {
			return err
		}
	}
	plan := []string{"operator", "recover", "plan", "--keep", "r1,r2,r3", "--out", "plan.json"}
	for _, m := range s.honest() {
		plan = append(plan, "--config", filepath.Join("ledger", m.name+".yaml"))
	}
	genesis := []string{"--genesis", filepath.Join("ledger", "genesis"), "--yes"}
	for _, step := range [][]string{
		plan,
		append([]string{"propose", "recover", "plan=plan.json", "--key", filepath.Join("keys", "alice.key"), "--out", "recover.cose"}, genesis...),
		append([]string{"approve", "recover.cose", "--key", filepath.Join("keys", "bob.key"), "--out", "bob.cose"}, genesis...),
	} {
		if _, err := s.Quorate(ctx, step...); err != nil {
			return err
		}
	}
	for _, m := range s.honest() {
		if _, err := s.Quorate(ctx, "operator", "recover", "apply", "--config", filepath.Join("ledger", m.name+".yaml"), "--plan", "plan.json", "recover.cose", "bob.cose"); err != nil {
			return err
		}
	}
	s.recoveries++
	for _, m := range s.members { // the liar too, as if nothing had been
		if err := s.start(m); err != nil {
			return err
		}
	}
	for _, m := range s.honest() {
		if err := s.Await(ctx, m.name+" certifies in generation 1", func() bool {
			status, err := s.status(ctx, m)
			return err == nil && status.Ready && status.Generation == s.recoveries && status.Certified > before
		}); err != nil {
			return err
		}
		status, err := s.status(ctx, m)
		if err != nil {
			return err
		}
		s.Demand(m.name != "r1" || slices.ContainsFunc(status.Forks, func(f client.Fork) bool { return f.Replica == liarName && f.Proven }),
			"%s forgot its proof over the recovery: %v", m.name, status.Forks)
	}
	s.Says("council", "recovered from size %d without the liar: certified again %.1f s after the fork's end was decided", before, time.Since(begin).Seconds())
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	halted := ""
	if err := s.Await(ctx, "the liar's own replica halts", func() bool {
		halted = s.alarmed(ctx, s.liar(), "halted")
		return halted != ""
	}); err != nil {
		return err
	}
	s.Says("attacker", "came back: %s", halted)
	return s.noAlarms(ctx, s.honest()...)
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
	s.Says("client", "a statement at r1: %s", orCertified(err))
	s.Says("attacker", "%s", s.deeds(ctx))
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
	if _, err := s.Quorate(ctx, "keygen", "replica", m.name, "--operator", operator, "--out", "fresh", "--insecure-plain", "--peer", m.peer, "--api", m.url()); err != nil {
		return err
	}
	at := []string{"--server", s.member("r1").url(), "--genesis", filepath.Join("ledger", "genesis"), "--yes"}
	out, err := s.Quorate(ctx, append([]string{"propose", "replica.rekey", "replica=@" + filepath.Join("fresh", m.name+".pub"), "--key", filepath.Join("keys", "alice.key"), "--output", "json"}, at...)...)
	if err != nil {
		return err
	}
	id := fieldOf(out, "id")
	if _, err := s.Quorate(ctx, append([]string{"approve", id, "--key", filepath.Join("keys", "bob.key")}, at...)...); err != nil {
		return err
	}
	if err := s.configureFresh(m); err != nil {
		return err
	}
	if err := s.start(m); err != nil {
		return err
	}
	if err := s.Await(ctx, m.name+" is active again", func() bool {
		status, err := s.status(ctx, m)
		return err == nil && status.Ready && status.Standing == "active" && status.GapFrom == status.GapTo
	}); err != nil {
		return err
	}
	s.Says("council", "re-keyed %s; with an empty disk it was active again after %.1f s", m.name, time.Since(begin).Seconds())
	return nil
}
