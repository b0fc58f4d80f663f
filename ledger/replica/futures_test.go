package replica

import (
	"context"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

// What a Raft that is shut down never answered holds nobody: neither who waits,
// nor the goroutine that waits for it.
func TestUnansweredFuturesEnd(t *testing.T) {
	config := raft.DefaultConfig()
	config.LocalID, config.LogOutput = "a", io.Discard
	store := raft.NewInmemStore()
	_, transport := raft.NewInmemTransport("a")
	node, err := raft.NewRaft(config, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), transport)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}()
	f := newFutures()
	for name, future := range map[string]raft.Future{"apply": node.Apply(nil, 0), "barrier": node.Barrier(0), "verify": node.VerifyLeader()} {
		endWith(future, f.over)
		if end, ok := reflect.ValueOf(future).Elem().FieldByName("ShutdownCh").Interface().(chan struct{}); !ok || end != f.over {
			t.Errorf("%s: a future of Raft's has no end that we can give it", name)
		}
	}
	asked, waits := make(chan error), make(chan struct{})
	go func() {
		_, err := f.await(context.Background(), func() raft.Future { close(waits); return &unanswered{} })
		asked <- err
	}()
	<-waits
	f.end()
	if err := <-asked; !errors.Is(err, raft.ErrRaftShutdown) {
		t.Errorf("got %v", err)
	}
	if err := f.drain(t.Context()); err != nil {
		t.Errorf("something still waits: %v", err)
	}
}

// unanswered is a future as Raft makes them.
type unanswered struct{ ShutdownCh chan struct{} }

func (u *unanswered) Error() error {
	<-u.ShutdownCh
	return raft.ErrRaftShutdown
}
