package audit

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"
)

// inOrder does work on several items at a time and gives them to take in their
// order, at most ahead of them waiting. It ends with the first error of take,
// or when ctx does; whatever it started has ended when it returns. What do
// finds wrong it keeps in the item, so that the first in order is told. Each
// worker calls idle, if there is one, when no item is left for it.
func inOrder[T any](ctx context.Context, workers, ahead int, items iter.Seq[T], do func(context.Context, T), idle func(), take func(T) error) error {
	type slot struct {
		item T
		done chan struct{}
	}
	group, ctx := errgroup.WithContext(ctx)
	order, work := make(chan slot, ahead), make(chan slot, workers)
	send := func(ch chan<- slot, s slot) error {
		select {
		case ch <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	group.Go(func() error {
		defer close(order)
		defer close(work)
		for item := range items {
			s := slot{item: item, done: make(chan struct{})}
			if err := send(order, s); err != nil {
				return err
			}
			if err := send(work, s); err != nil {
				return err
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for s := range work {
				if ctx.Err() == nil {
					do(ctx, s.item)
				}
				close(s.done)
			}
			if idle != nil {
				idle()
			}
			return nil
		})
	}
	group.Go(func() error {
		for s := range order {
			select {
			case <-s.done:
			case <-ctx.Done():
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := take(s.item); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}
