package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// submitAnswer is what a leader answers to a forwarded submission.
type submitAnswer struct {
	Receipt    *replica.Receipt `json:"receipt,omitempty"`
	RetryAfter time.Duration    `json:"retry_after,omitempty"`
}

// censor lets nothing of ?author= onto the ledger that other replicas forward to
// the liar as leader; ?by= says how: busy, silence, or receipt, which is a forged
// one.
func censor(l *liar, q url.Values) (*lie, error) {
	author, by := q.Get("author"), q.Get("by")
	if !slices.Contains([]string{"busy", "silence", "receipt"}, by) {
		return nil, errors.New("by busy, silence or receipt")
	}
	return &lie{service: func(w http.ResponseWriter, q *http.Request, from string) bool {
		if q.URL.Path != pathSubmit {
			return false
		}
		body, err := io.ReadAll(io.LimitReader(q.Body, maxSubmit))
		q.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil {
			return false
		}
		statements := framed(body)
		if !slices.ContainsFunc(statements, func(s *ledger.Statement) bool { return s.Payload.Author == author }) {
			return false
		}
		l.did("censored %s's statement of %s by %s", from, author, by)
		switch by {
		case "busy":
			answerJSON(w, http.StatusTooManyRequests, submitAnswer{RetryAfter: time.Second})
		case "silence":
			<-q.Context().Done()
		case "receipt":
			receipt := &replica.Receipt{First: 1, Last: 1, Stamp: uint64(time.Now().UnixMilli()), Level: replica.LevelCommitted}
			for _, s := range statements {
				receipt.Verdicts = append(receipt.Verdicts, fsm.Verdict{Code: fsm.OK, Seq: 1, ID: s.ID})
			}
			answerJSON(w, http.StatusOK, submitAnswer{Receipt: receipt})
		}
		return true
	}}, nil
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// framed reads the statements of a forwarded submission; those that are none are
// left out.
func framed(b []byte) []*ledger.Statement {
	var list []*ledger.Statement
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint32(b))
		if b = b[4:]; n > len(b) {
			break
		}
		if s, err := ledger.ParseStatement(b[:n]); err == nil {
			list = append(list, s)
		}
		b = b[n:]
	}
	return list
}

// silent answers no request of the peer service for as long as the caller waits,
// and sends a byte of an answer every second meanwhile.
func silent(l *liar, _ url.Values) (*lie, error) {
	return &lie{service: func(w http.ResponseWriter, q *http.Request, from string) bool {
		l.did("let %s wait for %s", from, q.URL.Path)
		w.WriteHeader(http.StatusOK)
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

// endless answers every request of the peer service without end, as fast as the
// caller reads.
func endless(l *liar, _ url.Values) (*lie, error) {
	return &lie{service: func(w http.ResponseWriter, q *http.Request, from string) bool {
		l.did("answered %s of %s without end", q.URL.Path, from)
		pour(w, q)
		return true
	}}, nil
}

// pour writes until the caller has had enough, and says how much it took.
func pour(w http.ResponseWriter, q *http.Request) (sent int) {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for sent < maxPour && q.Context().Err() == nil {
		n, err := w.Write(chunk)
		if sent += n; err != nil {
			break
		}
	}
	return sent
}

// flood sends every peer cosignatures that do not verify, of heads that do not
// exist, on ?streams= connections at once, and half-open submissions that take
// the leader's queue: a length, and then a byte now and then.
func flood(l *liar, q url.Values) (*lie, error) {
	return &lie{loop: func(ctx context.Context) {
		done := make(chan struct{})
		streams := 0
		for id, name := range l.names {
			if name == l.settings.Name {
				continue
			}
			for range floodStreams {
				streams += 2
				l.wg.Go(func() { l.floodCosignatures(ctx, id); done <- struct{}{} })
				l.wg.Go(func() { l.floodSubmissions(ctx, id); done <- struct{}{} })
			}
		}
		for range streams {
			<-done
		}
	}}, nil
}

func (l *liar) floodCosignatures(ctx context.Context, id string) {
	size := uint64(1 << 20)
	for ctx.Err() == nil {
		size++
		body := l.message(size, otherRoot(ledger.Hash{byte(size)}), uint64(time.Now().Unix()))
		body = bytes.Replace(body, []byte(`"mldsa65":"A`), []byte(`"mldsa65":"B`), 1)
		if l.post(ctx, id, pathCosignature, body) == nil {
			l.did("sent %s a cosignature of a head that does not exist", l.names[id])
		}
	}
}

func (l *liar) floodSubmissions(ctx context.Context, id string) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		q, err := http.NewRequestWithContext(limited, http.MethodPost, "https://"+id+pathSubmit, &dripping{limited})
		if err == nil {
			q.ContentLength = maxSubmit
			l.did("opened a submission of %d MB to %s", maxSubmit>>20, l.names[id])
			if answer, err := l.requests.RoundTripper.RoundTrip(q); err == nil {
				_ = answer.Body.Close()
			}
		}
		cancel()
	}
}

// dripping gives a byte every half second.
type dripping struct{ ctx context.Context }

func (d *dripping) Read(b []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(500 * time.Millisecond):
		b[0] = 0
		return 1, nil
	}
}
