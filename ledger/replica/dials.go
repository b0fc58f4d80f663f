package replica

import (
	"context"
	"net"
	"sync"
)

// dials are the connections being made to peers. An HTTP transport goes on with
// a dial whose request has ended, in case that another one wants it, so nothing
// but this ends it with the replica.
type dials struct {
	live context.Context
	end  context.CancelCauseFunc

	mu    sync.Mutex
	ended bool
	open  sync.WaitGroup
}

func newDials() *dials {
	d := &dials{}
	d.live, d.end = context.WithCancelCause(context.Background())
	return d
}

// make lets a dial run until ctx or the replica ends.
func (d *dials) make(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	d.mu.Lock()
	if d.ended {
		d.mu.Unlock()
		return nil, ErrStopped
	}
	d.open.Add(1)
	d.mu.Unlock()
	defer d.open.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.live, cancel)()
	return dial(ctx)
}

// close ends the dials, lets no more begin, and waits until they have ended.
func (d *dials) close() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.end(ErrStopped)
	d.open.Wait()
}
