package keys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// writeNew makes a new file of the given content: whole or not at all, durable
// on return, never in place of another. Whatever is wrong is a *FileError. what is the
// kind of file, as in FileError.
func writeNew(what, path string, content []byte, mode fs.FileMode) error {
	failed := func(err error) error {
		return &FileError{What: what, Path: path, Problem: "it cannot be written: " + causeOf(err),
			Remedy: "name a place in a directory that is there, can be written and has room", Err: err}
	}
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return failed(err)
	}
	defer os.Remove(temporary.Name())
	if err := fill(temporary, content, mode); err != nil {
		return failed(err)
	}
	// A crash before here leaves a temporary file and nothing at path. Linking,
	// unlike renaming, fails if something is at path.
	if err := publish(os.Link, temporary.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &FileError{What: what, Path: path, Problem: "it exists already",
				Remedy: "it is never overwritten: choose another name or move it away", Err: fs.ErrExist}
		}
		return failed(err)
	}
	// A crash before here may leave nothing at path, a crash after it may not.
	if err := syncDir(dir); err != nil {
		return failed(err)
	}
	return nil
}

// fill writes content and makes it durable, before a name that anyone looks for
// points to it.
func fill(file *os.File, content []byte, mode fs.FileMode) error {
	_, err := file.Write(content)
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// publish gives the file its name. Some file systems cannot link: there an
// empty file takes the name first, which fails if it is taken, and is then
// replaced. A crash in between leaves the empty file, and ReadFile says so.
func publish(link func(from, to string) error, temporary, path string) error {
	err := link(temporary, path)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reserved, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(reserved.Close(), os.Rename(temporary, path)); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func syncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(handle.Sync(), handle.Close())
}
