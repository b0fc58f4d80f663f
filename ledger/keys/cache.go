package keys

import (
	"container/list"
	"sync"
)

// Cache keeps the public keys that were used last, unpacked: unpacking costs
// more than verifying, and a key takes about 40 kB, so that neither doing it
// each time nor keeping all is right. It is safe for concurrent use.
type Cache struct {
	limit int

	mu     sync.Mutex
	byKey  map[string]*list.Element // packed bytes, shared with the PublicKey
	recent *list.List               // of *PublicKey, the last used in front
}

// NewCache gives a cache of at most limit keys, at least one.
func NewCache(limit int) *Cache {
	return &Cache{limit: max(limit, 1), byKey: map[string]*list.Element{}, recent: list.New()}
}

// Get gives the key of the packed bytes pub, and errors as ParsePublicKey does.
// It looks the bytes up themselves: hashing them to an id would cost more than
// all the rest.
func (c *Cache) Get(pub []byte) (*PublicKey, error) {
	if p := c.lookup(pub); p != nil {
		return p, nil
	}
	// Unpacked without the lock: two that race for one key do the work twice,
	// and nobody waits for another key's.
	p, err := ParsePublicKey(pub)
	if err != nil {
		return nil, err
	}
	return c.add(p), nil
}

// Len says how many keys are kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}

func (c *Cache) lookup(pub []byte) *PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.byKey[string(pub)]
	if element == nil {
		return nil
	}
	c.recent.MoveToFront(element)
	return element.Value.(*PublicKey)
}

func (c *Cache) add(p *PublicKey) *PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.byKey[p.packed]; element != nil {
		c.recent.MoveToFront(element)
		return element.Value.(*PublicKey)
	}
	c.byKey[p.packed] = c.recent.PushFront(p)
	if c.recent.Len() > c.limit {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.byKey, oldest.Value.(*PublicKey).packed)
	}
	return p
}
