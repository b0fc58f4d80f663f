package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// What replicas say to each other beside statements and what is certified: the
// closed list of ledger/replica/DESIGN.md, "What bears a signature". It goes over
// pinned TLS alone, and no more follows from it than that table says.
var (
	internalAnswers = []string{"GET /read", "GET /position", "GET /election", "POST /handing", "GET /logkey"}
	// What agents read of the API, by path: nothing of it is believed by itself.
	answers = map[string]string{
		"/checkpoint": "head", "/authority/": "certified link", "/tile/": "certified content", "/v1/state": "certified content",
		"/v1/entries": "certified content", "/v1/events": "certified content", "/v1/watch": "certified content", "/v1/links": "certified content",
	}
	internalLogs = map[raft.LogType]string{raft.LogNoop: "noop", raft.LogBarrier: "barrier", raft.LogConfiguration: "configuration"}
)

// replicas looks at every frame of the replicas of a cluster: what their Raft
// sends and takes in, what they ask each other, and what is submitted to them.
func (r *recorder) replicas(cfg *replica.Config) {
	cfg.Hooks = &replica.Hooks{
		Transport: func(inner replica.GuardedTransport) replica.GuardedTransport { return newWatched(inner, r) },
		Requests:  func(inner http.RoundTripper) http.RoundTripper { return &watchedRequests{inner, r} },
		Service:   func(inner http.Handler) http.Handler { return r.service("peers", inner) },
		Order:     r.stow,
	}
}

// stowaway is a statement that nobody's key signed, and the one that it travels
// with.
type stowaway struct{ with, forged []byte }

// stow adds the stowaway to the order of the statement that it travels with.
func (r *recorder) stow(c *ledger.Command) {
	s := r.stowaway.Load()
	if s == nil {
		return
	}
	if slices.ContainsFunc(c.Statements, func(b []byte) bool { return bytes.Equal(b, s.with) }) {
		c.Statements = append(slices.Clone(c.Statements), s.forged)
	}
}

// note files one frame under what it was, or as a violation; once the keys are
// known, if they are not yet.
func (r *recorder) note(direction, channel string, class func() (string, error)) {
	r.mu.Lock()
	if !r.ready {
		r.later = append(r.later, func() { r.note(direction, channel, class) })
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	what, err := class()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.unsigned = append(r.unsigned, fmt.Sprintf("%s on %s: %v", direction, channel, err))
		return
	}
	r.counts[strings.Join([]string{direction, channel, what}, " ")]++
}

// learn takes the keys of a cluster and of its nodes, and files what was seen
// before.
func (r *recorder) learn(c *replicatest.Cluster, authority ledger.Authority, nodes []*member) {
	r.mu.Lock()
	for _, p := range c.Council {
		r.public[ledger.Hash(p.Key.Public().ID())] = p.Key.Public()
	}
	for _, one := range c.Replicas {
		r.public[ledger.Hash(one.Key.Public().ID())] = one.Key.Public()
	}
	for _, m := range nodes {
		r.public[ledger.Hash(m.key.Public().ID())] = m.key.Public()
	}
	r.authority, r.origin, r.ready = authority, c.Genesis.Origin, true
	later := r.later
	r.later = nil
	r.mu.Unlock()
	for _, file := range later {
		file()
	}
}

// is classes what needs no look.
func is(what string) func() (string, error) { return func() (string, error) { return what, nil } }

// watched is Raft's transport: what is sent goes through its methods, what is
// received through the consumer and the handler of heartbeats.
type watched struct {
	replica.GuardedTransport
	r    *recorder
	out  chan raft.RPC
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

func newWatched(inner replica.GuardedTransport, r *recorder) *watched {
	w := &watched{GuardedTransport: inner, r: r, out: make(chan raft.RPC), stop: make(chan struct{})}
	w.done.Go(func() {
		for {
			select {
			case rpc := <-inner.Consumer():
				r.rpc("received", rpc.Command)
				select {
				case w.out <- rpc:
				case <-w.stop:
					return
				}
			case <-w.stop:
				return
			}
		}
	})
	return w
}

func (w *watched) Consumer() <-chan raft.RPC { return w.out }

func (w *watched) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		w.GuardedTransport.SetHeartbeatHandler(nil)
		return
	}
	w.GuardedTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		w.r.rpc("received", rpc.Command)
		handle(rpc)
	})
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
	return w.GuardedTransport.Close()
}

