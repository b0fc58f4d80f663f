package replica

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// The peer service. Every caller is a pinned replica; even so, each answer is
// bounded, and whatever matters in it proves itself.
const (
	pathCosignature  = "/cosignature"  // POST: a cosignature of the caller's
	pathCosignatures = "/cosignatures" // ?size=: all that are held of heads of a size
	waitingQuery     = "waiting=1"     // of /submit: it is under watch, and takes the lane for that
	pathMine         = "/mine"         // ?key=, repeated: the newest head that the caller cosigned under any of its keys, as a message
	pathCheckpoint   = "/checkpoint"   // the newest certified checkpoint
	pathAuthority    = "/authority"    // ?index=
	pathEntries      = "/entries"      // ?from=&count=: u32 length and entry, repeated
	pathSubmit       = "/submit"       // POST to the leader: envelopes
	pathRead         = "/read"         // the leader's linearizable size
	pathLogKey       = "/logkey"
	pathSet          = "/set"      // the replica set, proven
	pathHanding      = "/handing"  // POST by the leader: to whom it hands on
	pathPosition     = "/position" // ?index=: Raft's commit index, and the configuration at an index
	pathElection     = "/election" // ?term=: whom it voted for in a term, and follows
	pathPending      = "/pending"  // POST: envelopes that the leader suppresses, as it seems
)

func (r *Replica) peerHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(w http.ResponseWriter, q *http.Request, from *peer) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, q *http.Request) {
			from := r.caller(q)
			if from == nil && r.outcast(q) {
				r.answerOutcast(w, q)
				return
			}
			if from == nil {
				http.Error(w, "unpinned", http.StatusForbidden)
				return
			}
			if err := r.halted(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			q.Body = http.MaxBytesReader(w, q.Body, r.limits.PeerBody)
			if err := h(w, q, from); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	handle("POST "+pathCosignature, r.servePostCosignature)
	handle("GET "+pathCosignatures, r.serveCosignatures)
	handle("GET "+pathMine, r.serveMine)
	handle("GET "+pathCheckpoint, r.serveCheckpoint)
	handle("GET "+pathAuthority, r.serveAuthority)
	handle("GET "+pathEntries, r.serveEntries)
	handle("POST "+pathSubmit, r.serveSubmit)
	handle("GET "+pathRead, r.serveRead)
	handle("GET "+pathLogKey, r.serveLogKey)
	handle("GET "+pathSet, r.serveSet)
	handle("POST "+pathHanding, r.serveHanding)
	handle("GET "+pathPosition, r.servePosition)
	handle("GET "+pathElection, r.serveElection)
	handle("POST "+pathPending, r.servePending)
	return mux
}

// caller is the replica whose certificate the connection was made with, as the
// pins of this moment know it.
func (r *Replica) caller(q *http.Request) *peer {
	if all := r.callers(q); len(all) > 0 {
		return all[0]
	}
	return nil
}

// callers are all of whom the pins take that certificate. A replica that rotated shows
// its former one for a while, whose pin the rules let another name as its own, who has
// not its key: so whatever counts as somebody's word is taken of any of them.
func (r *Replica) callers(q *http.Request) []*peer {
	if q.TLS == nil {
		return nil
	}
	pin, err := peerPin(*q.TLS)
	if err != nil {
		return nil
	}
	return r.pins.now.Load().pinned(pin)
}

// calls says whether the request may be a replica's.
func (r *Replica) calls(q *http.Request, is func(*peer) bool) bool {
	return slices.ContainsFunc(r.callers(q), is)
}

// servePeers runs the peer service on a listener until ctx ends.
func (r *Replica) servePeers(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           r.cfg.Hooks.service(r.peerHandler()),
		ReadHeaderTimeout: r.limits.HandshakeLimit,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          newRaftLogger(r.log, "peers").StandardLogger(nil),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (r *Replica) servePostCosignature(_ http.ResponseWriter, q *http.Request, _ *peer) error {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxPeerNotes))
	if err != nil {
		return err
	}
	s, err := parseCosigned(r.origin, body)
	if err != nil {
		return err
	}
	if !r.calls(q, func(p *peer) bool { return p.Name == s.Replica }) {
		return errors.New("a replica sends its own cosignatures")
	}
	r.certifier.collect(s)
	return nil
}

