// Package freeport gives tests loopback ports that nobody else takes before they
// are used. A port that the kernel named (":0") and that was closed again may be
// given to another test, or as the near end of an outgoing connection; two
// replicas of one test once got the same one. So ports come from below the
// kernel's own range, in blocks that a test process holds for as long as it
// lives by listening on the first port of each.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

const (
	lowest    = 10_240
	blockSize = 256
	blocks    = (32_768 - lowest) / blockSize // Linux's ephemeral ports begin there
)

var held struct {
	sync.Mutex
	locks []net.Listener // for the life of the process
	next  int
	end   int
}

// Take gives n ports in a row, each free now and never given to anybody else
// while this process lives. n is at most 255.
func Take(t testing.TB, n int) int {
	t.Helper()
	first, err := take(n)
	if err != nil {
		t.Fatalf("find %d free ports: %v", n, err)
	}
	return first
}

// Address is a loopback address with one such port.
func Address(t testing.TB) string {
	t.Helper()
	return address(Take(t, 1))
}

// Find is Take for a program of tests, which has no testing.TB.
func Find(n int) (int, error) { return take(n) }

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func take(n int) (int, error) {
	if n < 1 || n >= blockSize {
		return 0, fmt.Errorf("want 1 to %d ports", blockSize-1)
	}
	held.Lock()
	defer held.Unlock()
	for {
		if held.next+n > held.end {
			if err := lockBlock(); err != nil {
				return 0, err
			}
		}
		first := held.next
		if busy := firstBusy(first, n); busy >= 0 {
			held.next = busy + 1
			continue
		}
		held.next += n
		return first, nil
	}
}

// lockBlock requires held's lock.
func lockBlock() error {
	start := rand.IntN(blocks)
	for i := range blocks {
		first := lowest + (start+i)%blocks*blockSize
		l, err := net.Listen("tcp", address(first))
		if err != nil {
			continue
		}
		held.locks = append(held.locks, l)
		held.next, held.end = first+1, first+blockSize
		return nil
	}
	return errors.New("every block of ports is taken")
}

// firstBusy is the first of n ports that somebody listens on, or -1.
func firstBusy(first, n int) int {
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			return port
		}
		_ = l.Close()
	}
	return -1
}
