package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// spread is how a series of times lies, in milliseconds.
type spread struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Worst float64 `json:"worst_ms"`
}

func spreadOf(times []time.Duration) *spread {
	return &spread{Count: len(times), P50: millis(quantile(times, 0.5)), P99: millis(quantile(times, 0.99)), Worst: millis(quantile(times, 1))}
}

// restResults is how long an idle ledger takes until a statement is certified:
// from before it is sent to the answer that says so, the commit included.
type restResults struct {
	Replicas int     `json:"replicas"`
	Record   *spread `json:"record"`
	Decision *spread `json:"decision"`
}

// atRest measures on a ledger that does nothing else. Between two statements it
// waits a random time, so that no beat of the seals is met by habit.
func (b *bench) atRest(ctx context.Context, t *target, times int) (*restResults, error) {
	leader, err := t.leader(ctx)
	if err != nil {
		return nil, err
	}
	c, err := dial(leader.api)
	if err != nil {
		return nil, err
	}
	defer c.c.Close()
	records, err := presign(t.signers, times, 64)
	if err != nil {
		return nil, err
	}
	measure := func(statement func(i int) ([]byte, error)) (*spread, error) {
		var all []time.Duration
		for i := range times {
			body, err := statement(i)
			if err != nil {
				return nil, err
			}
			if err := quiet(ctx, leader); err != nil {
				return nil, err
			}
			began := time.Now()
			a, err := c.submit(body, "?wait=certified")
			if err != nil || a.status != http.StatusOK {
				return nil, fmt.Errorf("at rest: status %d: %w: %.300s", a.status, err, a.body)
			}
			all = append(all, time.Since(began))
		}
		return spreadOf(all), nil
	}
	out := &restResults{Replicas: len(t.members)}
	if out.Record, err = measure(func(i int) ([]byte, error) { return records[i], nil }); err != nil {
		return nil, err
	}
	out.Decision, err = measure(func(i int) ([]byte, error) { return t.decision(ctx, leader, fmt.Sprintf("bench-%d", i)) })
	return out, err
}

// quiet waits until everything is certified, and then for up to half a second.
func quiet(ctx context.Context, m *member) error {
	err := await(ctx, startLimit, func() error {
		s, err := m.status(ctx)
		if err == nil && s.Lag > 0 {
			err = fmt.Errorf("%d entries are not certified", s.Lag)
		}
		return err
	})
	if err != nil {
		return err
	}
	n, err := rand.Int(rand.Reader, big.NewInt(500))
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(n.Int64()) * time.Millisecond):
		return nil
	}
}

// decision is a bundle that decides: an operator is added by two governors.
func (c *cluster) decision(ctx context.Context, at *member, name string) ([]byte, error) {
	args, err := canon.Marshal(struct {
		Name string `json:"name"`
	}{name})
	if err != nil {
		return nil, err
	}
	return c.decide(ctx, at, "operator.add", args)
}

// decide is a bundle that decides: a proposal, and the second approval.
func (c *cluster) decide(ctx context.Context, at *member, action string, args []byte) ([]byte, error) {
	var base struct {
		Base map[string]uint64 `json:"base"`
	}
	asked := args
	if action == "node.admit" {
		asked = []byte(`{"joins":[]}`) // its tables do not depend on them, and a URL would not carry 300
	}
	if err := at.get(ctx, "/v1/base?action="+action+"&args="+url.QueryEscape(string(asked)), &base); err != nil {
		return nil, err
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	proposal, err := c.say(c.council[0], ledger.Payload{Type: ledger.TypePropose, Nonce: nonce, Expires: uint64(time.Now().Add(time.Hour).UnixMilli())},
		ledger.Propose{Action: action, Args: args, Base: base.Base})
	if err != nil {
		return nil, err
	}
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		return nil, err
	}
	approval, err := c.say(c.council[1], ledger.Payload{Type: ledger.TypeApprove}, ledger.Ballot{Proposal: st.ID})
	return append(proposal, approval...), err
}

func (c *cluster) say(who *keys.File, p ledger.Payload, body any) ([]byte, error) {
	p.Author, p.Ledger = who.Name, c.genesis
	return ledger.Sign(who.Key, p, body)
}

// get reads JSON of a member.
func (m *member) get(ctx context.Context, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.api+path, nil)
	if err != nil {
		return err
	}
	response, err := statusClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %.100s: status %d: %.300s", path, response.StatusCode, body)
	}
	return json.Unmarshal(body, out)
}
