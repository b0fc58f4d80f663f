package agent

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
)

// Saved is a verified state as it is kept between two runs: what is needed to go
// on from a certified head without asking anybody. Whoever loads it verifies it
// again, by the head's cosignatures and the seal's digest; the file's own hash
// only tells damage from deceit.
type Saved struct {
	Generation uint64
	Size       uint64   // of the certified head
	Note       []byte   // the head (FORMAT.md section 9)
	Links      [][]byte // the authority chain, canonical JSON
	Seal       []byte   // the entry that the head ends in
	SealProof  []ledger.Hash
	// Records are the state's, by key (fsm.State.Dump, fsm.Load).
	Records iter.Seq2[string, []byte]
}

// Store keeps one Saved in a directory. It replaces it as a whole, never by one
// of an earlier generation or smaller size, and never leaves half of one.
type Store struct {
	disk disk
	name string

	generation, size uint64 // of what is there
	known            bool
}

// RollbackError says that a state was not kept because a newer one is.
type RollbackError struct{ Have, Got uint64 } // sizes

func (e *RollbackError) Error() string {
	return fmt.Sprintf("a state of size %d is kept: one of size %d would be a rollback", e.Have, e.Got)
}

const (
	storePurpose = "quorate/saved/v1\n\x00"
	storeMagic   = "quorate saved 1\n"
)

// NewStore keeps its file at path.
func NewStore(path string) *Store {
	return &Store{disk: folder(filepath.Dir(path)), name: filepath.Base(path)}
}

// Load reads what was saved; fs.ErrNotExist if nothing was. After a *DamagedError
// the state is to be had from the ledger again: the file counts for nothing, so
// whatever is saved next replaces it.
func (s *Store) Load() (*Saved, error) {
	b, err := s.disk.read(s.name, maxStateFileBytes)
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	saved, err := decodeSaved(s.name, b)
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	s.generation, s.size, s.known = saved.Generation, saved.Size, true
	return saved, nil
}

// Save replaces what is kept. After an error, what was kept is kept: a full disk
// costs nothing but that a restart begins there.
func (s *Store) Save(saved *Saved) error {
	if !s.known {
		if _, err := s.Load(); err != nil && !isDamagedOrGone(err) {
			return err
		}
	}
	if s.known && (saved.Generation < s.generation || saved.Generation == s.generation && saved.Size < s.size) {
		return &RollbackError{Have: s.size, Got: saved.Size}
	}
	err := s.disk.replace(s.name, func(w io.Writer) error { return encodeSaved(w, saved) })
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	s.generation, s.size, s.known = saved.Generation, saved.Size, true
	return nil
}

// Discard removes what is kept: it did not verify.
func (s *Store) Discard() error {
	s.generation, s.size, s.known = 0, 0, true
	d, ok := s.disk.(folder)
	if !ok {
		return nil
	}
	if err := os.Remove(d.path(s.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard state: %w", err)
	}
	return nil
}

func isDamagedOrGone(err error) bool {
	var damaged *DamagedError
	return errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged)
}

// encodeSaved writes the file: its parts, each after its length, and the hash of
// all of it.
func encodeSaved(to io.Writer, saved *Saved) error {
	hash := sha256.New()
	hash.Write([]byte(storePurpose))
	buffered := bufio.NewWriterSize(to, 64<<10)
	w := &partWriter{to: io.MultiWriter(buffered, hash)}
	w.raw([]byte(storeMagic))
	w.number(saved.Generation)
	w.number(saved.Size)
	w.part(saved.Note)
	w.number(uint64(len(saved.Links)))
	for _, l := range saved.Links {
		w.part(l)
	}
	w.part(saved.Seal)
	w.number(uint64(len(saved.SealProof)))
	for _, h := range saved.SealProof {
		w.raw(h[:])
	}
	for key, value := range saved.Records {
		w.part([]byte(key))
		w.part(value)
		if w.err != nil {
			return w.err
		}
	}
	w.part(nil) // no record has an empty key
	if w.err != nil {
		return w.err
	}
	if _, err := buffered.Write(hash.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}

type partWriter struct {
	to  io.Writer
	err error
}

func (w *partWriter) raw(b []byte) {
	if w.err == nil {
		_, w.err = w.to.Write(b)
	}
}

func (w *partWriter) number(n uint64) { w.raw(binary.BigEndian.AppendUint64(nil, n)) }

func (w *partWriter) part(b []byte) {
	w.raw(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	w.raw(b)
}

// decodeSaved reads what encodeSaved wrote. What it returns is part of b.
func decodeSaved(name string, b []byte) (*Saved, error) {
	content, err := checkSum(name, storePurpose, b)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(content, []byte(storeMagic))
	if !ok {
		return nil, &DamagedError{File: name, Reason: "it is of another kind"}
	}
	r := &partReader{rest: rest}
	saved := &Saved{Generation: r.number(), Size: r.number(), Note: r.part()}
	for range r.count(maxStateLinks) {
		saved.Links = append(saved.Links, r.part())
	}
	saved.Seal = r.part()
	for range r.count(ledger.MaxInclusionHashes) {
		saved.SealProof = append(saved.SealProof, ledger.Hash(r.raw(32)))
	}
	records := r.rest
	for range maxStateRecords {
		key := r.part()
		if len(key) == 0 {
			break
		}
		r.part()
	}
	if r.bad || len(r.rest) > 0 {
		return nil, &DamagedError{File: name, Reason: "its parts do not fit"}
	}
	saved.Records = func(yield func(string, []byte) bool) {
		r := &partReader{rest: records}
		for {
			key := r.part()
			if len(key) == 0 || !yield(string(key), r.part()) {
				return
			}
		}
	}
	return saved, nil
}

// partReader reads parts, and is bad from the first that is not there.
type partReader struct {
	rest []byte
	bad  bool
}

var noHash [32]byte

func (r *partReader) raw(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return noHash[:min(n, len(noHash))]
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *partReader) number() uint64 { return binary.BigEndian.Uint64(r.raw(8)) }

func (r *partReader) count(limit uint64) uint64 {
	n := r.number()
	if r.bad || n > limit {
		r.bad = true
		return 0
	}
	return n
}

func (r *partReader) part() []byte {
	n := int(binary.BigEndian.Uint32(r.raw(4)))
	if r.bad || n > len(r.rest) {
		r.bad = true
		return nil
	}
	return r.raw(n)
}
