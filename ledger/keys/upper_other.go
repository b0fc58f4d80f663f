//go:build !amd64

package keys

// restoreSpeed has nothing to do here: see upper_amd64.go.
func restoreSpeed() {}
