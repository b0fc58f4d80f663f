package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/test/onereplicatest"
)

// liar is the replica, the lie that it tells, and what it did and heard.
type liar struct {
	settings *onereplicatest.Settings
	replica  *replica.Replica
	key      *keys.PrivateKey
	cosigner *keys.Cosigner44
	genesis  ledger.Hash
	founding *ledger.Genesis
	origin   string
	names    map[string]string // of replicas, by key id in hex
	pins     map[ledger.Hash]string

	transport *transport
	requests  *requests
	log       raft.LogStore
	lie       atomic.Pointer[lie]
	ctx       context.Context // of what it does in the background, until it stops
	wg        sync.WaitGroup
	stopLoop  func()

	mu    sync.Mutex
	deeds []deed
	heard map[cosignature]bool
	made  map[uint64]ledger.Hash // entries that were forged for watchers, by seq

	clients    context.Context // of whoever watches, until the next lie
	cutClients func()

	kept     []byte // a snapshot of earlier
	keptMeta *raft.SnapshotMeta
}

// lie is what a liar does otherwise than an honest replica. Fields are nil where
// it does the same.
type lie struct {
	order   func(*ledger.Command)
	mute    bool                                                // its Raft sends no append
	starved string                                              // gets nothing of Raft's log
	entries func(to string, request *raft.AppendEntriesRequest) // a copy, to be changed
	service func(w http.ResponseWriter, q *http.Request, from string) bool
	request func(q *http.Request, to string) (*http.Response, error) // both nil: as it would
	public  func(w http.ResponseWriter, q *http.Request, next http.Handler) bool
	loop    func(ctx context.Context) // until another lie
}

// deed is one kind of act, and how often it was done.
type deed struct {
	What  string `json:"what"`
	Count int    `json:"count"`
}

// cosignature is who signed which head.
type cosignature struct {
	Replica string `json:"replica"`
	Size    uint64 `json:"size"`
	Root    string `json:"root"`
}

func newLiar(s *onereplicatest.Settings, key *keys.PrivateKey, genesisEntry []byte) (*liar, error) {
	founding, genesis, err := ledger.ParseGenesis(genesisEntry)
	if err != nil {
		return nil, err
	}
	l := &liar{settings: s, key: key, cosigner: key.Cosigner44(), genesis: genesis, founding: founding, origin: founding.Origin,
		names: map[string]string{}, pins: map[ledger.Hash]string{}, heard: map[cosignature]bool{}, made: map[uint64]ledger.Hash{}, stopLoop: func() {}}
	for _, one := range founding.Replicas {
		l.names[one.KeyID().String()], l.pins[one.TLSPin] = one.Name, one.Name
	}
	l.lie.Store(&lie{})
	l.clients, l.cutClients = context.WithCancel(context.Background())
	return l, nil
}

// did counts an act.
func (l *liar) did(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.deeds, func(d deed) bool { return d.What == what }); i >= 0 {
		l.deeds[i].Count++
		return
	}
	if len(l.deeds) < maxDeeds {
		l.deeds = append(l.deeds, deed{what, 1})
	}
}

// background runs fn, at most until the liar stops.
func (l *liar) background(fn func(ctx context.Context)) { l.wg.Go(func() { fn(l.ctx) }) }

// tell changes the lie.
func (l *liar) tell(told *lie) {
	l.mu.Lock()
	stop := l.stopLoop
	l.stopLoop = func() {}
	l.mu.Unlock()
	stop()
	l.lie.Store(told)
	l.mu.Lock()
	l.cutClients() // whoever watches comes again, and is shown the lie
	l.clients, l.cutClients = context.WithCancel(context.Background())
	l.mu.Unlock()
	if told.loop == nil {
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	done := make(chan struct{})
	l.mu.Lock()
	l.stopLoop = func() { cancel(); <-done }
	l.mu.Unlock()
	l.wg.Go(func() { defer close(done); told.loop(ctx) })
}

// hooks are where the lies come in.
func (l *liar) hooks() *replica.Hooks {
	return &replica.Hooks{
		Order: func(c *ledger.Command) {
			if order := l.lie.Load().order; order != nil {
				order(c)
			}
		},
		Transport: func(inner replica.GuardedTransport) replica.GuardedTransport {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.transport = &transport{GuardedTransport: inner, liar: l}
			return l.transport
		},
		Log: func(inner raft.LogStore) raft.LogStore {
			l.log = inner
			return inner
		},
		Service: l.service,
		Requests: func(inner http.RoundTripper) http.RoundTripper {
			l.requests = &requests{inner, l}
			return l.requests
		},
	}
}

// service is the peer service: it remembers each cosignature that comes in.
func (l *liar) service(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == pathCosignature && q.Body != nil {
			body, _ := io.ReadAll(io.LimitReader(q.Body, maxBody))
			l.hear(body)
			q.Body = io.NopCloser(bytes.NewReader(body))
		}
		if serve := l.lie.Load().service; serve != nil && serve(w, q, l.caller(q)) {
			return
		}
		next.ServeHTTP(w, q)
	})
}

