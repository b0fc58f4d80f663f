package replicatest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger/replica"
)

// RaftFrame is one thing that a replica's Raft sends another, or takes in.
type RaftFrame struct {
	Direction string // "sent" or "received"
	Kind      string // "order", "noop", "barrier", "configuration", "heartbeat", "vote", "prevote", "timeout", "snapshot", or a Go type
	Data      []byte // of an order: its command (FORMAT.md section 13)
}

// The kinds of frames that carry more than Raft's own.
const (
	RaftOrder    = "order"
	RaftSnapshot = "snapshot"
)

// PeerFrame is one request to the peer service, or its answer: what the caller
// sends and what it takes in, and what the other side takes in.
type PeerFrame struct {
	Direction    string // "sent" or "received"
	Answer       bool
	Method, Path string
	Body         []byte
}

// Observe has a replica with these hooks show every frame between it and others.
func Observe(h *replica.Hooks, onRaft func(RaftFrame), onPeers func(PeerFrame)) {
	h.Transport = func(inner replica.GuardedTransport) replica.GuardedTransport { return newObserved(inner, onRaft) }
	h.Requests = func(inner http.RoundTripper) http.RoundTripper { return &observedRequests{inner, onPeers} }
	h.Service = func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, err := copyBody(&q.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			onPeers(PeerFrame{Direction: "received", Method: q.Method, Path: q.URL.Path, Body: body})
			inner.ServeHTTP(w, q)
		})
	}
}

// observed is Raft's transport: what is sent goes through its methods, what is
// received through the consumer and the handler of heartbeats.
type observed struct {
	replica.GuardedTransport
	look func(RaftFrame)
	out  chan raft.RPC
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

func newObserved(inner replica.GuardedTransport, look func(RaftFrame)) *observed {
	o := &observed{GuardedTransport: inner, look: look, out: make(chan raft.RPC), stop: make(chan struct{})}
	o.done.Go(func() {
		for {
			select {
			case rpc := <-inner.Consumer():
				o.show("received", rpc.Command)
				select {
				case o.out <- rpc:
				case <-o.stop:
					return
				}
			case <-o.stop:
				return
			}
		}
	})
	return o
}

func (o *observed) Consumer() <-chan raft.RPC { return o.out }

func (o *observed) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		o.GuardedTransport.SetHeartbeatHandler(nil)
		return
	}
	o.GuardedTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		o.show("received", rpc.Command)
		handle(rpc)
	})
}

func (o *observed) Close() error {
	o.once.Do(func() { close(o.stop) })
	o.done.Wait()
	return o.GuardedTransport.Close()
}

func (o *observed) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	o.show("sent", args)
	return o.GuardedTransport.AppendEntries(id, target, args, resp)
}

func (o *observed) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	o.show("sent", args)
	return o.GuardedTransport.RequestVote(id, target, args, resp)
}

func (o *observed) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	o.show("sent", args)
	return o.GuardedTransport.RequestPreVote(id, target, args, resp)
}

func (o *observed) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	o.show("sent", args)
	return o.GuardedTransport.InstallSnapshot(id, target, args, resp, data)
}

func (o *observed) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	o.show("sent", args)
	return o.GuardedTransport.TimeoutNow(id, target, args, resp)
}

func (o *observed) show(direction string, command any) {
	one := func(kind string) { o.look(RaftFrame{Direction: direction, Kind: kind}) }
	switch q := command.(type) {
	case *raft.AppendEntriesRequest:
		if len(q.Entries) == 0 {
			one("heartbeat")
		}
		for _, e := range q.Entries {
			switch e.Type {
			case raft.LogCommand:
				o.look(RaftFrame{direction, RaftOrder, e.Data})
			case raft.LogNoop:
				one("noop")
			case raft.LogBarrier:
				one("barrier")
			case raft.LogConfiguration:
				one("configuration")
			default:
				one(e.Type.String())
			}
		}
	case *raft.RequestVoteRequest:
		one("vote")
	case *raft.RequestPreVoteRequest:
		one("prevote")
	case *raft.TimeoutNowRequest:
		one("timeout")
	case *raft.InstallSnapshotRequest:
		one(RaftSnapshot)
	default:
		one(fmt.Sprintf("%T", command))
	}
}

// observedRequests is what a replica asks others, and what it is answered. An
// error's text is nothing that anybody acts on, and is not shown.
type observedRequests struct {
	inner http.RoundTripper
	look  func(PeerFrame)
}

func (o *observedRequests) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := copyBody(&q.Body)
	if err != nil {
		return nil, err
	}
	o.look(PeerFrame{Direction: "sent", Method: q.Method, Path: q.URL.Path, Body: body})
	answer, err := o.inner.RoundTrip(q)
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	if body, err = copyBody(&answer.Body); err != nil {
		return nil, err
	}
	o.look(PeerFrame{Direction: "received", Answer: true, Method: q.Method, Path: q.URL.Path, Body: body})
	return answer, nil
}

// copyBody reads a body and leaves another one with the same bytes.
func copyBody(body *io.ReadCloser) ([]byte, error) {
	if *body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(*body)
	if err != nil {
		return nil, err
	}
	_ = (*body).Close()
	*body = io.NopCloser(bytes.NewReader(b))
	return b, nil
}
