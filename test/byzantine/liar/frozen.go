package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// frozen shows clients the ledger as it is now, as rollback does, and whoever
// watches nothing new.
func frozen(l *liar, q url.Values) (*lie, error) {
	told, err := rollback(l, q)
	if err != nil {
		return nil, err
	}
	shown := told.public
	told.public = func(w http.ResponseWriter, q *http.Request, next http.Handler) bool {
		switch {
		case strings.HasPrefix(q.URL.Path, "/v1/watch"):
			l.did("sent a watcher nothing but heartbeats")
			heartbeats(w, q)
			return true
		case strings.HasPrefix(q.URL.Path, "/v1/state"):
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return true
		}
		return shown(w, q, next)
	}
	return told, nil
}

// heartbeats keeps a watcher's stream alive and sends nothing else.
func heartbeats(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	for q.Context().Err() == nil {
		_, _ = fmt.Fprint(w, ": heartbeat\n\n")
		_ = control.Flush()
		select {
		case <-q.Context().Done():
		case <-time.After(time.Second):
		}
	}
}
