package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// withheld keeps the liar's cosignatures to itself, whoever asks in whatever
// way.
func withheld(l *liar, _ url.Values) (*lie, error) {
	return &lie{
		request: func(q *http.Request, to string) (*http.Response, error) {
			if q.URL.Path != pathCosignature {
				return nil, nil
			}
			l.did("kept a cosignature from %s", to)
			return answered(q, http.StatusOK, nil), nil
		},
		service: func(w http.ResponseWriter, q *http.Request, from string) bool {
			switch q.URL.Path {
			case pathCosignatures:
				_, _ = w.Write([]byte("[]"))
			case pathCheckpoint:
			default:
				return false
			}
			l.did("answered %s of %s with nothing", q.URL.Path, from)
			return true
		},
	}, nil
}

// twofaced signs the true root for all but ?to=, and another one of the same
// size and time for those, names with commas.
func twofaced(l *liar, q url.Values) (*lie, error) {
	victims := strings.Split(q.Get("to"), ",")
	return &lie{request: func(q *http.Request, to string) (*http.Response, error) {
		if q.URL.Path != pathCosignature || !slices.Contains(victims, to) {
			return nil, nil
		}
		m, err := messageOf(q)
		if err != nil {
			return nil, err
		}
		setBody(q, l.message(m.Size, otherRoot(m.Root), m.Time))
		l.did("sent %s a cosignature of another root", to)
		return nil, nil
	}}, nil
}

// otherRoot is the root of a ledger that does not exist.
func otherRoot(root ledger.Hash) ledger.Hash { return sha256.Sum256(root[:]) }

func messageOf(q *http.Request) (*message, error) {
	body, err := io.ReadAll(io.LimitReader(q.Body, maxBody))
	if err != nil {
		return nil, err
	}
	setBody(q, body)
	var m message
	return &m, canon.Unmarshal(body, &m)
}

func setBody(q *http.Request, body []byte) {
	q.Body = io.NopCloser(strings.NewReader(string(body)))
	q.ContentLength = int64(len(body))
	q.GetBody = nil
}

// signAlong signs whatever head a peer signs, and sends that to all: the liar's
// best help to whoever went astray.
func (l *liar) signAlong(_ http.ResponseWriter, q *http.Request, from string) bool {
	if q.URL.Path != pathCosignature {
		return false
	}
	m, err := messageOf(q)
	if err != nil || m.Replica != from {
		return false
	}
	l.mu.Lock()
	name := cosignature{l.settings.Name, m.Size, m.Root.String()}
	known := l.heard[name]
	l.heard[name] = true
	l.mu.Unlock()
	if !known {
		l.did("signed what %s signed", from)
		body := l.message(m.Size, m.Root, m.Time)
		for id := range l.names {
			if l.names[id] != l.settings.Name {
				l.background(func(ctx context.Context) { _ = l.post(ctx, id, pathCosignature, body) })
			}
		}
	}
	return false
}

// post sends to a peer's service, past the lies.
func (l *liar) post(ctx context.Context, id, path string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postLimit)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+id+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := l.requests.RoundTripper.RoundTrip(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxBody))
	return err
}
