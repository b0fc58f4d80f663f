package client

import "context"

// Node is an admitted node.
type Node struct {
	Meta      `json:"-"`
	Name      string `json:"name"`
	Operator  string `json:"operator"`
	Standing  string `json:"standing" enum:"active,quarantined"`
	Reason    string `json:"reason,omitempty" doc:"Of the quarantine"`
	Key       string `json:"key" doc:"Key id, hex"`
	Public    Bytes  `json:"public" doc:"ML-DSA-65 public key"`
	Peer      Bytes  `json:"peer" doc:"Ed25519 peer key"`
	Admitted  uint64 `json:"admitted" doc:"Epoch"`
	ValidFrom uint64 `json:"valid_from" doc:"Epoch, inclusive"`
	ValidTo   uint64 `json:"valid_to" doc:"Epoch, inclusive"`
	Since     uint64 `json:"since" doc:"seq of the last change"`
	Version   uint64 `json:"version"`
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
