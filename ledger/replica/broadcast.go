package replica

import (
	"context"
	"sync"
)

// broadcast wakes whoever waits for a change. Take the channel, look at what
// you wait for, then wait on the channel: no change is missed.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) fire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// until returns nil once holds says so, which it is asked again at each
// change, and ctx's error when that ends first.
func (b *broadcast) until(ctx context.Context, holds func() (bool, error)) error {
	for {
		ch := b.wait()
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
