package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// The most that one submission carries. A bundle is accepted whole or not at
// all, so it is split only where it would be refused for its size.
const (
	maxSubmissionBytes      = 3 << 20
	maxSubmissionStatements = 400
)

func (a *app) submitCommand() *cobra.Command {
	var server serverFlags
	var wait string
	c := &cobra.Command{
		Use:     "submit FILE…",
		Short:   "submit statements that were signed elsewhere",
		Long:    "submit sends the statements of the files as one bundle, which the ledger takes\nwhole or not at all. Submitting the same files again is safe: what was accepted\ngives its first result.",
		Example: "  quorate submit p.cose a.cose --wait certified",
		Args:    minArgs(1, "a statement file"),
		RunE: func(c *cobra.Command, args []string) error {
			envelopes, proposals, err := submission(args)
			if err != nil {
				return err
			}
			return a.withServer(c, &server, func(ctx context.Context, l *link) error {
				answer, err := a.submitAll(ctx, l, envelopes, wait)
				if err != nil {
					return err
				}
				for _, id := range proposals {
					if p, err := l.Proposal(ctx, id.String(), client.Read{Consistency: client.Linearizable}); err == nil {
						answer.Proposals = append(answer.Proposals, proposalNow{p.ID, p.Action, p.Standing, p.Reason})
					}
				}
				return a.print(answer, answer.text)
			})
		},
	}
	server.add(c.Flags())
	addWait(c.Flags(), &wait)
	return c
}

// submission reads files into one bundle: joins first, then proposals, then
// all else, because a statement may only name what stands before it.
func submission(files []string) (envelopes [][]byte, proposals []ledger.Hash, err error) {
	var order [3][][]byte
	seen := map[ledger.Hash]bool{}
	for _, path := range files {
		list, err := readStatements(path)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range list {
			if seen[s.ID] {
				continue
			}
			seen[s.ID] = true
			rank := 2
			switch s.Payload.Type {
			case ledger.TypeJoin:
				rank = 0
			case ledger.TypePropose:
				rank = 1
				proposals = append(proposals, s.ID)
			case ledger.TypeApprove, ledger.TypeReject, ledger.TypeWithdraw, ledger.TypeVeto:
				body, err := ledger.DecodeBody[ledger.Ballot](s)
				if err != nil {
					return nil, nil, err
				}
				proposals = append(proposals, body.Proposal)
			}
			order[rank] = append(order[rank], s.Envelope)
		}
	}
	for _, part := range order {
		envelopes = append(envelopes, part...)
	}
	return envelopes, unique(proposals), nil
}

func unique(list []ledger.Hash) []ledger.Hash {
	seen := map[ledger.Hash]bool{}
	var out []ledger.Hash
	for _, h := range list {
		if !seen[h] {
			seen[h] = true
			out = append(out, h)
		}
	}
	return out
}

// submitted is what became of a submission.
type submitted struct {
	Level      string                   `json:"level"`
	First      uint64                   `json:"first"`
	Last       uint64                   `json:"last"`
	Stamp      uint64                   `json:"stamp"`
	Checkpoint uint64                   `json:"checkpoint,omitempty"`
	Verified   bool                     `json:"verified"` // this program checked the inclusion itself
	Statements []client.StatementResult `json:"statements"`
	Proposals  []proposalNow            `json:"proposals,omitempty"`
}

type proposalNow struct {
	ID       string `json:"id"`
	Action   string `json:"action"`
	Standing string `json:"standing"`
	Reason   string `json:"reason,omitempty"`
}

// submitAll submits envelopes, in several submissions where one is too large.
func (a *app) submitAll(ctx context.Context, l *link, envelopes [][]byte, wait string) (*submitted, error) {
	level := client.Wait(wait)
	if level != client.WaitCommitted && level != client.WaitCertified {
		return nil, usage("say --wait committed or --wait certified", "unknown level %q", wait)
	}
	all := &submitted{Level: wait, Verified: level == client.WaitCertified}
	for _, part := range split(envelopes, maxSubmissionStatements, maxSubmissionBytes) {
		answer, err := l.Submit(ctx, part, level)
		if err != nil && answer != nil {
			return nil, &unprovenError{err}
		}
		if err != nil {
			return nil, err
		}
		if len(answer.Statements) != len(part) {
			return nil, &unprovenError{fmt.Errorf("the server gives %d verdicts for %d statements", len(answer.Statements), len(part))}
		}
		if all.Statements == nil {
			all.First = answer.First
		}
		all.Last, all.Stamp, all.Checkpoint = answer.Last, answer.Stamp, answer.Checkpoint
		all.Verified = all.Verified && answer.Verified
		all.Statements = append(all.Statements, answer.Statements...)
	}
	return all, nil
}

// unprovenError says that a server took a submission, and that what it answered did not
// prove it.
type unprovenError struct{ error }

func (e *unprovenError) Unwrap() error { return e.error }

// definite says whether nothing came of a submission: the rules refused it, or it failed
// here before anything was sent. All else may have been taken: an earlier try whose answer
// was lost counts too, whatever the last one was answered.
func definite(err error) bool {
	if errors.As(err, new(*unprovenError)) {
		return false
	}
	var p *client.Problem
	if errors.As(err, &p) {
		passing := p.Status < 400 || p.Status >= 500 || p.Status == http.StatusRequestTimeout || p.Status == http.StatusTooManyRequests
		// A proxy on the way has a code of its status alone.
		return len(p.Statements) > 0 || !passing && !strings.HasPrefix(p.Code, "http_")
	}
	return errors.As(err, new(*failure))
}

// split cuts a list so that no part has more than count items or size bytes.
func split(envelopes [][]byte, count, size int) [][][]byte {
	var parts [][][]byte
	bytes := 0
	for _, e := range envelopes {
		last := len(parts) - 1
		if last < 0 || len(parts[last]) == count || bytes+len(e) > size {
			parts, bytes = append(parts, nil), 0
			last++
		}
		parts[last] = append(parts[last], e)
		bytes += len(e)
	}
	return parts
}

// maxShownStatements keeps a bundle of hundreds from filling the screen.
const maxShownStatements = 8

func (s *submitted) text(w io.Writer) {
	for i, r := range s.Statements {
		if i == maxShownStatements && len(s.Statements) > maxShownStatements+1 {
			fmt.Fprintf(w, "… and %d more\n", len(s.Statements)-i)
			break
		}
		again := ""
		if r.Duplicate {
			again = ", accepted before"
		}
		fmt.Fprintf(w, "%s %s… is entry %d%s\n", orText(r.Type, "statement"), r.ID[:min(16, len(r.ID))], r.Seq, again)
	}
	switch {
	case s.Verified:
		fmt.Fprintf(w, "certified at size %d, and its inclusion verified here\n", s.Checkpoint)
	case s.Level == string(client.WaitCertified):
		fmt.Fprintf(w, "certified at size %d, as the server says\n", s.Checkpoint)
	default:
		fmt.Fprintf(w, "committed by Raft's majority; --wait certified waits for the cosigners\n")
	}
	for _, p := range s.Proposals {
		fmt.Fprintf(w, "%s %s… is now %s%s\n", p.Action, p.ID[:min(16, len(p.ID))], p.Standing, suffix(": ", clean(p.Reason)))
	}
}
