package client

import (
	"context"
	"errors"
	"net"
	"time"
)

const codeNoLeader = "no_leader"

// search is the part of a submission that looks for a leader. Every server
// holds a submission for seconds while there is none, so that asking all of
// them in turn takes long: once one of a round has held it, the others are
// asked whether they know a leader, which they answer at once.
type search struct {
	c       *Client
	began   time.Time
	without map[string]bool // what each server last said; true: it has no leader, or does not listen
	round   map[string]bool // servers asked in this round
	held    *Problem        // by a server of this round, in vain
	unknown bool            // some try may have had an effect: then every server is asked in full
}

func newSearch(c *Client) *search {
	return &search{c: c, began: time.Now(), without: map[string]bool{}, round: map[string]bool{}}
}

// noLeaderError ends a submission: nobody has a leader, and it waited enough.
type noLeaderError struct{ last *Problem }

func (e *noLeaderError) Error() string { return e.last.Error() }

// try submits at a server, or says without it that there is no leader.
func (s *search) try(ctx context.Context, server string, submit func() error) error {
	if s.round[server] {
		clear(s.round)
		s.held = nil
	}
	s.round[server] = true
	var err error
	if s.held != nil && !s.unknown && s.leaderless(ctx, server) {
		err = s.held
	} else {
		err = submit()
	}
	if err == nil {
		return nil
	}
	var problem *Problem
	var network *net.OpError
	switch {
	case errors.As(err, &problem):
		s.without[server] = false
		switch problem.Code {
		case codeNoLeader:
			s.without[server], s.held = true, problem
		case "busy", "rate_limited", "halted", "not_ready": // nothing was tried
		default:
			s.unknown = true
		}
	case errors.As(err, &network) && network.Op == "dial":
		s.without[server] = true
	default:
		s.unknown = true
	}
	if s.held == nil || s.unknown || time.Since(s.began) < leaderPatience {
		return err
	}
	for _, one := range s.c.servers {
		if !s.round[one] || !s.without[one] { // only whole rounds: another may know one by now
			return err
		}
	}
	return &noLeaderError{s.held}
}

// leaderless says whether a server knows no leader, by its own status.
func (s *search) leaderless(ctx context.Context, server string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	status, err := s.c.StatusOf(ctx, server)
	return err == nil && status.Name != "" && status.Leader == ""
}
