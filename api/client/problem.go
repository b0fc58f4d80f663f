package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Problem is an error answer of the API (RFC 9457). Code is the rule's code,
// from the closed set of fsm/DESIGN.md and api/DESIGN.md; Path names the field
// that is wrong, when one is; Detail says what is wrong and what to do.
type Problem struct {
	Type       string            `json:"type,omitempty"`
	Title      string            `json:"title"`
	Status     int               `json:"status"`
	Code       string            `json:"code"`
	Path       string            `json:"path,omitempty"`
	Detail     string            `json:"detail"`
	Statements []StatementResult `json:"statements,omitempty" doc:"The verdict of each statement of a refused submission"`

	// RetryAfter is when to come back, from the Retry-After header; 0 is no answer.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Code)
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	fmt.Fprintf(&b, " (HTTP %d)", p.Status)
	return b.String()
}

// parseProblem makes a Problem of whatever an error answer holds: a problem
// document of ours, or something else from a proxy on the way.
func parseProblem(status int, h http.Header, body []byte) *Problem {
	p := &Problem{}
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if strings.TrimSpace(media) != "application/problem+json" || json.Unmarshal(body, p) != nil {
		p = &Problem{Detail: clip(strings.TrimSpace(string(body)))}
	}
	p.Status = status
	p.Detail, p.Code, p.Path, p.Title = clip(p.Detail), clip(p.Code), clip(p.Path), clip(p.Title)
	for i := range p.Statements {
		st := &p.Statements[i]
		st.ID, st.Type, st.Verdict = clip(st.ID), clip(st.Type), clip(st.Verdict)
		st.Path, st.Detail = clip(st.Path), clip(st.Detail)
	}
	if p.Code == "" {
		p.Code = "http_" + strconv.Itoa(status)
	}
	if p.Title == "" {
		p.Title = http.StatusText(status)
	}
	if seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16); err == nil {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// clip bounds and cleans text that a server chose, because it ends on
// terminals.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "") + "…"
	}
	return s
}

// retriable says whether another server, or this one later, may answer better.
// A 429 without a time to come back is a rule's limit: it stays.
func (p *Problem) retriable() bool {
	switch p.Status {
	case http.StatusTooManyRequests:
		return p.RetryAfter > 0
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInsufficientStorage:
		return true
	case http.StatusInternalServerError:
		return p.Code == "damaged"
	}
	return false
}
