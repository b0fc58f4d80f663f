package replica

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Folders that change places. One that is a mount of its own, or a link to another
// disk, can't be renamed: it stays, and its content is copied.

// setAside moves a folder, or what is in it, to old. A crash leaves no old, and the
// folder as it was; or old, whole and durable, and of the folder's content any part.
func setAside(place, old string) error {
	fixed, err := isFixed(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !fixed {
		err = os.Rename(place, old)
		if err == nil {
			return errors.Join(syncDir(filepath.Dir(old)), syncDir(filepath.Dir(place)))
		}
		if !staysInPlace(err) {
			return err
		}
	}
	part := old + copySuffix
	if err := errors.Join(os.RemoveAll(part), copyTree(place, part)); err != nil {
		return err
	}
	if err := os.Rename(part, old); err != nil {
		return err
	}
	return syncDir(filepath.Dir(old))
}

// fill moves the folder fresh, or what is in it, to place, whose own content was set
// aside. A crash leaves fresh whole, and place in any state; or no fresh, and place
// whole. copied is reached in between, if a rename will not do.
func fill(place, fresh string, copied func() error) error {
	fixed, err := isFixed(place)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !fixed {
		// The kernel refuses to remove a mount's root before it looks what is in it;
		// of a folder that was set aside by a rename there is none.
		err := os.Remove(place)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(fresh, place)
		}
		if err == nil {
			return errors.Join(syncDir(filepath.Dir(fresh)), syncDir(filepath.Dir(place)))
		}
		if !staysInPlace(err) {
			return err
		}
	}
	if err := errors.Join(empty(place), copyTree(fresh, place)); err != nil {
		return err
	}
	if err := copied(); err != nil {
		return err
	}
	done := fresh + copySuffix
	if err := errors.Join(os.RemoveAll(done), os.Rename(fresh, done)); err != nil {
		return err
	}
	// Crash here: a copy that nobody needs is left in the recovery's folder.
	return errors.Join(os.RemoveAll(done), syncDir(filepath.Dir(fresh)))
}

// isFixed says whether the path is a link, whose target is on another disk for a
// reason.
func isFixed(path string) (bool, error) {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0, err
}

// staysInPlace says whether a rename failed because of mounts.
func staysInPlace(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EBUSY)
}

// lostAndFound is what a file system may have at its root, and keeps.
const lostAndFound = "lost+found"

// empty removes what is in a folder.
func empty(dir string) error {
	names, err := readDirNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lostAndFound {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return errors.Join(err, syncDir(dir))
}

// copyTree makes a durable copy of what is in the folder from, which has files and
// folders alone.
func copyTree(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := readDirNames(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == lostAndFound {
			continue
		}
		source, target := filepath.Join(from, name), filepath.Join(to, name)
		info, err := os.Lstat(source)
		switch {
		case err != nil:
		case info.IsDir():
			err = copyTree(source, target)
		default:
			err = copyFile(source, target)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(to)
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}
