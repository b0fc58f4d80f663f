package agent

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
)

// When more seals waited for a head than are kept, what is known has a gap before
// them: a true head from it is no contradiction.
func TestManySealsBeforeAHead(t *testing.T) {
	c := &chronicle{failed: errors.New("not replayed")}
	var heads []*head
	provide := func(n int) {
		for range n {
			before := c.ahead
			c.leaf = ledger.LeafHash(binary.BigEndian.AppendUint64(nil, c.ahead.Size))
			c.ahead.Append(tlog.Hash(c.leaf))
			c.provide(before, nil)
			heads = append(heads, &head{Head: ledger.Head{Size: c.ahead.Size, Root: ledger.Hash(c.ahead.Root())}, note: []byte("ours")})
		}
	}
	settle := func(h *head) {
		t.Helper()
		var divergence *DivergenceError // nothing is replayed here
		if _, err := c.settle(h); !errors.As(err, &divergence) || c.size() != h.Size {
			t.Fatalf("%v, size %d", err, c.size())
		}
	}
	provide(10)
	settle(heads[9])
	provide(2*keptSeals + 1)
	settle(heads[len(heads)-20])
	for _, h := range heads {
		if c.seals.conflict(h) != nil {
			t.Fatalf("a true head of %d entries contradicts what is known", h.Size)
		}
	}
	other := *heads[len(heads)-100]
	other.Root[0] ^= 1
	if c.seals.conflict(&other) == nil {
		t.Error("no head contradicts what is known")
	}
}
