package main

import "syscall"

// keepMemoryPrivate keeps what is in memory out of cores, and from other programs
// of the same user: they may not trace this one, nor read its memory
// (prctl(2), PR_SET_DUMPABLE). Whoever has CAP_SYS_PTRACE still may.
func keepMemoryPrivate() {
	const setDumpable = 4
	// Both are refused by no system that we know of, and then nothing is lost but
	// the protection.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setDumpable, 0, 0)
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
