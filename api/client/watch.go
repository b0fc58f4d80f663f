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

	// Verify gives fn nothing but what the client itself found to be covered by a
	// certified head: an entry by its inclusion proof, those before it by the hash
	// chain. With a filter it can't see what a server leaves out.
	Verify bool
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
// entry asks for Verify, or verifies it by Entry. A server whose entries do not
// verify is left for the next; the watch fails with its *ProofError once no server
// gives others.
func (c *Client) Watch(ctx context.Context, o WatchOptions, fn func(*Entry) error) error {
	w := &watcher{client: c, options: o, next: o.From, fn: fn}
	at := int(c.preferred.Load())
	pause := retryFirst
	lied := 0 // servers in a row
	for {
		before := w.next
		err := w.from(ctx, c.servers[at%len(c.servers)])
		var stop *errStop
		var problem *Problem
		var proof *ProofError
		var equivocation *EquivocationError
		if lied++; w.next > before || !errors.As(err, &proof) {
			lied = 0
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.err
		case errors.As(err, &equivocation), lied >= len(c.servers):
			return err
		case lied > 0: // another server may tell the truth
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
	last    *Entry // the last one given to fn, for the hash chain, unless filtered
	fn      func(*Entry) error

	// Of one connection:
	server string
	wanted uint64 // the next seq that it sends
	seen   *Entry
	hold   []*Entry // came, and are not verified yet
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
	w.server, w.wanted, w.seen, w.hold = server, w.next, w.last, nil
	events := newEventReader(response.Body)
	for {
		event, err := events.next()
		if err != nil {
			return err
		}
		silence.Reset(watchSilence)
		if err := w.take(ctx, event); err != nil {
			return w.blame(ctx, err)
		}
	}
}

// blame makes whatever a verified watch was given wrongly a *ProofError.
func (w *watcher) blame(ctx context.Context, err error) error {
	var stop *errStop
	var proof *ProofError
	if !w.options.Verify || ctx.Err() != nil || errors.As(err, &stop) || errors.As(err, &proof) {
		return err
	}
	return &ProofError{w.server, "its watch", err}
}

func (w *watcher) filtered() bool { return len(w.options.Kinds)+len(w.options.Types) > 0 }

func (w *watcher) take(ctx context.Context, event sseEvent) error {
	id, err := strconv.ParseUint(event.id, 10, 53)
	if event.kind == "" && event.data == "" {
		return w.settle(ctx) // a heartbeat
	}
	if err != nil {
		return fmt.Errorf("read event: id %q", clip(event.id))
	}
	switch event.kind {
	case "entry":
		return w.entry(ctx, id, event.data)
	case "head":
		return w.head(ctx, id)
	}
	return nil
}

// head takes a server's word that it has sent all entries below a size. Where
// every entry is sent, a head beyond the next one would hide some, from this
// server and from those that the watch goes on with.
func (w *watcher) head(ctx context.Context, size uint64) error {
	if !w.filtered() && size > w.wanted {
		return fmt.Errorf("read event: a head of %d entries, entry %d did not come", size, w.wanted)
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if size <= w.next {
		return nil
	}
	if w.options.Verify {
		if _, err := w.client.covering(ctx, size-1); err != nil {
			return &ProofError{w.server, "a head of " + strconv.FormatUint(size, 10) + " entries", err}
		}
	}
	w.next = size
	w.wanted = max(w.wanted, size)
	return nil
}

func (w *watcher) entry(ctx context.Context, id uint64, data string) error {
	var told Entry
	if err := json.Unmarshal([]byte(data), &told); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	e, err := DecodeEntry(told.Entry)
	if err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	if e.Seq+1 != id || e.Seq < w.wanted {
		return fmt.Errorf("read event: entry %d under id %d, want %d or later", e.Seq, id, w.wanted)
	}
	if !w.filtered() {
		if e.Seq != w.wanted || w.seen != nil && e.Prev != w.seen.Hash {
			return fmt.Errorf("read event: entry %d does not follow the one before", e.Seq)
		}
		w.seen = &e
	}
	w.wanted = id
	if !w.options.Verify {
		return w.give(&e)
	}
	w.hold = append(w.hold, &e)
	if w.filtered() || len(w.hold) == MaxEntriesPage {
		return w.settle(ctx)
	}
	return nil // a head follows the entries that it covers
}

// settle verifies the last entry that is held, and gives them all to fn: those
// before it are in its hash chain.
func (w *watcher) settle(ctx context.Context) error {
	if len(w.hold) == 0 {
		return nil
	}
	last := w.hold[len(w.hold)-1]
	what := "entry " + strconv.FormatUint(last.Seq, 10) + " of its watch"
	proven, err := w.client.Entry(ctx, last.Seq)
	if err != nil {
		return &ProofError{w.server, what, err}
	}
	if proven.Hash != last.Hash {
		return &ProofError{w.server, what, errors.New("it is not the one that is certified")}
	}
	for _, e := range w.hold {
		if err := w.give(e); err != nil {
			return err
		}
	}
	w.hold = nil
	return nil
}

func (w *watcher) give(e *Entry) error {
	if err := w.fn(e); err != nil {
		return &errStop{err}
	}
	w.next = e.Seq + 1
	if !w.filtered() {
		w.last = e
	}
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
