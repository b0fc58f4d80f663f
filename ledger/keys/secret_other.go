//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd

package keys

// There is no way that all other systems share.
func lockMemory([]byte)   {}
func unlockMemory([]byte) {}
