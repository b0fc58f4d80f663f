package client

import (
	"context"

	"github.com/quorate/quorate/ledger"
)

// Governor is a seat in the council.
type Governor struct {
	Name      string `json:"name"`
	Operator  string `json:"operator"`
	Key       string `json:"key" doc:"Key id, hex"`
	Words     string `json:"words" doc:"Twelve words of the key id, to compare aloud"`
	Public    Bytes  `json:"public" doc:"ML-DSA-65 public key"`
	Recipient string `json:"recipient,omitempty" doc:"age recipient"`
	Since     uint64 `json:"since" doc:"seq of the entry that seated the governor"`
}

// Council is the answer of /v1/council.
type Council struct {
	Meta      `json:"-"`
	Governors []Governor `json:"governors"`
	Operators int        `json:"operators" doc:"Distinct operators in the council"`
	Majority  uint64     `json:"majority" doc:"The least threshold of an action that changes authority"`
}

// Operator is a unit of independence.
type Operator struct {
	Name    string `json:"name"`
	Sponsor string `json:"sponsor,omitempty"`
	Since   uint64 `json:"since"`
}

// Operators is the answer of /v1/operators.
type Operators struct {
	Meta      `json:"-"`
	Operators []Operator `json:"operators"`
}

// Policy is the answer of /v1/policy.
type Policy struct {
	Meta    `json:"-"`
	Policy  ledger.Policy `json:"policy"`
	Version uint64        `json:"version" doc:"Version of the policy table"`
}

// Holder is a recovery holder.
type Holder struct {
	Name   string `json:"name"`
	Key    string `json:"key" doc:"Key id, hex"`
	Words  string `json:"words"`
	Public Bytes  `json:"public"`
}

// Recovery is the answer of /v1/recovery. A ledger without a recovery set has
// threshold 0 and no holders.
type Recovery struct {
	Meta      `json:"-"`
	Holders   []Holder `json:"holders"`
	Threshold uint64   `json:"threshold"`
}

// Council reads the governors.
func (c *Client) Council(ctx context.Context, r Read) (*Council, error) {
	return get[Council](ctx, c, "/v1/council", r)
}

// Operators reads the operators.
func (c *Client) Operators(ctx context.Context, r Read) (*Operators, error) {
	return get[Operators](ctx, c, "/v1/operators", r)
}

// Policy reads the policy.
func (c *Client) Policy(ctx context.Context, r Read) (*Policy, error) {
	return get[Policy](ctx, c, "/v1/policy", r)
}

// Recovery reads the recovery set.
func (c *Client) Recovery(ctx context.Context, r Read) (*Recovery, error) {
	return get[Recovery](ctx, c, "/v1/recovery", r)
}