func (r *Replica) serveCosignatures(w http.ResponseWriter, q *http.Request, _ *peer) error {
	size, err := strconv.ParseUint(q.FormValue("size"), 10, 64)
	if err != nil {
		return err
	}
	messages := []cosignMessage{}
	r.certifier.mu.Lock()
	for head, byKey := range r.certifier.collected {
		if head.Size != size {
			continue
		}
		for _, one := range byKey {
			if one.verified || one.Replica == r.cfg.Name {
				messages = append(messages, cosigned{head, one.Cosignature}.message())
			}
		}
	}
	r.certifier.mu.Unlock()
	b, err := canon.Marshal(messages)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (r *Replica) serveMine(w http.ResponseWriter, q *http.Request, from *peer) error {
	key := from.KeyID()
	if now := r.pins.now.Load().byID(from.id); now != nil {
		key = now.KeyID() // it may show a former certificate
	}
	s, ok := r.certifier.newestOf(key)
	for i, text := range q.URL.Query()["key"] {
		key, err := ledger.ParseHash(text)
		if err != nil || i >= maxOwnKeys {
			break
		}
		if one, known := r.certifier.newestOf(key); known && (!ok || one.head.Size > s.head.Size) {
			s, ok = one, true
		}
	}
	if !ok {
		return nil // an empty answer is an answer: we know of none
	}
	b, err := canon.Marshal(s.message())
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (r *Replica) serveCheckpoint(w http.ResponseWriter, _ *http.Request, _ *peer) error {
	note, _ := r.Checkpoint()
	_, err := w.Write(note)
	return err
}

func (r *Replica) serveAuthority(w http.ResponseWriter, q *http.Request, _ *peer) error {
	n, err := strconv.ParseUint(q.FormValue("index"), 10, 64)
	if err != nil {
		return err
	}
	b, err := r.AuthorityLink(n)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (r *Replica) serveEntries(w http.ResponseWriter, q *http.Request, _ *peer) error {
	from, err := strconv.ParseUint(q.FormValue("from"), 10, 64)
	if err != nil {
		return err
	}
	count, err := strconv.ParseUint(q.FormValue("count"), 10, 64)
	if err != nil {
		return err
	}
	to := min(from+min(count, uint64(r.limits.BackfillBatch)), r.certifier.size())
	if from >= to {
		return errors.New("no such entries")
	}
	size := int64(0)
	return r.archive.Entries(from, to, func(_ uint64, entry []byte) error {
		if size += int64(len(entry)) + 4; size > r.limits.PeerBody {
			return nil // the caller asks on from where the answer ends
		}
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(entry)))); err != nil {
			return err
		}
		_, err := w.Write(entry)
		return err
	})
}

// parseEntries reads what serveEntries wrote.
func parseEntries(b []byte) ([][]byte, error) { return parseFramed(b, ledger.MaxEntryBytes, 1<<20) }

// parseFramed reads u32 length and bytes, repeated: at most count strings of 1
// to longest bytes.
func parseFramed(b []byte, longest, count int) ([][]byte, error) {
	var list [][]byte
	for len(b) > 0 {
		s, rest, ok := cut(b, 4)
		if !ok || len(s) == 0 || len(s) > longest || len(list) == count {
			return nil, errors.New("framed strings: cut off, too long or too many")
		}
		list = append(list, s)
		b = rest
	}
	return list, nil
}

func frame(list [][]byte) []byte {
	size := 0
	for _, s := range list {
		size += 4 + len(s)
	}
	b := make([]byte, 0, size)
	for _, s := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

func (r *Replica) serveLogKey(w http.ResponseWriter, _ *http.Request, from *peer) error {
	key := r.logKey.Load()
	if key == nil || from.id == r.id {
		return errors.New("no log key here")
	}
	// Not to one that lingers after its removal, nor to a pin from genesis or a seed.
	if record, ok := r.shell.now.Load().state.Replica(from.Name); !ok || record.Server() != from.id {
		return errors.New("the log key is for the ledger's replicas")
	}
	record := key.record()
	b, err := canon.Marshal(record)
	if err != nil {
		return err
	}
	r.log.Info("log key given", "peer", from.Name)
	_, err = w.Write(b)
	return err
}

// answerJSON writes v with a status.
func answerJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(b)
	return err
}
