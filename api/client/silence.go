package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A server that is slow and one that is gone look the same to whoever waits: a stopped
// process takes connections, cut lines refuse nothing. So a call that waits for long asks
// its server for a sign of life (/livez, which no queue holds up), and only one that gives
// none is left for the next (DESIGN.md, "A server that says nothing").

// silentError says that a server was left: for so long it gave no sign of life.
type silentError struct {
	server string
	after  time.Duration
}

func (e *silentError) Error() string {
	return fmt.Sprintf("ask %s: it says nothing, and gave no sign of life when it was asked for one, for %s", e.server, e.after.Round(time.Millisecond))
}

// pulse is what a client knows of a server's life.
type pulse struct {
	mu     sync.Mutex
	heard  time.Time     // when it last said anything to this client
	missed time.Time     // when it last gave no sign of life
	asking chan struct{} // nil unless it is asked for one now; closed at the end of that
}

// newPulses makes one for each server.
func newPulses(servers []string) map[string]*pulse {
	out := make(map[string]*pulse, len(servers))
	for _, server := range servers {
		out[server] = &pulse{}
	}
	return out
}

func (p *pulse) beats() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
}

// quietFor is how long nothing was heard, of a call that began then.
func (p *pulse) quietFor(began time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heard.After(began) {
		began = p.heard
	}
	return time.Since(began)
}

// patience is how long a server may be quiet before it is asked for a sign of life, and how
// long that may take.
type patience struct{ quiet, sign time.Duration }

// patienceOf grows from round to round, so that a machine on which everything is slow is
// not given up for ever.
func patienceOf(round int) patience {
	round = min(round, silenceRounds)
	return patience{quietLimit << (2 * round), signLimit << (2 * round)}
}

// vigil gives a context that ends with a *silentError once the server is silent, from
// began on; whoever calls it calls end. There is no goroutine before the server was quiet for long.
func (c *Client) vigil(ctx context.Context, server string, began time.Time, p patience) (watched context.Context, end func()) {
	watched, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	timer := time.AfterFunc(time.Until(began)+p.quiet, func() {
		defer close(ended)
		if c.awaitSilence(watched, server, began, p) {
			c.moveOn(server)
			cancel(&silentError{server, c.pulses[server].quietFor(began)})
		}
	})
	return watched, func() {
		cancel(nil)
		if !timer.Stop() {
			<-ended
		}
	}
}

// awaitSilence returns once the server is silent, or false when ctx ends.
func (c *Client) awaitSilence(ctx context.Context, server string, began time.Time, p patience) bool {
	pulse := c.pulses[server]
	for ctx.Err() == nil {
		if rest := p.quiet - pulse.quietFor(began); rest > 0 {
			if sleep(ctx, rest) != nil {
				return false
			}
			continue
		}
		if !c.lives(ctx, server, p.sign) {
			return ctx.Err() == nil
		}
	}
	return false
}

// lives asks a server for a sign of life, once for all calls that wait for it: whoever
// is under load gets one small request more, however many calls are slow.
func (c *Client) lives(ctx context.Context, server string, limit time.Duration) bool {
	p := c.pulses[server]
	began := time.Now()
	for ctx.Err() == nil {
		p.mu.Lock()
		heard, missed, asking := p.heard.After(began), p.missed.After(began), p.asking
		ours := !heard && !missed && asking == nil
		if ours {
			asking = make(chan struct{})
			p.asking = asking
		}
		p.mu.Unlock()
		switch {
		case heard:
			return true
		case missed:
			return false
		case !ours:
			select {
			case <-ctx.Done():
			case <-asking:
			}
			continue
		}
		lives := c.signOfLife(ctx, server, limit)
		p.mu.Lock()
		p.asking = nil
		switch now := time.Now(); {
		case lives:
			p.heard = now
		case ctx.Err() == nil: // else nobody knows
			p.missed = now
		}
		p.mu.Unlock()
		close(asking)
		return lives
	}
	return false
}

// signOfLife is any answer at all, be it an error's, and a TLS key that is not taken too.
func (c *Client) signOfLife(ctx context.Context, server string, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/livez", nil)
	if err != nil {
		return false
	}
	request.Header.Set("User-Agent", "quorate")
	response, err := c.http.Do(request)
	if err != nil {
		var unknown *PinError
		return errors.As(err, &unknown)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorText)) // so that its connection is of use again
	_ = response.Body.Close()
	return true
}

// moveOn has the next calls begin after a server that is silent.
func (c *Client) moveOn(server string) {
	at := slices.Index(c.servers, server)
	c.preferred.CompareAndSwap(int64(at), int64((at+1)%len(c.servers)))
}

// tryWatched tries a server, and leaves it once it is silent if there is another. sent is
// how many bytes go out, which take their time too.
func (c *Client) tryWatched(ctx context.Context, server string, sent, round int, try func(ctx context.Context, server string) error) error {
	if len(c.servers) == 1 {
		return try(ctx, server)
	}
	began := time.Now().Add(time.Duration(sent) * time.Second / slowestLine)
	watched, end := c.vigil(ctx, server, began, patienceOf(round))
	defer end()
	err := try(watched, server)
	var silent *silentError
	if (errors.Is(err, context.Canceled) || errors.As(err, &silent)) && errors.As(context.Cause(watched), &silent) {
		return silent
	}
	return err
}

// lively is the body of an answer: each piece of it is a sign of life, and its end.
type lively struct {
	io.ReadCloser
	pulse *pulse
}

func (l *lively) Read(b []byte) (int, error) {
	n, err := l.ReadCloser.Read(b)
	if n > 0 || errors.Is(err, io.EOF) {
		l.pulse.beats()
	}
	return n, err
}
