package agent

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is one directory, as the files that must survive a crash need it. Tests
// put one in its place that loses what was not synced.
type disk interface {
	// read gives a file's bytes, up to a limit; fs.ErrNotExist if there is none.
	read(name string, limit int64) ([]byte, error)
	// replace makes a file of what write writes: a crash leaves the old one or the
	// new one, and after it returned the new one.
	replace(name string, write func(io.Writer) error) error
	// add appends to a file, which is made if need be, and syncs it.
	add(name string, b []byte) error
	// cut shortens a file, and syncs it.
	cut(name string, length int64) error
}

// folder is the disk that programs use.
type folder string

func (d folder) path(name string) string { return filepath.Join(string(d), name) }

func (d folder) read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &DamagedError{File: name, Reason: "too large"}
	}
	return b, err
}

func (d folder) replace(name string, write func(io.Writer) error) error {
	temporary := d.path(name) + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary)) // a full disk has room again
	}
	// Crash here: the old file, and one that the next write empties.
	if err := os.Rename(temporary, d.path(name)); err != nil {
		return err
	}
	// Crash here: either; the caller has not acted on the new one yet.
	return d.sync()
}

func (d folder) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d folder) add(name string, b []byte) error {
	_, err := os.Stat(d.path(name))
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	// Crash here: none, some or all of it; the reader drops what is not whole.
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && fresh {
		err = d.sync()
	}
	return err
}

func (d folder) cut(name string, length int64) error {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(length), f.Sync(), f.Close())
}

// DamagedError says that a file is not what was written.
type DamagedError struct{ File, Reason string }

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.File, e.Reason) }

// withSum gives content with the SHA-256 of purpose and content after it.
func withSum(purpose string, content []byte) []byte {
	return append(content, sumOf(purpose, content)...)
}

// checkSum gives the content that withSum was given.
func checkSum(file, purpose string, b []byte) ([]byte, error) {
	at := len(b) - sha256.Size
	if at < 0 {
		return nil, &DamagedError{File: file, Reason: "too short"}
	}
	if !bytes.Equal(sumOf(purpose, b[:at]), b[at:]) {
		return nil, &DamagedError{File: file, Reason: "its hash is another"}
	}
	return b[:at:at], nil
}

func sumOf(purpose string, content []byte) []byte {
	h := sha256.New()
	h.Write([]byte(purpose))
	h.Write(content)
	return h.Sum(nil)
}
