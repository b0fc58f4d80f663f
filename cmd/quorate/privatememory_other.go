//go:build !linux

package main

// keepMemoryPrivate has nothing to do where the system offers no way.
func keepMemoryPrivate() {}
