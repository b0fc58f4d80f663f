package archive

import (
	"container/list"
	"sync"
)

// lru keeps the values that were used last, as long as their weights fit. A zero budget keeps nothing.
type lru[K comparable, V any] struct {
	mu     sync.Mutex
	budget int
	weight int
	order  *list.List // of *lruItem[K, V], the newest first
	items  map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key    K
	value  V
	weight int
}

func newLRU[K comparable, V any](budget int) *lru[K, V] {
	return &lru[K, V]{budget: budget, order: list.New(), items: make(map[K]*list.Element)}
}

func (c *lru[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruItem[K, V]).value, true
}

func (c *lru[K, V]) put(key K, value V, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(key)
	if weight > c.budget {
		return
	}
	c.items[key] = c.order.PushFront(&lruItem[K, V]{key, value, weight})
	for c.weight += weight; c.weight > c.budget; {
		c.removeLocked(c.order.Back().Value.(*lruItem[K, V]).key)
	}
}

func (c *lru[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(key)
}

func (c *lru[K, V]) removeLocked(key K) {
	if e, ok := c.items[key]; ok {
		c.weight -= e.Value.(*lruItem[K, V]).weight
		c.order.Remove(e)
		delete(c.items, key)
	}
}
