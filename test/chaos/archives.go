package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/quorate/quorate/ledger/archive"
)

// compareArchives opens the histories of stopped replicas. Each must be a
// prefix of the longest, byte by byte, and hold all that is known.
func (c *cluster) compareArchives() (err error) {
	var open []*archive.Archive
	defer func() {
		for _, a := range open {
			err = errors.Join(err, a.Close())
		}
	}()
	longest := 0
	for i, m := range c.members {
		a, err := archive.Open(filepath.Join(m.dir, "archive"), archive.Options{})
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		open = append(open, a)
		if a.Size() > open[longest].Size() {
			longest = i
		}
	}
	for i, a := range open {
		if a.Whole() < c.known.size {
			return fmt.Errorf("%s holds %d entries, %d are known to be certified", c.members[i].name, a.Whole(), c.known.size)
		}
		if err := prefix(a, open[longest]); err != nil {
			return fmt.Errorf("%s and %s: %w", c.members[i].name, c.members[longest].name, err)
		}
	}
	return nil
}

// prefix says whether one history begins the other.
func prefix(short, long *archive.Archive) error {
	return short.Entries(0, short.Size(), func(seq uint64, entry []byte) error {
		other, err := long.Entry(seq)
		if err != nil {
			return err
		}
		if !bytes.Equal(entry, other) {
			return fmt.Errorf("entry %d differs", seq)
		}
		return nil
	})
}
