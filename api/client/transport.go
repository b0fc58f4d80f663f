package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// call is one request, the same to every server.
type call struct {
	method, path string // the path with its query
	contentType  string
	body         []byte
	etag         string
	timeout      time.Duration // of one try; 0: requestTimeout
	limit        int64         // bytes of the answer; 0: maxAnswerBytes
}

// answer is what a server gave, of a status below 400.
type answer struct {
	server string
	status int
	header http.Header
	body   []byte
}

// segment escapes s as one segment of a path.
func segment(s string) string { return url.PathEscape(s) }

// get reads path as r says, and decodes the answer.
func get[T any, P interface {
	*T
	setMeta(Meta)
}](ctx context.Context, c *Client, path string, r Read) (*T, error) {
	if q := r.query().Encode(); q != "" {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + q
	}
	timeout := time.Duration(0)
	if r.Wait > 0 {
		timeout = r.Wait + blockingMargin
	}
	var out T
	if err := c.call(ctx, call{method: http.MethodGet, path: path, etag: r.ETag, timeout: timeout}, P(&out)); err != nil {
		return nil, err
	}
	return &out, nil
}

// call makes the request at one server after another until one gives an
// answer that another could not better, and decodes it into out.
func (c *Client) call(ctx context.Context, k call, out any) error {
	return c.failOver(ctx, func(server string) error { return c.try(ctx, server, k, out) })
}

// fetch is call for answers that are no JSON.
func (c *Client) fetch(ctx context.Context, k call) (*answer, error) {
	var got *answer
	err := c.failOver(ctx, func(server string) (err error) {
		got, err = c.do(ctx, server, k)
		return err
	})
	return got, err
}

// failOver tries the servers in turn, first the one that answered last. After
// each round it waits, with jitter; a server that proves nothing, or nothing
// recent, gets no second round, nor one whose TLS key is unknown, unless it may be
// asked in that round for a proof of it. When all fail, the error is the one that
// says most. A try that outlasts ctx leaves the next call to the next server.
func (c *Client) failOver(ctx context.Context, try func(server string) error) error {
	first := int(c.preferred.Load())
	pause := retryFirst
	attempts := max(attemptsPerCall, len(c.servers))
	if c.options.learns() {
		attempts = max(attempts, 2*len(c.servers))
	}
	var worst error
	unknown := false // some server's TLS key is
	for i := range attempts {
		at := (first + i) % len(c.servers)
		err := try(c.servers[at])
		c.pins.works(c.servers[at], err == nil || final(err))
		if err == nil {
			c.preferred.Store(int64(at))
			return nil
		}
		if final(err) {
			return err
		}
		var pin *PinError
		unknown = unknown || errors.As(err, &pin)
		if worst == nil || weight(err) >= weight(worst) {
			worst = err
		}
		if ctx.Err() != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				c.preferred.CompareAndSwap(int64(first), int64((at+1)%len(c.servers)))
			}
			return worst
		}
		if (i+1)%len(c.servers) != 0 || i+1 == attempts {
			continue
		}
		var proof *ProofError
		var stale *StaleError
		vain := errors.As(worst, &proof) || errors.As(worst, &stale) || errors.As(worst, &pin)
		if vain && (i >= len(c.servers) || !unknown || !c.options.learns()) {
			return worst
		}
		wait := pause/2 + rand.N(pause)
		var problem *Problem
		if errors.As(err, &problem) {
			wait = max(wait, min(problem.RetryAfter, retryMost))
		}
		if sleep(ctx, wait) != nil {
			return worst
		}
		pause = min(2*pause, retryMost)
	}
	return worst
}

// weight orders errors by how much they say: what a server showed, before what
// it answered, before that it did not.
func weight(err error) int {
	var (
		rollback *RollbackError
		proof    *ProofError
		stale    *StaleError
		pin      *PinError
		problem  *Problem
	)
	switch {
	case errors.As(err, &rollback):
		return 3
	case errors.As(err, &proof), errors.As(err, &stale), errors.As(err, &pin):
		return 2
	case errors.As(err, &problem):
		return 1
	}
	return 0
}

// final says whether another try can't better an error.
func final(err error) bool {
	var (
		problem      *Problem
		equivocation *EquivocationError
		trust        *TrustError
		vain         *noLeaderError
	)
	return errors.As(err, &vain) || errors.As(err, &problem) && !problem.retriable() || errors.As(err, &equivocation) || errors.As(err, &trust)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// try makes the request at one server and decodes the answer.
func (c *Client) try(ctx context.Context, server string, k call, out any) error {
	got, err := c.do(ctx, server, k)
	if err != nil {
		return err
	}
	var meta Meta
	meta.readHeaders(got.header)
	meta.NotModified = got.status == http.StatusNotModified
	if !meta.NotModified {
		if err := json.Unmarshal(got.body, out); err != nil {
			return fmt.Errorf("read answer of %s%s: %w", server, k.path, err)
		}
	}
	if m, ok := out.(interface{ setMeta(Meta) }); ok {
		m.setMeta(meta)
	}
	return nil
}

// do makes the request at one server. An answer of status 400 or more is a
// *Problem.
func (c *Client) do(ctx context.Context, server string, k call) (*answer, error) {
	timeout := k.timeout
	if timeout == 0 {
		timeout = requestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := c.open(ctx, server, k)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	limit := k.limit
	if limit == 0 {
		limit = maxAnswerBytes
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s%s: %w", server, k.path, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("read answer of %s%s: more than %d bytes", server, k.path, limit)
	}
	return &answer{server: server, status: response.StatusCode, header: response.Header, body: body}, nil
}

// open makes the request and returns the answer with its body unread. The
// caller closes the body.
func (c *Client) open(ctx context.Context, server string, k call) (*http.Response, error) {
	response, err := c.reach(ctx, server, func() (*http.Request, error) {
		request, err := http.NewRequestWithContext(ctx, k.method, server+k.path, bytes.NewReader(k.body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("User-Agent", "quorate")
		if k.contentType != "" {
			request.Header.Set("Content-Type", k.contentType)
		}
		if k.etag != "" {
			request.Header.Set("If-None-Match", k.etag)
		}
		return request, nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	if response.StatusCode == http.StatusNotModified && k.etag != "" || response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblemBytes))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s%s: %w", server, k.path, err)
	}
	return nil, parseProblem(response.StatusCode, response.Header, body)
}
