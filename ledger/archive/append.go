package archive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Append adds entry seq, which must be Size(), or compares it with what is here: the same bytes give nil,
// others ConflictError. A seq above Size() is a GapError, and so is one in the gap, with which nothing
// can be compared; but once a write has failed, whatever is not here is an ErrFailed, because what should
// stand between was refused for that. The entry is copied.
//
// Append touches no file, unless 32 MiB are waiting to be written: then it waits for a Sync. What it
// took is served at once, and lost in a crash before the next Sync.
func (a *Archive) Append(seq uint64, entry []byte) error {
	return a.append(seq, entry, nil)
}

// AppendLeaf is Append for whoever knows the entry's leaf hash, RecordHash, and leaves the entry to the
// archive: it is not copied, and nobody may change it from then on.
func (a *Archive) AppendLeaf(seq uint64, entry []byte, leaf tlog.Hash) error {
	return a.append(seq, entry, &leaf)
}

// append hashes and copies the entry unless leaf is given.
func (a *Archive) append(seq uint64, entry []byte, leaf *tlog.Hash) error {
	if len(entry) == 0 || len(entry) > MaxEntryBytes {
		return fmt.Errorf("archive: entry %d has %d bytes, not 1 to %d", seq, len(entry), MaxEntryBytes)
	}
	v, err := a.view()
	if err != nil {
		return err
	}
	switch size := v.size(); {
	case seq < size:
		return v.compare(seq, entry)
	case seq > size:
		if failed := a.Failed(); failed != nil {
			return failed
		}
		return &GapError{From: size, To: seq}
	case size >= maxSize:
		return fmt.Errorf("archive: full at %d entries", size)
	}
	if leaf == nil {
		hash := tlog.RecordHash(entry)
		leaf, entry = &hash, slices.Clone(entry)
	}

	a.mu.Lock()
	if a.failed != nil {
		a.mu.Unlock()
		return a.failed
	}
	a.now.end().push(entry, *leaf)
	a.pending += len(entry)
	full := a.pending > maxPendingBytes
	a.mu.Unlock()
	if full {
		if _, err = a.Sync(); errors.Is(err, ErrFull) {
			return a.fail(fmt.Errorf("%d MiB wait for space: %w", maxPendingBytes>>20, err))
		}
	}
	return err
}

// compare says whether entry seq is this one, by the bytes in memory or else by the leaf hash.
func (v *view) compare(seq uint64, entry []byte) error {
	c, err := v.chainOf(seq)
	if err != nil {
		return err
	}
	same := false
	if have, ok := c.entry(seq); ok {
		same = bytes.Equal(have, entry)
	} else {
		leaf, err := v.leafHash(seq)
		if err != nil {
			return err
		}
		same = leaf == tlog.RecordHash(entry)
	}
	if !same {
		return &ConflictError{Seq: seq}
	}
	return nil
}

// Sync makes everything durable that was appended before the call, writes the bundles and tiles that are
// full, and gives the durable size.
//
// After an error the archive takes no more writes: the kernel may have dropped what it could not write,
// so a second fsync that succeeds proves nothing. Only ErrFull may be tried again: what was written before
// there was no space left is given up, and all that is not in full bundles is written anew.
func (a *Archive) Sync() (size uint64, err error) {
	a.diskMu.Lock()
	defer a.diskMu.Unlock()
	return a.syncLocked()
}

func (a *Archive) syncLocked() (uint64, error) {
	a.mu.RLock()
	c, durable, err, island := *a.now.end(), a.durable, a.failed, a.now.island != nil
	a.mu.RUnlock()
	if err != nil {
		return durable, err
	}
	if c.size == durable {
		return durable, nil
	}
	w := &a.hist
	if island {
		w = &a.island
	}
	if err := a.flush(w, &c); err != nil {
		return durable, a.failOrFull(w, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full = false
	a.durable = c.size
	a.pending -= bytesOf(c.entries[durable-c.base:])
	a.now.end().dropTo(c.fullBundles())
	return c.size, nil
}

func bytesOf(entries [][]byte) int {
	n := 0
	for _, e := range entries {
		n += len(e)
	}
	return n
}

// failOrFull is fail, unless there was merely no space: then the tail file is let go of, so that the next
// flush writes all of it to a new one.
func (a *Archive) failOrFull(w *tailWriter, cause error) error {
	if !noSpace(cause) {
		return a.fail(cause)
	}
	if err := w.close(); err != nil {
		return a.fail(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full = true
	return fmt.Errorf("%w: %w", ErrFull, cause)
}

// fail makes the archive refuse writes for ever.
func (a *Archive) fail(cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil {
		a.failed = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	return a.failed
}
