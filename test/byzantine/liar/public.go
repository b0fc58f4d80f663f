package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

func now() uint64 { return uint64(time.Now().Unix()) }

// rollback shows clients the ledger as it is now, whatever comes after: the same
// checkpoint, and nothing beyond it.
func rollback(l *liar, _ url.Values) (*lie, error) {
	note, size := l.replica.Checkpoint()
	if note == nil {
		return nil, errors.New("nothing is certified yet")
	}
	return &lie{public: func(w http.ResponseWriter, q *http.Request, next http.Handler) bool {
		switch {
		case q.URL.Path == "/checkpoint":
			_, _ = w.Write(note)
		case beyond(q, size):
			http.Error(w, "no such thing", http.StatusNotFound)
		case strings.HasPrefix(q.URL.Path, "/v1/proofs/state"):
			http.Error(w, "not now", http.StatusServiceUnavailable)
		default:
			return false
		}
		l.did("showed a client the ledger of size %d", size)
		return true
	}}, nil
}

// beyond says whether a request names a size or seq above a size.
func beyond(q *http.Request, size uint64) bool {
	for _, name := range []string{"to", "size", "from"} {
		if n, err := strconv.ParseUint(q.URL.Query().Get(name), 10, 64); err == nil && n > size {
			return true
		}
	}
	return false
}

// forged shows clients a checkpoint that the liar made up: one entry longer, with
// another root, signed by itself alone; or ?as=mixed, whose other lines are those
// of the true one.
func forged(l *liar, q url.Values) (*lie, error) {
	mixed := q.Get("as") == "mixed"
	return &lie{public: func(w http.ResponseWriter, q *http.Request, next http.Handler) bool {
		if q.URL.Path != "/checkpoint" {
			return false
		}
		note, size := l.replica.Checkpoint()
		c, err := ledger.ParseCheckpoint(note)
		if err != nil {
			return false
		}
		made := ledger.Checkpoint{Head: ledger.Head{Origin: l.origin, Size: size + 1, Root: otherRoot(c.Head.Root)}}
		made.Add(l.sign(size+1, made.Head.Root, now()))
		if mixed {
			for _, s := range c.Cosignatures {
				if s.Replica != l.settings.Name {
					made.Add(s)
				}
			}
		}
		_, _ = w.Write(made.Note())
		l.did("showed a client a checkpoint of its own making")
		return true
	}}, nil
}

// tampered changes a byte of each entry and of each proof that clients get.
// ?what=links changes the authority links alone, without which a client gets no
// further.
func tampered(l *liar, q url.Values) (*lie, error) {
	links := q.Get("what") == "links"
	return &lie{public: func(w http.ResponseWriter, q *http.Request, next http.Handler) bool {
		path := q.URL.Path
		rest := strings.HasPrefix(path, "/v1/entries") || strings.HasPrefix(path, "/v1/proofs") || strings.HasPrefix(path, "/tile/")
		if links != strings.HasPrefix(path, "/authority/") || !links && !rest {
			return false
		}
		inner := httptest.NewRecorder()
		plain := q.Clone(q.Context())
		plain.Header.Del("Accept-Encoding")
		next.ServeHTTP(inner, plain)
		for name, values := range inner.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(inner.Code)
		_, _ = w.Write(tamper(path, inner.Body.Bytes()))
		l.did("changed what %s gives", strings.TrimRight(path, "0123456789"))
		return true
	}}, nil
}

var (
	inEntry = regexp.MustCompile(`"entry":"[^"]{64}`)
	inProof = regexp.MustCompile(`"(hashes|seal_proof|proof)":\[?"?[^"]{0,2}"?[^"]{8}`)
)

// tamper changes one byte, in what looks like an entry or a proof if there is
// any, else in the middle.
func tamper(path string, b []byte) []byte {
	b = bytes.Clone(b)
	at := len(b) / 2
	for _, pattern := range []*regexp.Regexp{inEntry, inProof} {
		if where := pattern.FindIndex(b); where != nil {
			at = where[1] - 1
			break
		}
	}
	if at < len(b) {
		switch b[at] {
		case '0', 'A':
			b[at]++
		default:
			b[at] = '0'
		}
	}
	return b
}

// forgedWatch puts a forged entry in the place of each that a watcher gets.
func forgedWatch(l *liar, _ url.Values) (*lie, error) {
	return &lie{public: func(w http.ResponseWriter, q *http.Request, next http.Handler) bool {
		if q.URL.Path != "/v1/watch" {
			return false
		}
		from, _ := strconv.ParseUint(q.URL.Query().Get("from"), 10, 64)
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		for seq := from; seq < from+forgedEvents && q.Context().Err() == nil; seq++ {
			event, err := l.forgedEvent(seq)
			if err != nil {
				return true
			}
			_, _ = w.Write(event)
			_, _ = fmt.Fprintf(w, "id: %d\nevent: head\ndata: {\"size\":%d,\"certified\":true}\n\n", seq+1, seq+1)
			_ = control.Flush()
			l.did("sent a watcher a forged entry")
		}
		<-q.Context().Done()
		return true
	}}, nil
}

// publicly answers every client a byte a second, ?endless=1 without end.
func publicly(l *liar, q url.Values) (*lie, error) {
	endless := q.Get("endless") != ""
	return &lie{public: func(w http.ResponseWriter, q *http.Request, next http.Handler) bool {
		if q.URL.Path == "/metrics" {
			return false
		}
		l.did("answered a client without end")
		if endless {
			pour(w, q)
			return true
		}
		for q.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-q.Context().Done():
			case <-time.After(time.Second):
			}
		}
		return true
	}}, nil
}

// forgedEvent is an effect that never was, after the entry that the watcher was
// last given.
func (l *liar) forgedEvent(seq uint64) ([]byte, error) {
	prev := ledger.Hash{}
	l.mu.Lock()
	defer l.mu.Unlock()
	if made, ok := l.made[seq-1]; ok {
		prev = made
	} else if raw, err := l.replica.Archive().Entry(seq - 1); err == nil {
		prev = ledger.LeafHash(raw)
	}
	e := ledger.Entry{Seq: seq, Stamp: now() * 1000, Prev: prev, Kind: ledger.KindEffect,
		Content: []byte(`{"body":{"name":"edge-7"},"causes":[1],"type":"quarantine"}`)}
	raw, err := e.Encode()
	if err != nil {
		return nil, err
	}
	l.made[seq] = ledger.LeafHash(raw)
	entry, err := client.DecodeEntry(raw)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(entry)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "id: %d\nevent: entry\ndata: %s\n\n", seq+1, data), nil
}
