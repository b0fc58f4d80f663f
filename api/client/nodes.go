package client

import "context"

// Probation is the standing of an active node whose word does not count yet.
const Probation = "probation"

// Node is an admitted node.
type Node struct {
	Meta      `json:"-"`
	Name      string `json:"name"`
	Operator  string `json:"operator"`
	Standing  string `json:"standing" enum:"active,probation,quarantined,excluded" doc:"probation is derived: an active node whose word does not count yet; its record says active"`
	Reason    string `json:"reason,omitempty" doc:"Of the quarantine or exclusion"`
	Key       string `json:"key" doc:"Key id, hex"`
	Public    Bytes  `json:"public" doc:"ML-DSA-65 public key"`
	Peer      Bytes  `json:"peer" doc:"Ed25519 peer key"`
	Admitted  uint64 `json:"admitted" doc:"Epoch"`
	ValidFrom uint64 `json:"valid_from" doc:"Epoch, inclusive"`
	ValidTo   uint64 `json:"valid_to" doc:"Epoch, inclusive"`
	Since     uint64 `json:"since" doc:"seq of the last change"`
	Version   uint64 `json:"version"`

	// From format 2 on.
	Ordinal    uint64      `json:"ordinal,omitempty" doc:"By which attestations name it"`
	Reputation *Reputation `json:"reputation,omitempty"`
	Last       *NodeEvent  `json:"last,omitempty" doc:"The newest effect that is about it: its last verdict, offence or change of standing"`

	// From format 3 on.
	NextKey *NextKey `json:"next_key,omitempty" doc:"The key that it has announced"`
	Revoked bool     `json:"revoked,omitempty" doc:"Its key is revoked, and no other came yet"`
}

// NextKey is a key that is not in force yet.
type NextKey struct {
	ID   string `json:"id" doc:"Key id, hex"`
	From uint64 `json:"from" doc:"The first epoch in which it speaks"`
	Seq  uint64 `json:"seq" doc:"Of the rotation"`
}

// Reputation is what the ledger's rules hold of a node. 10,000 is the best.
type Reputation struct {
	Points     uint64 `json:"points" doc:"Basis points, 0 to 10,000"`
	Strikes    uint64 `json:"strikes" doc:"Times in quarantine that are not forgotten"`
	Heat       uint64 `json:"heat" doc:"Of recent offences, in percent that the next one costs more; falls by 1 an epoch"`
	Misses     uint64 `json:"misses" doc:"Accusations that the other monitors contradicted; the first is free"`
	Down       bool   `json:"down" doc:"Down by its monitors' verdict"`
	Subjective bool   `json:"subjective" doc:"In quarantine by the word of others, which the breaker counts"`
	Decided    bool   `json:"decided" doc:"In quarantine by decision, so released by decision"`
	Founder    bool   `json:"founder" doc:"Admitted before the first epoch: its age is waived"`
	Stay       uint64 `json:"stay,omitempty" doc:"Epoch before which a quarantine does not end"`

	Young        bool   `json:"young,omitempty" doc:"On probation until it is old enough"`
	OldFrom      uint64 `json:"old_from,omitempty" doc:"Epoch from which it is"`
	Disreputable bool   `json:"disreputable,omitempty" doc:"On probation until its reputation is the voting one"`
}

// Nodes is a page of /v1/nodes or /v1/quarantine, by name.
type Nodes struct {
	Meta  `json:"-"`
	Nodes []Node `json:"nodes"`
	Next  string `json:"next,omitempty" doc:"Cursor of the next page"`
}

// Join is a node that asks to be admitted.
type Join struct {
	ID       string `json:"id" doc:"Statement id, hex; what node.admit lists"`
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Key      string `json:"key" doc:"Key id, hex"`
	Words    string `json:"words"`
	Peer     Bytes  `json:"peer"`
	Public   Bytes  `json:"public"`
	Expires  uint64 `json:"expires"`
	Seq      uint64 `json:"seq"`
}

// Joins is a page of /v1/joins, by id.
type Joins struct {
	Meta  `json:"-"`
	Joins []Join `json:"joins"`
	Next  string `json:"next,omitempty"`
}

// Nodes reads a page of nodes.
func (c *Client) Nodes(ctx context.Context, r Read) (*Nodes, error) {
	return get[Nodes](ctx, c, "/v1/nodes", r)
}

// Node reads one node, as a server says it is; VerifiedNode proves it.
func (c *Client) Node(ctx context.Context, name string, r Read) (*Node, error) {
	return get[Node](ctx, c, "/v1/nodes/"+segment(name), r)
}

// Quarantine reads a page of the nodes in quarantine.
func (c *Client) Quarantine(ctx context.Context, r Read) (*Nodes, error) {
	return get[Nodes](ctx, c, "/v1/quarantine", r)
}

// Joins reads a page of the nodes that ask to be admitted.
func (c *Client) Joins(ctx context.Context, r Read) (*Joins, error) {
	return get[Joins](ctx, c, "/v1/joins", r)
}
