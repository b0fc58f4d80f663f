package replica

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A request that is given up leaves its dial behind, as net/http means it to;
// the replica's end does not.
func TestDialsEndWithTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDials()
		var ended error
		lost := func(ctx context.Context) (net.Conn, error) { // a SYN that is never answered
			<-ctx.Done()
			ended = ctx.Err()
			return nil, ended
		}
		client := &http.Client{Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.make(ctx, lost) },
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://peer/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the request ended with %v", err)
		}
		synctest.Wait()
		if ended != nil {
			t.Fatalf("the dial ended with its request: %v", ended)
		}
		d.close()
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("the dial ended with %v", ended)
		}
		if _, err := d.make(t.Context(), lost); !errors.Is(err, ErrStopped) {
			t.Errorf("a dial after the end: %v", err)
		}
	})
}