func (w *watched) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	w.r.rpc("sent", args)
	return w.GuardedTransport.AppendEntries(id, target, args, resp)
}

func (w *watched) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported // as the guard has it
}

func (w *watched) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	w.r.rpc("sent", args)
	return w.GuardedTransport.RequestVote(id, target, args, resp)
}

func (w *watched) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	w.r.rpc("sent", args)
	return w.GuardedTransport.RequestPreVote(id, target, args, resp)
}

func (w *watched) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	w.r.rpc("sent", args)
	return w.GuardedTransport.InstallSnapshot(id, target, args, resp, data)
}

func (w *watched) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	w.r.rpc("sent", args)
	return w.GuardedTransport.TimeoutNow(id, target, args, resp)
}

// rpc classes a request of Raft. Its elections are the channel's own, and so is
// an order without statements; each statement of an order is signed.
func (r *recorder) rpc(direction string, command any) {
	switch q := command.(type) {
	case *raft.AppendEntriesRequest:
		if len(q.Entries) == 0 {
			r.note(direction, "raft", is("internal heartbeat"))
		}
		for _, e := range q.Entries {
			r.note(direction, "raft", func() (string, error) { return r.order(e) })
		}
	case *raft.RequestVoteRequest:
		r.note(direction, "raft", is("internal vote"))
	case *raft.RequestPreVoteRequest:
		r.note(direction, "raft", is("internal prevote"))
	case *raft.TimeoutNowRequest:
		r.note(direction, "raft", is("internal timeout"))
	case *raft.InstallSnapshotRequest: // rehearsed, and compared with what is certified, before it is kept
		r.note(direction, "raft", is("certified snapshot"))
	default:
		r.note(direction, "raft", func() (string, error) { return "", fmt.Errorf("%T is on no list", command) })
	}
}

func (r *recorder) order(e *raft.Log) (string, error) {
	if e.Type != raft.LogCommand {
		if what := internalLogs[e.Type]; what != "" {
			return "internal " + what, nil
		}
		return "", fmt.Errorf("an entry of type %s is on no list", e.Type)
	}
	c, err := ledger.ParseCommand(e.Data)
	if err != nil {
		return "", err
	}
	if len(c.Statements) == 0 {
		if c.Kind != ledger.CommandTick && c.Kind != ledger.CommandSeal {
			return "", fmt.Errorf("an order of kind %d without a statement", c.Kind)
		}
		return "internal tick or seal", nil
	}
	return r.all(c.Statements)
}

// all verifies several statements, and names the first one's type.
func (r *recorder) all(envelopes [][]byte) (string, error) {
	if len(envelopes) == 0 {
		return "", errors.New("no statement")
	}
	first := ""
	for _, one := range envelopes {
		what, err := r.statement(one)
		if err != nil {
			return "", err
		}
		if first == "" {
			first = what
		}
	}
	return "signed " + first, nil
}

// watchedRequests is what a replica asks others, and what it is answered.
type watchedRequests struct {
	inner http.RoundTripper
	r     *recorder
}

func (w *watchedRequests) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := w.r.read(&q.Body)
	if err != nil {
		return nil, err
	}
	w.r.note("sent", "peers", func() (string, error) { return w.r.request(q.Method, q.URL.Path, body) })
	answer, err := w.inner.RoundTrip(q)
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err // errors say nothing that anybody acts on
	}
	said, err := w.r.read(&answer.Body)
	if err != nil {
		return nil, err
	}
	w.r.note("received", "peers", func() (string, error) { return w.r.answer(q.Method, q.URL.Path, said) })
	return answer, nil
}

// read takes a body and leaves a copy.
func (r *recorder) read(body *io.ReadCloser) ([]byte, error) {
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

// service looks at what a replica is asked to take in.
func (r *recorder) service(channel string, inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := r.read(&q.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		look := r.request
		if channel == "api" {
			look = r.submission
		}
		r.note("received", channel, func() (string, error) { return look(q.Method, q.URL.Path, body) })
		inner.ServeHTTP(w, q)
	})
}

