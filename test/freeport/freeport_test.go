package freeport

import (
	"net"
	"testing"
)

// No port is given twice, none that somebody listens on, and those asked for
// together are in a row, however many blocks that takes.
func TestNoPortTwice(t *testing.T) {
	given := map[int]bool{}
	for range 20 {
		busy, err := net.Listen("tcp", address(Take(t, 1)+1))
		if err == nil {
			defer busy.Close()
		}
		first := Take(t, 30)
		for port := first; port < first+30; port++ {
			if given[port] {
				t.Fatalf("port %d is given twice", port)
			}
			if busy != nil && busy.Addr().(*net.TCPAddr).Port == port {
				t.Fatalf("port %d is in use", port)
			}
			given[port] = true
		}
	}
}
