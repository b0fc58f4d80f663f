package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// WatchOptions say what to watch.
type WatchOptions struct {
	From        uint64   // first seq
	Kinds       []string // of entries; none: all
	Types       []string // of statements and effects; none: all
	Consistency string   // Certified (default) or Stale
}

func (o WatchOptions) path(next uint64) string {
	q := url.Values{"from": {strconv.FormatUint(next, 10)}}
	if len(o.Kinds) > 0 {
		q.Set("kinds", strings.Join(o.Kinds, ","))
	}
	if len(o.Types) > 0 {
		q.Set("types", strings.Join(o.Types, ","))
	}
	if o.Consistency != "" {
		q.Set("consistency", o.Consistency)
	}
	return "/v1/watch?" + q.Encode()
}

// errStop carries what ends a watch for good: fn's error.
type errStop struct{ err error }

func (e *errStop) Error() string { return e.err.Error() }

// Watch calls fn for each entry from o.From on, in order and each once,
// resuming at another server when one goes away. It returns when ctx ends,
// with its error, or when fn fails, with fn's. Without filters it checks the
// hash chain from one entry to the next, over servers too; whoever acts on an
// entry verifies it by Entry.
func (c *Client) Watch(ctx context.Context, o WatchOptions, fn func(*Entry) error) error {
	w := &watcher{client: c, options: o, next: o.From, fn: fn}
	at := int(c.preferred.Load())
	pause := retryFirst
	for {
		before := w.next
		err := w.from(ctx, c.servers[at%len(c.servers)])
		var stop *errStop
		var problem *Problem
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.err
		case errors.As(err, &problem) && !problem.retriable():
			return err
		}
		if w.next > before {
			pause = retryFirst
		}
		if sleep(ctx, pause/2+rand.N(pause)) != nil {
			return ctx.Err()
		}
		pause = min(2*pause, retryMost)
		at++
	}
}

// watcher is a watch over all its connections.
type watcher struct {
	client  *Client
	options WatchOptions
	next    uint64 // where to resume
	last    *Entry // for the hash chain, unless filtered
	fn      func(*Entry) error
}

// from watches one server until its stream ends.
func (w *watcher) from(ctx context.Context, server string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, err := w.client.open(ctx, server, call{method: http.MethodGet, path: w.options.path(w.next)})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// A server that sends no heartbeat is gone, whatever its connection says.
	silence := time.AfterFunc(watchSilence, cancel)
	defer silence.Stop()
	events := newEventReader(response.Body)
	for {
		event, err := events.next()
		if err != nil {
			return err
		}
		silence.Reset(watchSilence)
		if err := w.take(event); err != nil {
			return err
		}
	}
}

func (w *watcher) filtered() bool { return len(w.options.Kinds)+len(w.options.Types) > 0 }

func (w *watcher) take(event sseEvent) error {
	id, err := strconv.ParseUint(event.id, 10, 53)
	if event.kind == "" && event.data == "" {
		return nil // a heartbeat
	}
	if err != nil {
		return fmt.Errorf("read event: id %q", clip(event.id))
	}
	switch event.kind {
	case "entry":
		return w.entry(id, event.data)
	case "head":
		// Where every entry is sent, a head beyond the next one would hide some,
		// from this server and from those that the watch goes on with.
		if !w.filtered() && id > w.next {
			return fmt.Errorf("read event: a head of %d entries, entry %d did not come", id, w.next)
		}
		w.next = max(w.next, id)
	}
	return nil
}

func (w *watcher) entry(id uint64, data string) error {
	var told Entry
	if err := json.Unmarshal([]byte(data), &told); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	e, err := DecodeEntry(told.Entry)
	if err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	if e.Seq+1 != id || e.Seq < w.next {
		return fmt.Errorf("read event: entry %d under id %d, want %d or later", e.Seq, id, w.next)
	}
	if !w.filtered() {
		if e.Seq != w.next || w.last != nil && e.Prev != w.last.Hash {
			return fmt.Errorf("read event: entry %d does not follow the one before", e.Seq)
		}
		w.last = &e
	}
	if err := w.fn(&e); err != nil {
		return &errStop{err}
	}
	w.next = id
	return nil
}

// sseEvent is one server-sent event; a comment alone is an empty one.
type sseEvent struct{ id, kind, data string }

// eventReader reads a stream of server-sent events (HTML Living Standard,
// section 9.2.6), each within maxEventBytes.
type eventReader struct{ lines *bufio.Scanner }

func newEventReader(r io.Reader) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEventBytes)
	return &eventReader{lines: lines}
}

// next gives the next event, or an empty one for a comment.
func (e *eventReader) next() (sseEvent, error) {
	var event sseEvent
	var data []string
	size, filled := 0, false
	for e.lines.Scan() {
		line := e.lines.Text()
		if size += len(line); size > maxEventBytes {
			return sseEvent{}, fmt.Errorf("read event: more than %d bytes", maxEventBytes)
		}
		if line == "" {
			if filled {
				event.data = strings.Join(data, "\n")
				return event, nil
			}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			if !filled {
				return sseEvent{}, nil
			}
			continue
		case "id":
			event.id = value
		case "event":
			event.kind = value
		case "data":
			data = append(data, value)
		default:
			continue
		}
		filled = true
	}
	if err := e.lines.Err(); err != nil {
		return sseEvent{}, fmt.Errorf("read event: %w", err)
	}
	return sseEvent{}, io.EOF // an event that is not whole is none
}