// submission classes a request of the API: statements, or a question.
func (r *recorder) submission(method, path string, body []byte) (string, error) {
	if method == http.MethodGet {
		for prefix, what := range answers {
			if strings.HasPrefix(path, prefix) {
				return what, nil
			}
		}
		return "", fmt.Errorf("what GET %s answers is on no list", path)
	}
	if path != "/v1/statements" {
		return "", fmt.Errorf("%s %s is on no list", method, path)
	}
	envelopes, err := keys.SplitSequence(body, ledger.MaxBundle)
	if err != nil {
		return "", err
	}
	return r.all(envelopes)
}

// request classes what one replica asks of another.
func (r *recorder) request(method, path string, body []byte) (string, error) {
	switch name := method + " " + path; name {
	case "POST /submit", "POST /pending":
		envelopes, err := unframe(body)
		if err != nil {
			return "", err
		}
		return r.all(envelopes)
	case "POST /cosignature":
		return "cosignature", r.cosignature(body)
	case "POST /handing":
		return "internal " + path, nil
	default:
		if method != http.MethodGet || len(body) > 0 {
			return "", fmt.Errorf("%s is on no list", name)
		}
		return "question", nil
	}
}

// answer classes what a replica was answered.
func (r *recorder) answer(method, path string, body []byte) (string, error) {
	name := method + " " + path
	for _, one := range internalAnswers {
		if name == one {
			return "internal " + path, nil
		}
	}
	switch name {
	case "POST /submit", "POST /pending", "POST /cosignature":
		return "internal receipt", nil
	case "GET /mine":
		if len(body) == 0 {
			return "internal nothing", nil
		}
		return "cosignature", r.cosignature(body)
	case "GET /cosignatures":
		var list []canon.Raw
		if err := canon.Unmarshal(body, &list); err != nil {
			return "", err
		}
		for _, one := range list {
			if err := r.cosignature(one); err != nil {
				return "", err
			}
		}
		return "cosignatures", nil
	case "GET /checkpoint":
		if len(body) == 0 {
			return "internal nothing", nil
		}
		return "head", r.head(body)
	case "GET /authority":
		_, err := ledger.ParseLink(body) // believed once the chain takes it
		return "certified link", err
	case "GET /entries", "GET /set": // believed under a certified root
		return "certified content", nil
	}
	return "", fmt.Errorf("the answer to %s is on no list", name)
}

// cosignature verifies a replica's cosignature of a head.
func (r *recorder) cosignature(b []byte) error {
	var m struct {
		ID44    []byte      `json:"id44"`
		ID65    []byte      `json:"id65"`
		MLDSA44 []byte      `json:"mldsa44"`
		MLDSA65 []byte      `json:"mldsa65"`
		Replica string      `json:"replica"`
		Root    ledger.Hash `json:"root"`
		Size    uint64      `json:"size"`
		Time    uint64      `json:"time"`
	}
	if err := canon.Unmarshal(b, &m); err != nil {
		return err
	}
	if len(m.ID44) != 4 || len(m.ID65) != 4 {
		return errors.New("key ids of a cosignature are 4 bytes")
	}
	c := ledger.Cosignature{Replica: m.Replica, Time: m.Time, ID44: [4]byte(m.ID44), ID65: [4]byte(m.ID65), MLDSA44: m.MLDSA44, MLDSA65: m.MLDSA65}
	head := ledger.Head{Origin: r.origin, Size: m.Size, Root: m.Root}
	for _, one := range r.authority.Active() {
		if one.Name == m.Replica {
			return c.Verify(r.authority.Branch(), head, one)
		}
	}
	return fmt.Errorf("%s is no replica", m.Replica)
}

// unframe reads u32 length and bytes, repeated.
func unframe(b []byte) (list [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
			return nil, errors.New("cut off")
		}
		n := binary.BigEndian.Uint32(b)
		list, b = append(list, b[4:4+n]), b[4+n:]
	}
	return list, nil
}
