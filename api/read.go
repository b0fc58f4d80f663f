package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// ReadInput is what every read takes. It is exported, like PageInput and
// SubmitInput, only because huma looks into embedded structs of exported type.
type ReadInput struct {
	Consistency string `query:"consistency" enum:"certified,stale,linearizable" default:"certified" doc:"certified: the state at the newest certified head; stale: what this replica has applied; linearizable: at least all that was acknowledged before"`
	Index       uint64 `query:"index" doc:"With wait: answer once the size exceeds this (Quorate-Size of the answer before)"`
	Wait        string `query:"wait" maxLength:"16" doc:"How long to wait for that, such as 30s; with If-None-Match also for another answer"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"256"`
}

func (in *ReadInput) reading() *ReadInput { return in }

// PageInput is what every list takes.
type PageInput struct {
	ReadInput
	Limit  int    `query:"limit" minimum:"1" doc:"Items of a page, within the server's bound"`
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
}

// readOutput is the answer to a read. The body is encoded by build, because
// the ETag is its hash.
type readOutput struct {
	Status       int
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	ETag         string `header:"ETag" doc:"Of the body"`
	Size         string `header:"Quorate-Size" doc:"Entries that the answer reflects"`
	Consistency  string `header:"Quorate-Consistency"`
	Certified    string `header:"Quorate-Certified" doc:"true: a certified checkpoint covers the answer"`
	Signed       string `header:"Quorate-Signed" doc:"When the newest certified head was last signed by its threshold, milliseconds"`
	Body         []byte
}

// registerRead registers GET path, whose answer is the T that build makes of
// a view.
func registerRead[T any, I any, P interface {
	*I
	reading() *ReadInput
}](s *Server, h huma.API, id, path, summary string, build func(ctx context.Context, v *View, in P) (T, error)) {
	op := huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"read"},
		Responses: map[string]*huma.Response{"200": {
			Description: "OK",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schemaOf[T](h)}},
		}, "304": {Description: "Not Modified"}},
		Errors: []int{404, 429, 503},
	}
	huma.Register(h, op, func(ctx context.Context, in *I) (*readOutput, error) {
		out, err := s.read(ctx, P(in).reading(), func(v *View) (any, error) { return build(ctx, v, P(in)) })
		if err != nil {
			return nil, s.fail(path, err)
		}
		return out, nil
	})
}

func schemaOf[T any](h huma.API) *huma.Schema {
	t := reflect.TypeFor[T]()
	return h.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

// read answers from a view, at once or once there is something new.
func (s *Server) read(ctx context.Context, in *ReadInput, build func(*View) (any, error)) (*readOutput, error) {
	patience, err := s.patience(in.Wait)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for waiting := patience > 0; ; {
		changed := s.backend.Changed() // before the view, so that no change is missed
		v, err := s.view(ctx, in.Consistency)
		if err != nil {
			return nil, err
		}
		if !waiting || v.Size > in.Index {
			out, err := answerOf(v, in, build)
			if err != nil || out.Status != http.StatusNotModified || !waiting {
				return out, err
			}
		}
		select {
		case <-changed:
		case <-timer.C:
			waiting = false
		case <-stoppingOf(ctx):
			waiting = false
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// view bounds how long a state is waited for: a certified one after a start, a
// linearizable one without a leader.
func (s *Server) view(ctx context.Context, consistency string) (*View, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.ViewTimeout)
	defer cancel()
	return s.backend.View(ctx, consistency)
}

// patience reads ?wait=, which is capped rather than refused when it is long.
func (s *Server) patience(wait string) (time.Duration, error) {
	if wait == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(wait)
	if err != nil || d < 0 {
		return 0, badParameter("query.wait", "want a duration such as 30s, at most %s", s.limits.Wait)
	}
	return min(d, s.limits.Wait), nil
}

func answerOf(v *View, in *ReadInput, build func(*View) (any, error)) (*readOutput, error) {
	value, err := build(v)
	if err != nil {
		return nil, err
	}
	body, err := encodeJSON(value)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	sum := sha256.Sum256(body)
	out := &readOutput{
		Status: http.StatusOK, ContentType: "application/json", CacheControl: "no-cache",
		ETag:        `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`,
		Size:        strconv.FormatUint(v.Size, 10),
		Consistency: in.Consistency,
		Certified:   strconv.FormatBool(v.Certified),
		Signed:      strconv.FormatUint(v.Signed, 10),
	}
	if matches(in.IfNoneMatch, out.ETag) {
		out.Status = http.StatusNotModified
		return out, nil
	}
	out.Body = body
	return out, nil
}

// matches is the weak comparison of RFC 9110 section 13.1.2.
func matches(ifNoneMatch, etag string) bool {
	for tag := range strings.SplitSeq(ifNoneMatch, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

// page gives how many items a page has.
func (s *Server) page(limit int) int {
	if limit == 0 {
		limit = s.limits.PageDefault
	}
	return min(limit, s.limits.Page)
}

// encodeJSON keeps the bytes of canonical JSON within an answer as they are:
// without it, encoding/json escapes <, > and & in them.
func encodeJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
