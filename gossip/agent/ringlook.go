package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
)

// RingKey is a key that an agent's folder holds, as its ring says.
type RingKey struct {
	ID    ledger.Hash
	Path  string // of its file
	Ended bool
	Gone  bool // its file was destroyed, or another was put in its place
}

// RingLook is what an agent's ring says: which keys its folder holds. Which of them
// signs, the ledger says.
type RingLook struct {
	Active ledger.Hash
	Next   *ledger.Hash // announced, or to be
	Keys   []RingKey    // in the order in which they came
	Waits  string       // file of a key that people made, to be put in force by decision; "": none
}

// LookAtRing reads the ring of an agent's folder and changes nothing. One that has
// not run since there are rings has none: fs.ErrNotExist.
func LookAtRing(c *Config) (*RingLook, error) {
	dir := (&vault{dir: c.Dir}).keysDir()
	f, err := os.Open(filepath.Join(dir, ringName))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRingBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read ring: %w", err)
	}
	r, err := decodeRing(filepath.Join(dir, ringName), b)
	if err != nil {
		return nil, err
	}
	look := &RingLook{Active: r.Active, Next: r.Next}
	for _, k := range r.Keys {
		path := c.KeyFile
		if k.File != "" {
			path = filepath.Join(dir, k.File)
		}
		look.Keys = append(look.Keys, RingKey{ID: k.ID, Path: path, Ended: k.Ended != nil, Gone: k.Gone})
	}
	s := keyFolder{folder: folder(dir)}
	if look.Waits, err = s.waits(r); err != nil {
		return nil, err
	}
	return look, nil
}

// Key gives what the ring says of a key; nil if it is not there.
func (l *RingLook) Key(id ledger.Hash) *RingKey {
	for i := range l.Keys {
		if l.Keys[i].ID == id {
			return &l.Keys[i]
		}
	}
	return nil
}
