package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/quorate/quorate/api/client"
)

// A watch is a stream of server-sent events: an "entry" for each entry that
// the filter takes, and a "head" whenever the watcher has seen all there is.
// An event's id is the number of entries that are behind it, seq + 1, so that
// a watcher that comes back with Last-Event-ID misses none and gets none twice,
// and a filtered one need not look again at what it left out.

func (s *Server) watchRoutes(h huma.API, router chi.Router) {
	router.Get("/v1/watch", s.watch)
	describe(h, &huma.Operation{
		OperationID: "watch", Method: http.MethodGet, Path: "/v1/watch", Tags: []string{"read"},
		Summary:     "Entries as they come, as server-sent events",
		Description: "Events of type entry hold an Entry, events of type head a Head: nothing newer is there. The id is seq + 1; Last-Event-ID resumes. A comment line is a heartbeat.",
		Parameters: []*huma.Param{
			queryParam("from", "First seq; without it and Last-Event-ID the newest", &huma.Schema{Type: huma.TypeInteger}),
			queryParam("kinds", "Only these kinds, comma-separated", &huma.Schema{Type: huma.TypeString}),
			queryParam("types", "Only statements and effects of these types, comma-separated", &huma.Schema{Type: huma.TypeString}),
			queryParam("consistency", "certified (default) or stale", &huma.Schema{Type: huma.TypeString, Enum: []any{client.Certified, client.Stale}}),
			{Name: "Last-Event-ID", In: "header", Schema: &huma.Schema{Type: huma.TypeInteger}},
		},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	})
	// The schemas of the events' data.
	schemaOf[client.Entry](h)
	schemaOf[client.WatchHead](h)
}

type watching struct {
	from        uint64
	filter      filter
	consistency string
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	o, err := s.watchOptions(r)
	if err != nil {
		writeProblem(w, s.fail(r.URL.Path, err))
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // reverse proxies would hold events back
	s.metrics.watches.Inc()
	defer s.metrics.watches.Dec()
	stream := &eventStream{w: w, control: http.NewResponseController(w), timeout: s.limits.WriteTimeout}
	if err := stream.comment("watching"); err != nil {
		return
	}
	// The status is sent: from here an error can only end the stream, and the
	// watcher comes back.
	if err := s.follow(r.Context(), stream, o); err != nil && r.Context().Err() == nil {
		s.fail(r.URL.Path, err)
	}
}

func (s *Server) watchOptions(r *http.Request) (watching, error) {
	q := r.URL.Query()
	o := watching{consistency: q.Get("consistency")}
	switch o.consistency {
	case "":
		o.consistency = client.Certified
	case client.Certified, client.Stale:
	default:
		return o, badParameter("query.consistency", "want certified or stale")
	}
	var err error
	if o.filter, err = newFilter(q.Get("kinds"), q.Get("types")); err != nil {
		return o, err
	}
	last, from := r.Header.Get("Last-Event-ID"), q.Get("from")
	switch {
	case last != "":
		if o.from, err = strconv.ParseUint(last, 10, 53); err != nil {
			return o, badParameter("header.Last-Event-ID", "want a number: the id of the last event")
		}
	case from != "":
		if o.from, err = strconv.ParseUint(from, 10, 53); err != nil {
			return o, badParameter("query.from", "want a number: the first seq")
		}
	default:
		v, err := s.view(r.Context(), o.consistency)
		if err != nil {
			return o, err
		}
		o.from = v.Size
	}
	return o, nil
}

// follow sends entries from o.from on, until the watcher or the server goes.
func (s *Server) follow(ctx context.Context, stream *eventStream, o watching) error {
	heartbeat := time.NewTicker(s.limits.Heartbeat)
	defer heartbeat.Stop()
	next, told := o.from, uint64(0)
	for {
		changed := s.backend.Changed() // before the view, so that no change is missed
		v, err := s.view(ctx, o.consistency)
		if err != nil && !errors.Is(err, ErrNotReady) {
			return err
		}
		size := uint64(0)
		if err == nil {
			size = v.Size
		}
		for next < size {
			if next, err = s.sendEntries(stream, o.filter, next, min(size, next+watchBatch)); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		if err == nil && size > told && next <= size {
			told = size
			if err := stream.event("head", size, client.WatchHead{Size: size, Certified: v.Certified, Signed: v.Signed}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-heartbeat.C:
			if err := stream.comment("heartbeat"); err != nil {
				return err
			}
		case <-stoppingOf(ctx):
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) sendEntries(stream *eventStream, f filter, from, to uint64) (uint64, error) {
	err := s.backend.Archive().Entries(from, to, func(seq uint64, raw []byte) error {
		e, err := s.frames.of(seq, raw)
		if err != nil {
			return err
		}
		if f.takes(e.kind, e.typ) {
			return stream.write(e.bytes)
		}
		return nil
	})
	return to, err
}

// frame is the event of an entry, encoded once for all watchers.
type frame struct {
	seq       uint64
	kind, typ string
	bytes     []byte
}

// frames keeps the events of the newest entries, each in the slot of its seq:
// watchers mostly stand at the ledger's end, and an entry never changes.
type frames struct {
	mu    sync.Mutex
	slots [watchFrames]*frame
}

func (c *frames) of(seq uint64, raw []byte) (*frame, error) {
	slot := &c.slots[seq%watchFrames]
	c.mu.Lock()
	kept := *slot
	c.mu.Unlock()
	if kept != nil && kept.seq == seq {
		return kept, nil
	}
	e, err := client.DecodeEntry(raw)
	if err != nil {
		return nil, err
	}
	b, err := encodeEvent("entry", seq+1, e)
	if err != nil {
		return nil, err
	}
	made := &frame{seq: seq, kind: e.Kind, typ: e.Type, bytes: b}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A watcher that reads the past does not push out the present.
	if kept := *slot; kept == nil || kept.seq < seq {
		*slot = made
	}
	return made, nil
}

// eventStream writes server-sent events (HTML Living Standard, section 9.2),
// each within a time of its own, because a watch outlives the server's
// deadline for answers.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

func (e *eventStream) event(kind string, id uint64, data any) error {
	b, err := encodeEvent(kind, id, data)
	if err != nil {
		return err
	}
	return e.write(b)
}

func encodeEvent(kind string, id uint64, data any) ([]byte, error) {
	body, err := encodeJSON(data) // ends in a line feed
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n", id, kind, body), nil
}

func (e *eventStream) comment(text string) error { return e.write([]byte(": " + text + "\n\n")) }

func (e *eventStream) write(b []byte) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(e.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("write event: %w", err)
	}
	if _, err := e.w.Write(b); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := e.control.Flush(); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}
