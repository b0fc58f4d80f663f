package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// profile reads a CPU profile of every replica, by its operator's socket, while
// a cell runs. What it returns waits for them.
func (b *bench) profile(ctx context.Context, t *target, clients int) func() {
	if b.profiles == "" {
		return func() {}
	}
	var wg sync.WaitGroup
	for _, m := range t.members {
		name := fmt.Sprintf("%s-%d-%s.pprof", strings.ReplaceAll(t.system, " ", "-"), clients, m.name)
		wg.Go(func() {
			if err := m.profile(ctx, filepath.Join(b.profiles, name), max(int(b.each.Seconds()), 1)); err != nil {
				b.note("profile %s: %v", m.name, err)
			}
		})
	}
	return wg.Wait
}

// profile writes a CPU profile of so many seconds to a file.
func (m *member) profile(ctx context.Context, path string, seconds int) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(m.dir, "operator.sock"))
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://operator/debug/pprof/profile?seconds=%d", seconds), nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, response.Body)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
