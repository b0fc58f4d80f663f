package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// FS is what the archive asks of a file system. Names are paths that begin with the folder given to
// Open. A name that is not there gives an error that is fs.ErrNotExist.
type FS interface {
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]string, error) // the names in a folder, sorted
	Create(name string) (File, error)      // a new file for writing; an old one is emptied
	Rename(from, to string) error          // atomic; durable after SyncDir of the target's folder
	Remove(name string) error              // durable after SyncDir
	RemoveAll(name string) error           // a whole folder; nil when it is not there
	MkdirAll(name string) error            // durable after SyncDir of each parent
	SyncDir(name string) error             // the names in a folder are durable
	Lock(name string) (io.Closer, error)   // exclusive, released by Close or when the process dies
}

// File is a file being written.
type File interface {
	io.WriteCloser
	Sync() error // what was written is durable
}

// OS is the operating system's file system.
func OS() FS { return osFS{} }

// osFS is the operating system's file system.
type osFS struct{}

func (osFS) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }
func (osFS) Rename(from, to string) error         { return os.Rename(from, to) }
func (osFS) Remove(name string) error             { return os.Remove(name) }
func (osFS) RemoveAll(name string) error          { return os.RemoveAll(name) }
func (osFS) MkdirAll(name string) error           { return os.MkdirAll(name, 0o755) }

func (osFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) SyncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	return errors.Join(err, dir.Close())
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: in use by another process: %w", name, err)
	}
	return f, nil
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
