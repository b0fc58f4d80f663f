package agent

import (
	"slices"

	"github.com/quorate/quorate/ledger"
)

// sealed is the root of the certified ledger at a seal.
type sealed struct {
	size uint64
	root ledger.Hash
}

// sealRing knows the roots of the newest certified seals and the newest heads,
// so that a head which contradicts them is found out, and certified heads that
// are ahead of us, which are compared when we are past them. All ascend by size, and
// roots has every seal between its first and its last.
type sealRing struct {
	roots  []sealed
	heads  []*head
	claims []*head
}

func (r *sealRing) addAll(roots []sealed) {
	r.roots = append(r.roots, roots...)
	if over := len(r.roots) - keptSeals; over > 0 {
		r.roots = slices.Clone(r.roots[over:])
	}
}

// add takes a certified head; of one size the newest signed stays.
func (r *sealRing) add(h *head) {
	at, found := slices.BinarySearchFunc(r.heads, h, func(a, b *head) int { return compare(a.Size, b.Size) })
	switch {
	case !found:
		r.heads = slices.Insert(r.heads, at, h)
	case r.heads[at].signed < h.signed:
		r.heads[at] = h
	}
	if over := len(r.heads) - keptHeads; over > 0 {
		r.heads = slices.Clone(r.heads[over:])
	}
}

// conflict gives the note of one of our heads if h contradicts what is known: our
// head of the same size, or else the newest.
func (r *sealRing) conflict(h *head) []byte {
	if at, found := slices.BinarySearchFunc(r.heads, h, func(a, b *head) int { return compare(a.Size, b.Size) }); found {
		if r.heads[at].Root != h.Root {
			return r.heads[at].note
		}
		return nil
	}
	if len(r.roots) == 0 || len(r.heads) == 0 || h.Size < r.roots[0].size || h.Size > r.roots[len(r.roots)-1].size {
		return nil
	}
	at, found := slices.BinarySearchFunc(r.roots, h.Size, func(a sealed, size uint64) int { return compare(a.size, size) })
	// A certified head always ends in a seal: within our range one that ends
	// elsewhere has another history.
	if found && r.roots[at].root == h.Root {
		return nil
	}
	return r.heads[len(r.heads)-1].note
}

// claim keeps a certified head that is ahead of us, and gives the note of another
// one of that size which contradicts it. Of too many the nearest are kept.
func (r *sealRing) claim(h *head) []byte {
	at, found := slices.BinarySearchFunc(r.claims, h, func(a, b *head) int { return compare(a.Size, b.Size) })
	if found {
		if r.claims[at].Root != h.Root {
			return r.claims[at].note
		}
		return nil
	}
	r.claims = slices.Insert(r.claims, at, h)
	r.claims = r.claims[:min(len(r.claims), keptClaims)]
	return nil
}

// passed compares the claims that our history has reached, and gives one that
// contradicts it beside a head of ours, or nil.
func (r *sealRing) passed(size uint64) (ours, theirs []byte) {
	n, _ := slices.BinarySearchFunc(r.claims, size+1, func(h *head, size uint64) int { return compare(h.Size, size) })
	for _, h := range r.claims[:n] {
		if other := r.conflict(h); other != nil && ours == nil {
			ours, theirs = other, h.note
		}
	}
	r.claims = slices.Clone(r.claims[n:])
	return ours, theirs
}

// jump forgets the roots: those between them and a state that was taken whole are
// not known. Heads stay, and so do the claims beyond it.
func (r *sealRing) jump(size uint64) {
	r.roots = nil
	r.passed(size)
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// entryStore keeps the newest certified entries, for peers that reach no
// replica.
type entryStore struct {
	first   uint64 // seq of entries[0]
	entries [][]byte
	bytes   int
}

// add takes the entries that end below size.
func (s *entryStore) add(size uint64, entries [][]byte) {
	from := size - uint64(len(entries))
	if from != s.first+uint64(len(s.entries)) {
		s.first, s.entries, s.bytes = from, nil, 0
	}
	for _, e := range entries {
		s.entries = append(s.entries, e)
		s.bytes += len(e)
	}
	if len(s.entries) <= keptEntries+keptEntries/4 && s.bytes <= keptEntryBytes+keptEntryBytes/4 {
		return
	}
	drop := 0
	for len(s.entries)-drop > keptEntries || s.bytes > keptEntryBytes {
		s.bytes -= len(s.entries[drop])
		drop++
	}
	if drop > 0 {
		s.entries = slices.Clone(s.entries[drop:])
		s.first += uint64(drop)
	}
}

// below takes the entries below size out.
func (s *entryStore) below(size uint64) [][]byte {
	if size <= s.first {
		return nil
	}
	n := min(int(size-s.first), len(s.entries))
	taken := s.entries[:n:n]
	for _, e := range taken {
		s.bytes -= len(e)
	}
	s.first, s.entries = s.first+uint64(n), slices.Clone(s.entries[n:])
	return taken
}

// from gives entries from seq on, at most so many bytes and at least one, or nil if the
// store does not reach back so far.
func (s *entryStore) from(seq uint64, most int) [][]byte {
	if seq < s.first || seq >= s.first+uint64(len(s.entries)) {
		return nil
	}
	list := s.entries[seq-s.first:]
	n, size := 0, 0
	for n < len(list) && (n == 0 || size+len(list[n]) <= most) {
		size += len(list[n])
		n++
	}
	return slices.Clone(list[:n])
}
