package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Vote is one governor's word on a proposal.
type Vote struct {
	Author   string `json:"author"`
	Operator string `json:"operator"`
	ID       string `json:"id" doc:"Statement id, hex"`
	Seq      uint64 `json:"seq"`
}

// Rule is the rule that applies to a proposal now, and who has signed.
type Rule struct {
	Threshold     uint64    `json:"threshold" doc:"Distinct operators; of council.reseat, recovery holders"`
	DelayMillis   uint64    `json:"delay_millis" doc:"From decision to execution"`
	Vetoers       []string  `json:"vetoers" doc:"Governors; any of them ends it"`
	Signed        []string  `json:"signed" doc:"Operators (or holders) whose approval counts"`
	Rejected      []string  `json:"rejected"`
	Missing       []string  `json:"missing" doc:"Those who have not voted"`
	Consents      []Consent `json:"consents" doc:"Of node.admit: operators whose signature it needs besides"`
	Recovery      bool      `json:"recovery,omitempty" doc:"Recovery holders decide it"`
	Met           bool      `json:"met"`
	VetoThreshold uint64    `json:"veto_threshold,omitempty" doc:"Of council.reseat: how many operators' vetoes cancel it"`
}

// Consent is an operator whose signature a proposal needs, by whom, and
// whether it is there.
type Consent struct {
	Operator string `json:"operator"`
	By       string `json:"by" doc:"The operator whose governors consent for it: itself, or its sponsor; empty when nobody can"`
	Given    bool   `json:"given"`
}

// Change is what a proposal would do to one record of the state. Before is
// absent when the record is new, After when it goes.
type Change struct {
	Key    string          `json:"key"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Diff is the effect of executing an action now, by simulation. When Code is
// not ok it would fail, for the reason in Detail.
type Diff struct {
	Meta    `json:"-"`
	Code    string   `json:"code"`
	Path    string   `json:"path,omitempty"`
	Detail  string   `json:"detail,omitempty"`
	Words   []string `json:"words" doc:"The effect, a line each"`
	Changes []Change `json:"changes"`
}

// Proposal is a proposal with the rule that applies to it. Diff is filled in
// only for a single open or decided one.
type Proposal struct {
	Meta       `json:"-"`
	ID         string            `json:"id" doc:"Statement id, hex"`
	Words      string            `json:"words" doc:"Twelve words of the id, to compare aloud"`
	Action     string            `json:"action"`
	Args       json.RawMessage   `json:"args"`
	Author     string            `json:"author"`
	Base       map[string]uint64 `json:"base"`
	Memo       string            `json:"memo,omitempty"`
	Standing   string            `json:"standing" enum:"open,decided,executed,failed,rejected,withdrawn,vetoed,expired"`
	Reason     string            `json:"reason,omitempty"`
	Seq        uint64            `json:"seq"`
	Proposed   uint64            `json:"proposed"`
	Expires    uint64            `json:"expires"`
	Decided    uint64            `json:"decided,omitempty"`
	DueAt      uint64            `json:"due_at,omitempty"`
	Closed     uint64            `json:"closed,omitempty"`
	Approvals  []Vote            `json:"approvals"`
	Rejections []Vote            `json:"rejections"`
	Vetoes     []Vote            `json:"vetoes"`
	Rule       *Rule             `json:"rule,omitempty"`
	Diff       *Diff             `json:"diff,omitempty"`
}

// Proposals is a page of /v1/proposals or /v1/decisions.
type Proposals struct {
	Meta      `json:"-"`
	Proposals []Proposal `json:"proposals"`
	Next      string     `json:"next,omitempty"`
}

// Base is the answer of /v1/base: the versions that a proposal of the action
// must name.
type Base struct {
	Meta       `json:"-"`
	Base       map[string]uint64 `json:"base"`
	Ledger     string            `json:"ledger" doc:"Genesis hash, hex"`
	Generation uint64            `json:"generation"`
	Epoch      uint64            `json:"epoch"`
}

// SimulateRequest is the body of POST /v1/simulate.
type SimulateRequest struct {
	Action string          `json:"action"`
	Args   json.RawMessage `json:"args,omitempty" doc:"Canonical JSON; {} when left out"`
	Author string          `json:"author,omitempty" doc:"Who would propose it"`
}

// Proposals reads a page of proposals, of one standing or (with "") of all.
func (c *Client) Proposals(ctx context.Context, standing string, r Read) (*Proposals, error) {
	path := "/v1/proposals"
	if standing != "" {
		path += "?standing=" + url.QueryEscape(standing)
	}
	return get[Proposals](ctx, c, path, r)
}

// Proposal reads one proposal with its rule and effect, by its id in hex.
func (c *Client) Proposal(ctx context.Context, id string, r Read) (*Proposal, error) {
	return get[Proposal](ctx, c, "/v1/proposals/"+segment(id), r)
}

// Decisions reads a page of the proposals that were decided.
func (c *Client) Decisions(ctx context.Context, r Read) (*Proposals, error) {
	return get[Proposals](ctx, c, "/v1/decisions", r)
}

// Base reads the table versions that a proposal of action with args must name.
func (c *Client) Base(ctx context.Context, action string, args json.RawMessage, r Read) (*Base, error) {
	q := url.Values{"action": {action}}
	if len(args) > 0 {
		q.Set("args", string(args))
	}
	return get[Base](ctx, c, "/v1/base?"+q.Encode(), r)
}

// Simulate asks what executing action with args would do now.
func (c *Client) Simulate(ctx context.Context, request SimulateRequest) (*Diff, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // args are canonical, and stay so
	if err := encoder.Encode(request); err != nil {
		return nil, fmt.Errorf("encode simulation: %w", err)
	}
	var diff Diff
	err := c.call(ctx, call{method: http.MethodPost, path: "/v1/simulate", contentType: "application/json", body: b.Bytes()}, &diff)
	if err != nil {
		return nil, err
	}
	return &diff, nil
}
