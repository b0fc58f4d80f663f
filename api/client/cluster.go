package client

import "context"

// Replica is a replica as the ledger records it.
type Replica struct {
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Standing string `json:"standing" enum:"joining,active"`
	Key      string `json:"key" doc:"Key id, hex; also the Raft server id"`
	Words    string `json:"words"`
	Public   Bytes  `json:"public" doc:"ML-DSA-65 public key"`
	Cosigner Bytes  `json:"cosigner" doc:"ML-DSA-44 public key"`
	Peer     string `json:"peer" doc:"host:port of the peer listener"`
	API      string `json:"api,omitempty"`
	TLSPin   string `json:"tls_pin" doc:"SHA-256 of the SubjectPublicKeyInfo, hex"`
	Format   uint64 `json:"format"`
	Since    uint64 `json:"since"`
}

// Replicas is the answer of /v1/replicas.
type Replicas struct {
	Meta     `json:"-"`
	Replicas []Replica `json:"replicas"`
	Active   int       `json:"active"`
	Faults   int       `json:"faults" doc:"How many active replicas may lie"`
	Cosign   int       `json:"cosign_threshold" doc:"How many cosignatures certify a head"`
}

// PeerStatus is a replica as another one sees it.
type PeerStatus struct {
	Name        string `json:"name"`
	ID          string `json:"id" doc:"Key id, hex; also the Raft server id"`
	Address     string `json:"address"`
	Operator    string `json:"operator"`
	Standing    string `json:"standing" doc:"On the ledger"`
	Suffrage    string `json:"suffrage,omitempty" doc:"In Raft: Voter, Nonvoter, or none"`
	Leader      bool   `json:"leader,omitempty"`
	Self        bool   `json:"self,omitempty"`
	Reachable   bool   `json:"reachable" doc:"The last request to it was answered"`
	LastContact uint64 `json:"last_contact,omitempty" doc:"When, milliseconds"`
	Cosigned    uint64 `json:"cosigned,omitempty" doc:"The size that it last cosigned"`
	CosignedAt  uint64 `json:"cosigned_at,omitempty" doc:"When, milliseconds"`
}

// Status is the answer of /v1/status: this replica as it sees itself.
type Status struct {
	Meta            `json:"-"`
	Name            string       `json:"name"`
	ID              string       `json:"id"`
	Version         string       `json:"version,omitempty"`
	Ledger          string       `json:"ledger" doc:"Genesis hash, hex"`
	Origin          string       `json:"origin"`
	Role            string       `json:"role" doc:"leader, follower, candidate, joining or stopped"`
	Leader          string       `json:"leader,omitempty"`
	Term            uint64       `json:"term"`
	Applied         uint64       `json:"applied" doc:"Entries applied"`
	Certified       uint64       `json:"certified" doc:"Size of the newest certified head"`
	Signed          uint64       `json:"signed" doc:"When its threshold last signed it, milliseconds"`
	Lag             uint64       `json:"lag" doc:"Applied entries that are not certified"`
	Replicas        int          `json:"replicas"`
	Quorum          int          `json:"quorum" doc:"Replicas that commit"`
	CosignThreshold int          `json:"cosign_threshold" doc:"Replicas that certify"`
	Faults          int          `json:"faults" doc:"Replicas that may lie"`
	Epoch           uint64       `json:"epoch"`
	Generation      uint64       `json:"generation"`
	Authority       uint64       `json:"authority" doc:"Index of the newest link"`
	Frozen          string       `json:"frozen,omitempty"`
	Standing        string       `json:"standing,omitempty" doc:"Of this replica on the ledger"`
	Ready           bool         `json:"ready" doc:"Caught up: reads and writes are answered"`
	GapFrom         uint64       `json:"gap_from,omitempty" doc:"First entry of the history that is not here yet"`
	GapTo           uint64       `json:"gap_to,omitempty" doc:"First entry after the gap"`
	Key             *ReplicaKey  `json:"key,omitempty" doc:"How its own key stands, which it rotates by itself"`
	Alarms          []string     `json:"alarms"`
	Peers           []PeerStatus `json:"peers"`
	Forks           []Fork       `json:"forks,omitempty" doc:"Replicas that cosigned heads which are not of this one's history"`
	Refusals        []Refusal    `json:"refusals,omitempty" doc:"What its guard refused of other replicas since it started, the newest first"`
}

