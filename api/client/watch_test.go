package client

import (
	"context"
	"testing"
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
