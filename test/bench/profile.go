package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
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
	response, err := m.debug(ctx, fmt.Sprintf("profile?seconds=%d", seconds))
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

// heap is what the heap holds after a collection, in bytes: what a start left
// behind does not count.
func (m *member) heap(ctx context.Context) (uint64, error) {
	response, err := m.debug(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "# HeapInuse = "); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, errors.New("the profile of the heap does not say what is in use")
}

// debug asks the replica's pprof by its operator's socket.
func (m *member) debug(ctx context.Context, what string) (*http.Response, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(m.dir, "operator.sock"))
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://operator/debug/pprof/"+what, nil)
	if err != nil {
		return nil, err
	}
	return transport.RoundTrip(request)
}
