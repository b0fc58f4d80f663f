package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
)

// A client of the liar alone must refuse with a reason; with an honest server
// behind it in its list, it must get there by itself.

// rolledBack: clients that have seen more refuse what is behind it.
func rolledBack(ctx context.Context, s *scene) error {
	trust := filepath.Join(s.Dir, "trust")
	if err := s.lie(ctx, "rollback"); err != nil {
		return err
	}
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	saved := filepath.Join(s.Dir, "head.txt")
	if _, err := s.cli(ctx, "r1", "status", "--trust-dir", trust, "--save-head", saved); err != nil {
		return err
	}
	c, err := s.client(trust, s.liar())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Sync(ctx)
	var rollback *client.RollbackError
	s.Says("client", "of the liar alone: %v", err)
	s.Demand(errors.As(err, &rollback), "the client took a head behind its own: %v", err)
	out, err := s.cli(ctx, liarName, "status", "--trust-dir", trust)
	s.Says("status", "%s", problemOf(out, err))
	s.Demand(strings.Contains(out, "PROBLEM") && strings.Contains(out, "behind"), "status says no word of the rollback")
	out, err = s.cli(ctx, liarName, "list", "entries", "--trust-dir", trust)
	s.Demand(err != nil, "list entries took the liar's word: %s", out)
	if _, err := s.cli(ctx, liarName, "export", "--out", "old"); err != nil {
		s.Says("auditor", "export from the liar: %s", problemOf("", err))
	} else {
		out, err = s.cli(ctx, "", "verify", "old", "--at-least", saved)
		s.Says("auditor", "verify of an export from the liar, --at-least a head from r1: %s", problemOf(out, err))
		s.Demand(err != nil, "an export of a rolled-back ledger reaches the newer head")
	}
	if err := s.failsOver(ctx, trust); err != nil {
		return err
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	return nil
}

// failsOver demands that a client with an honest server behind the liar gets to
// the head that honest ones have.
func (s *scene) failsOver(ctx context.Context, trust string) error {
	c, err := s.client(trust, s.liar(), s.member("r1"))
	if err != nil {
		return err
	}
	defer c.Close()
	begin := time.Now()
	head, err := c.Sync(ctx)
	if err != nil {
		return err
	}
	s.heads.add(head.Note, "a client")
	took := time.Since(begin)
	status, err := s.status(ctx, s.member("r1"))
	if err != nil {
		return err
	}
	s.Says("client", "of the liar and r1: size %d after %.1f s", head.Size, took.Seconds())
	s.Demand(head.Size+4 >= status.Certified, "the client has size %d, r1 %d", head.Size, status.Certified)
	s.Demand(took < failOverWithin, "it took the client %s to get to r1", took)
	if _, err := c.Entries(ctx, 0, 16); err != nil {
		s.Fail("entries by way of the liar: %v", err)
	}
	if _, _, err := c.VerifiedPolicy(ctx); err != nil {
		s.Fail("a record by way of the liar: %v", err)
	}
	return nil
}

func (s *scene) forgedHead(ctx context.Context, as string) error {
	if err := s.lie(ctx, "forged", "as", as); err != nil {
		return err
	}
	note, err := s.Get(ctx, s.liar().url()+"/checkpoint")
	if err != nil {
		return err
	}
	s.heads.add(note, "the liar's API")
	if err := s.refusedAlone(ctx); err != nil {
		return err
	}
	return s.failsOver(ctx, "")
}

// refusedAlone demands that every reader refuses the liar as its only server.
func (s *scene) refusedAlone(ctx context.Context) error {
	c, err := s.client("", s.liar())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Sync(ctx)
	var proof *client.ProofError
	s.Says("client", "of the liar alone: %.200v", err)
	s.Demand(errors.As(err, &proof), "the client took a head that is not certified: %v", err)
	out, err := s.cli(ctx, liarName, "status")
	s.Says("status", "%s", problemOf(out, err))
	s.Demand(strings.Contains(out, "PROBLEM"), "status says no word of it")
	out, err = s.cli(ctx, liarName, "export", "--out", "forged")
	s.Says("auditor", "export from the liar: %s", problemOf(out, err))
	s.Demand(err != nil, "an export of a forged head was written")
	return nil
}

func forgedAlone(ctx context.Context, s *scene) error { return s.forgedHead(ctx, "alone") }
func forgedMixed(ctx context.Context, s *scene) error { return s.forgedHead(ctx, "mixed") }

// answersTampered: entries, proofs and links with a byte changed.
func answersTampered(ctx context.Context, s *scene) error {
	if err := s.goesOn(ctx, 3); err != nil {
		return err
	}
	for _, what := range []string{"links", "rest"} {
		if err := s.lie(ctx, "tampered", "what", what); err != nil {
			return err
		}
		for _, one := range [][]string{{"list", "entries"}, {"prove", "1", "--out", "x.tlog-proof"}, {"export", "--out", what}} {
			out, err := s.cli(ctx, liarName, one...)
			s.Says(one[0], "%s", problemOf(out, err))
			s.Demand(err != nil, "quorate %s took what the liar gave", strings.Join(one, " "))
		}
		if _, err := os.Stat(filepath.Join(s.Dir, what)); err == nil {
			out, err := s.cli(ctx, "", "verify", what)
			s.Demand(err != nil, "what was exported of the liar verifies: %s", out)
		}
		if err := s.failsOver(ctx, ""); err != nil {
			return err
		}
	}
	s.Says("attacker", "%s", s.deeds(ctx))
	return nil
}

// watchForged: a watcher prints nothing that is not certified, and goes to
// another server.
func watchForged(ctx context.Context, s *scene) error {
	if err := s.goesOn(ctx, 2); err != nil {
		return err
	}
	if err := s.lie(ctx, "watch"); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	out, err := s.cli(limited, liarName, "watch", "--from", "3", "--count", "4")
	cancel()
	s.Says("watch", "of the liar alone: %s", problemOf(out, err))
	s.Demand(!strings.Contains(out, "quarantine"), "quorate watch prints a forged quarantine")
	limited, cancel = context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err = s.cli(limited, liarName+",r1", "watch", "--from", "3", "--count", "4")
	s.Says("watch", "of the liar and r1: %d lines, %s", strings.Count(out, "\n"), problemOf("ok", err))
	s.Demand(err == nil && !strings.Contains(out, "quarantine"), "quorate watch does not get to r1")
	s.Says("attacker", "%s", s.deeds(ctx))
	return nil
}

// publicEndless and publicSlow: a client leaves the server in bounded time.
func publicEndless(ctx context.Context, s *scene) error {
	if err := s.lie(ctx, "publicly", "endless", "1"); err != nil {
		return err
	}
	return s.failsOver(ctx, "")
}

func publicSlow(ctx context.Context, s *scene) error {
	if err := s.lie(ctx, "publicly"); err != nil {
		return err
	}
	return s.failsOver(ctx, "")
}

// cli runs the real program towards servers, names with commas, or none.
func (s *scene) cli(ctx context.Context, servers string, args ...string) (string, error) {
	args = append(args, "--genesis", filepath.Join("ledger", "genesis"))
	if servers != "" {
		var urls []string
		for name := range strings.SplitSeq(servers, ",") {
			urls = append(urls, s.member(name).url())
		}
		args = append(args, "--server", strings.Join(urls, ","))
	}
	return s.Quorate(ctx, args...)
}

// problemOf is the line that says what is wrong.
func problemOf(out string, err error) string {
	text := out
	if err != nil {
		text = err.Error()
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "PROBLEM") || strings.Contains(line, "rror") || err != nil {
			return strings.TrimSpace(line)
		}
	}
	if err == nil {
		return "done"
	}
	return text
}
