package main

import (
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// What a connection of this very process carried is what the kernel says of it.
func TestTrafficOfOwnConnections(t *testing.T) {
	if _, err := socketTraffic(); err != nil {
		t.Skipf("this kernel does not tell: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const forth, back = 200_003, 1_009 // nobody else's
	go func() { _, _ = client.Write(make([]byte, forth)) }()
	if _, err := io.ReadFull(server, make([]byte, forth)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = server.Write(make([]byte, back)) }()
	if _, err := io.ReadFull(client, make([]byte, back)); err != nil {
		t.Fatal(err)
	}
	found := func() (sent, received bool) {
		all, err := socketTraffic()
		if err != nil {
			t.Fatal(err)
		}
		for inode := range socketsOf(os.Getpid()) {
			sent = sent || all[inode] == traffic{forth + 1, back} // whoever dials sends one more: SYN
			received = received || all[inode] == traffic{back, forth}
		}
		return sent, received
	}
	// What was sent counts once it is acknowledged.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		sent, received := found()
		if sent && received {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the two ends were found: %v, %v", sent, received)
		}
	}
}

func TestMetric(t *testing.T) {
	text := "# HELP go_goroutines n\ngo_goroutines 12\ngo_goroutines_more 3\nx{a=\"b\"} 4\nheap 1.5e+06\n"
	for name, want := range map[string]float64{"go_goroutines": 12, "heap": 1.5e6, "missing": 0} {
		if got := metric(text, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