// caller is the name of the replica that asks, by the pin of its certificate.
func (l *liar) caller(q *http.Request) string {
	if q.TLS == nil || len(q.TLS.PeerCertificates) == 0 {
		return ""
	}
	return l.pins[replica.PinOf(q.TLS.PeerCertificates[0])]
}

// message is a cosignature as replicas send it to each other.
type message struct {
	ID44    []byte      `json:"id44"`
	ID65    []byte      `json:"id65"`
	MLDSA44 []byte      `json:"mldsa44"`
	MLDSA65 []byte      `json:"mldsa65"`
	Replica string      `json:"replica"`
	Root    ledger.Hash `json:"root"`
	Size    uint64      `json:"size"`
	Time    uint64      `json:"time"`
}

func (l *liar) hear(body []byte) {
	var m message
	if canon.Unmarshal(body, &m) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.heard) < maxHeard {
		l.heard[cosignature{m.Replica, m.Size, m.Root.String()}] = true
	}
}

// sign cosigns any head with the liar's own keys.
func (l *liar) sign(size uint64, root ledger.Hash, seconds uint64) ledger.Cosignature {
	return ledger.Cosign(l.genesis, l.key, l.cosigner, l.settings.Name, ledger.Head{Origin: l.origin, Size: size, Root: root}, seconds)
}

func (l *liar) message(size uint64, root ledger.Hash, seconds uint64) []byte {
	s := l.sign(size, root, seconds)
	b, err := canon.Marshal(message{ID44: s.ID44[:], ID65: s.ID65[:], MLDSA44: s.MLDSA44, MLDSA65: s.MLDSA65,
		Replica: s.Replica, Root: root, Size: size, Time: seconds})
	if err != nil {
		panic(err) // our own shape
	}
	return b
}

// requests is what the liar's own requests to the peer service go through.
type requests struct {
	http.RoundTripper
	liar *liar
}

func (r *requests) RoundTrip(q *http.Request) (*http.Response, error) {
	if request := r.liar.lie.Load().request; request != nil {
		if answer, err := request(q, r.liar.names[q.URL.Hostname()]); answer != nil || err != nil {
			return answer, err
		}
	}
	return r.RoundTripper.RoundTrip(q)
}

// CloseIdleConnections is http.Client's.
func (r *requests) CloseIdleConnections() {
	if c, ok := r.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// answered makes an answer without asking.
func answered(q *http.Request, status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: q}
}

// public is the REST API; whoever asks for the checkpoint is shown the truth of
// this moment or of another.
func (l *liar) public(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		l.mu.Lock()
		clients := l.clients
		l.mu.Unlock()
		ctx, cancel := context.WithCancel(q.Context())
		defer cancel()
		defer context.AfterFunc(clients, cancel)()
		q = q.WithContext(ctx)
		if public := l.lie.Load().public; public != nil && public(w, q, next) {
			return
		}
		next.ServeHTTP(w, q)
	})
}

// control is what the stages tell the liar: PUT /lie/NAME begins one, DELETE
// /lie ends it, POST /do/NAME does something once, GET /deeds and /heard tell.
func (l *liar) control() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("PUT /lie/{name}", func(w http.ResponseWriter, q *http.Request) {
		make, ok := lies[q.PathValue("name")]
		if !ok {
			answer(w, nil, fmt.Errorf("no such lie: %q", q.PathValue("name")))
			return
		}
		told, err := make(l, q.URL.Query())
		if err == nil {
			l.tell(told)
		}
		answer(w, "lies", err)
	})
	mux.HandleFunc("DELETE /lie", func(w http.ResponseWriter, _ *http.Request) {
		l.tell(&lie{})
		answer(w, "honest", nil)
	})
	mux.HandleFunc("POST /do/{name}", func(w http.ResponseWriter, q *http.Request) {
		do, ok := acts[q.PathValue("name")]
		if !ok {
			answer(w, nil, fmt.Errorf("no such act: %q", q.PathValue("name")))
			return
		}
		text, err := do(q.Context(), l, q.URL.Query())
		answer(w, text, err)
	})
	mux.HandleFunc("GET /deeds", func(w http.ResponseWriter, _ *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		answer(w, l.deeds, nil)
	})
	mux.HandleFunc("GET /heard", func(w http.ResponseWriter, _ *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		list := []cosignature{}
		for one := range l.heard {
			list = append(list, one)
		}
		answer(w, list, nil)
	})
	return mux
}

// makeLie gives a lie its parameters.
type makeLie = func(l *liar, q url.Values) (*lie, error)
