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
		"/v1/entries": "certified content", "/v1/proofs/": "certified content", "/v1/events": "certified content", "/v1/watch": "certified content", "/v1/links": "certified content",
	}
	internalRaft = []string{"heartbeat", "vote", "prevote", "timeout", "noop", "barrier", "configuration"}
)

// replicas looks at every frame of the replicas of a cluster: what their Raft
// sends and takes in, what they ask each other, and what is submitted to them.
func (r *recorder) replicas(cfg *replica.Config) {
	cfg.Hooks = &replica.Hooks{Order: r.stow}
	replicatest.Observe(cfg.Hooks,
		func(f replicatest.RaftFrame) {
			r.note(f.Direction, "raft", func() (string, error) { return r.raft(f) })
		},
		func(f replicatest.PeerFrame) {
			r.note(f.Direction, "peers", func() (string, error) {
				if f.Answer {
					return r.answer(f.Method, f.Path, f.Body)
				}
				return r.request(f.Method, f.Path, f.Body)
			})
		})
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

// raft classes what one replica's Raft sends another. Elections are the
// channel's own, and so is an order without statements.
func (r *recorder) raft(f replicatest.RaftFrame) (string, error) {
	switch f.Kind {
	case replicatest.RaftSnapshot: // rehearsed, and compared with what is certified, before it is kept
		return "certified snapshot", nil
	case replicatest.RaftOrder:
	default:
		if !slices.Contains(internalRaft, f.Kind) {
			return "", fmt.Errorf("%s is on no list", f.Kind)
		}
		return "internal " + f.Kind, nil
	}
	c, err := ledger.ParseCommand(f.Data)
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

// service looks at what the API is asked.
func (r *recorder) service(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		q.Body = io.NopCloser(bytes.NewReader(body))
		r.note("received", "api", func() (string, error) { return r.submission(q.Method, q.URL.Path, body) })
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