// ReplicaKey is how a replica's own key stands. It never expires: a ledger that nobody
// looked after must still certify.
type ReplicaKey struct {
	ID    string `json:"id" doc:"Key id, hex"`
	Since uint64 `json:"since" doc:"The epoch in which it came"`
	Age   uint64 `json:"age" doc:"Epochs since"`
	Due   uint64 `json:"due,omitempty" doc:"The epoch in which it is to be rotated"`
	Late  uint64 `json:"late,omitempty" doc:"The epoch from which on the ledger raises an alarm"`
	Next  string `json:"next,omitempty" doc:"The key that is made, and not certified yet"`
	Off   bool   `json:"off,omitempty" doc:"This replica makes no new keys by itself"`
}

// Fork is a replica that cosigned a head which is not of the history of whoever
// tells. If it cosigned that history too, this is proven, and `operator forks`
// gives the proof; else it may have been misled itself.
type Fork struct {
	Replica    string `json:"replica"`
	Key        string `json:"key" doc:"Id, hex"`
	Generation uint64 `json:"generation"`
	Size       uint64 `json:"size" doc:"Of its head"`
	Root       string `json:"root" doc:"Of its head, hex"`
	Ours       string `json:"ours" doc:"Root of this history at that size, hex"`
	At         uint64 `json:"at" doc:"When it was found, milliseconds"`
	Proven     bool   `json:"proven" doc:"It cosigned both histories"`
}

// Refusal is what a replica's guard refused of another one, by rule.
type Refusal struct {
	Rule   string `json:"rule"`
	Peer   string `json:"peer,omitempty" doc:"Whose connection it came on"`
	Reason string `json:"reason" doc:"Of the newest"`
	Count  uint64 `json:"count"`
	Last   uint64 `json:"last" doc:"Of the newest, milliseconds"`
}

// Cluster is the answer of /v1/cluster: the replicas that the ledger names,
// with what this one sees of each.
type Cluster struct {
	Meta     `json:"-"`
	Replica  string        `json:"replica" doc:"Who answers"`
	Leader   string        `json:"leader,omitempty"`
	Term     uint64        `json:"term"`
	Members  []ClusterSeat `json:"members"`
	Warnings []string      `json:"warnings"`
}

// ClusterSeat is one replica of Cluster.
type ClusterSeat struct {
	Name     string     `json:"name"`
	Operator string     `json:"operator"`
	Standing string     `json:"standing"`
	Peer     string     `json:"peer"`
	API      string     `json:"api,omitempty"`
	Leader   bool       `json:"leader,omitempty"`
	Seen     PeerStatus `json:"seen" doc:"Through the eyes of the replica that answers"`
}

// Epoch is an epoch of the ledger.
type Epoch struct {
	Meta  `json:"-"`
	Epoch uint64 `json:"epoch"`
	Start uint64 `json:"start"`
	Next  uint64 `json:"next,omitempty" doc:"When the next epoch is due, milliseconds; only of the current one"`
	Seq   uint64 `json:"seq,omitempty" doc:"Of its effect entry"`
	Keys  string `json:"keys,omitempty" doc:"Digest of the active key set, hex"`

	// From format 3 on; of a past epoch, and of the current one once its effect is said.
	Count   *uint64 `json:"count,omitempty" doc:"Keys in that set"`
	Rotated *uint64 `json:"rotated,omitempty" doc:"Node keys that took effect at its beginning"`
}

// Epochs is a page of /v1/epochs, newest first.
type Epochs struct {
	Meta   `json:"-"`
	Epochs []Epoch `json:"epochs"`
	Next   string  `json:"next,omitempty"`
}

// Replicas reads the replicas that the ledger names.
func (c *Client) Replicas(ctx context.Context, r Read) (*Replicas, error) {
	return get[Replicas](ctx, c, "/v1/replicas", r)
}

// Status reads how the replica that answers sees itself.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/v1/status", Read{})
}

// StatusOf is Status of one server of the client's list, without fail-over.
func (c *Client) StatusOf(ctx context.Context, server string) (*Status, error) {
	var status Status
	if err := c.try(ctx, server, call{method: "GET", path: "/v1/status"}, &status); err != nil {
		return nil, err
	}
	return &status, nil
}

// Cluster reads the cluster as the replica that answers sees it.
func (c *Client) Cluster(ctx context.Context, r Read) (*Cluster, error) {
	return get[Cluster](ctx, c, "/v1/cluster", r)
}

// CurrentEpoch reads the current epoch.
func (c *Client) CurrentEpoch(ctx context.Context, r Read) (*Epoch, error) {
	return get[Epoch](ctx, c, "/v1/epochs/current", r)
}

// Epochs reads a page of past epochs, newest first.
func (c *Client) Epochs(ctx context.Context, r Read) (*Epochs, error) {
	return get[Epochs](ctx, c, "/v1/epochs", r)
}
