package client

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A head event may move an unfiltered watch nowhere: else one server could make
// the client miss what honest ones would send it later.
func TestWatchIsNotMovedByAHead(t *testing.T) {
	all := &watcher{next: 7, wanted: 7}
	if err := all.take(context.Background(), sseEvent{id: "9", kind: "head", data: "{}"}); err == nil || all.next != 7 {
		t.Errorf("a head of 9 entries took the watch from 7 to %d: %v", all.next, err)
	}
	if err := all.take(context.Background(), sseEvent{id: "7", kind: "head", data: "{}"}); err != nil || all.next != 7 {
		t.Errorf("a head where the watch stands: %d, %v", all.next, err)
	}
	some := &watcher{next: 7, wanted: 7, options: WatchOptions{Kinds: []string{"effect"}}}
	if err := some.take(context.Background(), sseEvent{id: "9", kind: "head", data: "{}"}); err != nil || some.next != 9 {
		t.Errorf("a filtered watch resumes at the head: %d, %v", some.next, err)
	}
}

// beating is the body of a watch that has nothing but heartbeats, one each 15 s as
// servers send them, until its request ends.
type beating struct{ ctx context.Context }

func (b *beating) Read(p []byte) (int, error) {
	if err := sleep(b.ctx, 15*time.Second); err != nil {
		return 0, err
	}
	return copy(p, ": heartbeat\n\n"), nil
}

func (b *beating) Close() error { return nil }

// A watch stays with a server that has nothing to tell but its heartbeats.
func TestHeartbeatsKeepAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c, err := New(Options{Servers: []string{"http://calm"}, HTTPClient: &http.Client{Transport: transportFunc(func(q *http.Request) (*http.Response, error) {
			asked++
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: &beating{q.Context()}, Request: q}, nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := c.Watch(ctx, WatchOptions{}, func(*Entry) error { return nil }); !errors.Is(err, context.DeadlineExceeded) || asked != 1 {
			t.Errorf("asked %d times, want once: %v", asked, err)
		}
	})
}
