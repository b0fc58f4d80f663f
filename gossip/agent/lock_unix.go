//go:build unix

package agent

import (
	"errors"
	"os"
	"syscall"
)

// ErrRuns says that another agent runs on the same folder. Two would use each seq twice,
// which excludes their node.
var ErrRuns = errors.New("another agent runs on this folder")

// lockFolder keeps other agents off a folder until it is closed, or the process ends,
// however it does. It writes nothing: a full disk can be locked. The error is ErrRuns, or
// that of a file system without locks.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrRuns
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
