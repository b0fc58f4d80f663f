//go:build linux || darwin || freebsd || netbsd || openbsd

package keys

import "syscall"

// lockMemory keeps pages out of the swap. Users may lock only some memory, and
// what is wiped soon is seldom swapped: a refusal is no error.
func lockMemory(pages []byte) { _ = syscall.Mlock(pages) }

func unlockMemory(pages []byte) { _ = syscall.Munlock(pages) }
