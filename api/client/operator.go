package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Done is the answer of an operation that has nothing to tell.
type Done struct {
	Done bool `json:"done"`
}

// TransferRequest is the body of a leadership transfer. To names the replica
// that shall lead; "" leaves the choice to Raft.
type TransferRequest struct {
	To string `json:"to,omitempty"`
}

// Peers is what a replica sees of the others.
type Peers struct {
	Peers []PeerStatus `json:"peers"`
}

// ForkProofs are files that prove that replicas signed two histories
// (ledger.ForkProof), one a replica.
type ForkProofs struct {
	Files [][]byte `json:"files"`
}

// LogKeys are the public keys of a pending log key, the args of log.rekey.
type LogKeys struct {
	Ed25519 Bytes `json:"ed25519"`
	MLDSA44 Bytes `json:"mldsa44"`
}

// OperatorClient talks to the operator's API of one replica over its unix socket.
type OperatorClient struct {
	client *Client
}

// NewOperatorClient makes a client of the socket at path.
func NewOperatorClient(path string) *OperatorClient {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	return &OperatorClient{client: &Client{servers: []string{"http://operator"}, http: &http.Client{Transport: transport}}}
}

// Close closes idle connections.
func (o *OperatorClient) Close() { o.client.Close() }

func (o *OperatorClient) call(ctx context.Context, method, path string, request, out any) error {
	k := call{method: method, path: "/v1/operator/" + path}
	if request != nil {
		body, err := json.Marshal(request)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		k.body, k.contentType = body, "application/json"
	}
	return o.client.try(ctx, o.client.servers[0], k, out)
}

// Snapshot asks for a snapshot now.
func (o *OperatorClient) Snapshot(ctx context.Context) error {
	return o.call(ctx, http.MethodPost, "snapshot", nil, &Done{})
}

// Transfer hands the leadership to another replica; "" leaves the choice to Raft.
func (o *OperatorClient) Transfer(ctx context.Context, to string) error {
	return o.call(ctx, http.MethodPost, "transfer", TransferRequest{To: to}, &Done{})
}

// Peers tells what the replica sees of the others.
func (o *OperatorClient) Peers(ctx context.Context) ([]PeerStatus, error) {
	var out Peers
	err := o.call(ctx, http.MethodGet, "peers", nil, &out)
	return out.Peers, err
}

// ForkProofs gives what proves that replicas signed two histories, a file each.
func (o *OperatorClient) ForkProofs(ctx context.Context) ([][]byte, error) {
	var out ForkProofs
	err := o.call(ctx, http.MethodGet, "forks", nil, &out)
	return out.Files, err
}

// NewLogKey makes a pending log key and gives its public keys, for log.rekey.
func (o *OperatorClient) NewLogKey(ctx context.Context) (*LogKeys, error) {
	var out LogKeys
	if err := o.call(ctx, http.MethodPost, "log-key", nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// DebugBundle copies an archive for a bug report to w.
func (o *OperatorClient) DebugBundle(ctx context.Context, w io.Writer) error {
	response, err := o.client.open(ctx, o.client.servers[0], call{method: http.MethodGet, path: "/v1/operator/debug-bundle"})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("read debug bundle: %w", err)
	}
	return nil
}
