package client

import "context"

// Fleet is the answer of /v1/fleet: how the nodes stand as a whole.
type Fleet struct {
	Meta        `json:"-"`
	Epoch       uint64 `json:"epoch"`
	Nodes       uint64 `json:"nodes"`
	Active      uint64 `json:"active" doc:"Of them; those on probation are counted apart"`
	Probation   uint64 `json:"probation"`
	Quarantined uint64 `json:"quarantined"`
	Excluded    uint64 `json:"excluded"`

	// From format 2 on.
	Protected  bool   `json:"protected" doc:"The rules of observation and evidence hold"`
	Down       uint64 `json:"down" doc:"By their monitors' verdict"`
	Subjective uint64 `json:"subjective" doc:"In quarantine by the word of others"`
	Room       uint64 `json:"room" doc:"How many of them the breaker allows"`
	Breaker    bool   `json:"breaker" doc:"Tripped: verdicts that would quarantine are withheld until governance decides or there is room"`
	Partition  bool   `json:"partition" doc:"So many are down that it is nobody's fault; nobody is punished for it"`
	Eligible   uint64 `json:"eligible" doc:"Operators with nodes whose word counts"`
	Bootstrap  bool   `json:"bootstrap" doc:"They are fewer than three: verdicts by quorum are off"`
}

// Link is a link between two nodes, as its ends speak of it.
type Link struct {
	Ends    []string   `json:"ends" doc:"Two names, sorted"`
	Down    bool       `json:"down"`
	Words   []LinkWord `json:"words" doc:"At most one of each end"`
	Forgets uint64     `json:"forgets" doc:"When it leaves the state unless somebody speaks of it, milliseconds"`
}

// LinkWord is what one end said last.
type LinkWord struct {
	Author   string `json:"author"`
	Operator string `json:"operator"`
	Down     bool   `json:"down"`
	Seq      uint64 `json:"seq" doc:"Of the observation's entry"`
}

// Links is a page of /v1/links, by the names of the ends.
type Links struct {
	Meta  `json:"-"`
	Links []Link `json:"links"`
	Next  string `json:"next,omitempty"`
}

// Fleet reads how the nodes stand as a whole.
func (c *Client) Fleet(ctx context.Context, r Read) (*Fleet, error) {
	return get[Fleet](ctx, c, "/v1/fleet", r)
}

// FleetLinks reads a page of links.
func (c *Client) FleetLinks(ctx context.Context, r Read) (*Links, error) {
	return get[Links](ctx, c, "/v1/links", r)
}
