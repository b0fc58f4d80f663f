package replica

import (
	"context"
	"reflect"
	"sync"

	"github.com/hashicorp/raft"
)

// futures counts what is asked of Raft and not answered yet. Raft answers all
// of it while it lives, and leaves what is queued when it shuts down unanswered
// for ever: so the shutdown closes this first, and waits. Of a Raft whose main
// loop ended under a failed disk it can't wait; then over ends them.
type futures struct {
	mu     sync.Mutex
	open   int
	closed bool
	idle   broadcast
	over   chan struct{} // closed once Raft is shut down
}

func newFutures() futures { return futures{over: make(chan struct{})} }

// await asks Raft and waits for the answer no longer than ctx.
func (f *futures) await(ctx context.Context, ask func() raft.Future) (raft.Future, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, raft.ErrRaftShutdown
	}
	f.open++
	f.mu.Unlock()
	future := ask()
	endWith(future, f.over)
	done := make(chan error, 1)
	go func() { // ends with Raft's answer, which drain waits for
		err := future.Error()
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
		f.idle.fire()
		done <- err
	}()
	select {
	case err := <-done:
		return future, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// endWith gives a future of Raft's the end that its maker left out. Every future
// of Raft's heeds this exported field, in Error alone; most are made without it.
func endWith(future raft.Future, over chan struct{}) {
	v := reflect.ValueOf(future)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return
	}
	index := endOf(v.Elem().Type())
	if index == nil {
		return
	}
	if end := v.Elem().FieldByIndex(index); end.CanSet() && end.IsNil() {
		*end.Addr().Interface().(*chan struct{}) = over
	}
}

// ends remembers where the field is in each of Raft's few types of futures:
// looking for it by name for each submission takes three times as long.
var ends sync.Map // of reflect.Type: []int, nil where there is none

func endOf(t reflect.Type) []int {
	if index, ok := ends.Load(t); ok {
		return index.([]int)
	}
	var index []int
	if field, ok := t.FieldByName("ShutdownCh"); ok && field.Type == reflect.TypeFor[chan struct{}]() && field.IsExported() {
		index = field.Index
	}
	ends.Store(t, index)
	return index
}

// do is await for a future that only succeeds or fails.
func (f *futures) do(ctx context.Context, ask func() raft.Future) error {
	_, err := f.await(ctx, ask)
	return err
}

// drain lets nothing more in and waits until everything is answered.
func (f *futures) drain(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	return f.idle.until(ctx, func() (bool, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.open == 0, nil
	})
}

// end releases whoever still waits for a Raft that is shut down.
func (f *futures) end() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	close(f.over)
}
