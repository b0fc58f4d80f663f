//go:build unix

package archive

import (
	"os"
	"syscall"
)

// flock takes an advisory lock that the kernel drops with the process, so that a crash leaves none.
func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
