package client

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzProblem: whatever an error answer holds, the problem has a code, its
// texts are bounded, and nothing in them moves a terminal's cursor.
func FuzzProblem(f *testing.F) {
	f.Add(409, "application/problem+json", "", []byte(`{"type":"about:blank","title":"Conflict","status":409,"code":"nonce_used","path":"nonce","detail":"x"}`))
	f.Add(503, "application/problem+json; charset=utf-8", "7", []byte(`{"code":"no_leader"}`))
	f.Add(502, "text/html", "-1", []byte("<html>bad gateway\x1b[2J</html>"))
	f.Add(500, "application/problem+json", "99999999999999999999", []byte(`{"code":3}`))
	f.Add(400, "", "soon", []byte{0xff, 0xfe})
	f.Fuzz(func(t *testing.T, status int, media, retry string, body []byte) {
		h := http.Header{"Content-Type": {media}, "Retry-After": {retry}}
		p := parseProblem(status, h, body)
		if p.Status != status || p.Code == "" {
			t.Errorf("status %d, code %q", p.Status, p.Code)
		}
		for _, text := range []string{p.Code, p.Path, p.Detail, p.Title} {
			if len(text) > maxErrorText+8 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\x00\r\u009b") {
				t.Errorf("text %q", text)
			}
		}
		if p.RetryAfter < 0 {
			t.Errorf("come back after %s", p.RetryAfter)
		}
		_, _ = p.Error(), p.retriable()
	})
}

// FuzzEvents: any stream gives events within their bound and then ends, and
// what an event says was in the stream.
func FuzzEvents(f *testing.F) {
	f.Add("id: 3\nevent: entry\ndata: {\"seq\":2}\n\n: heartbeat\n\nid: 4\nevent: head\ndata: {}\n\n")
	f.Add("data: a\ndata: b\r\n\r\n")
	f.Add(":\n")
	f.Add("id\nevent\ndata\n\n")
	f.Add("data: not whole")
	f.Add("\n\n\n\xff: x\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		r := newEventReader(strings.NewReader(stream))
		for n := 0; ; n++ {
			event, err := r.next()
			if err != nil {
				return
			}
			if n > len(stream) {
				t.Fatal("more events than bytes")
			}
			for _, part := range append(strings.Split(event.data, "\n"), event.id, event.kind) {
				if !strings.Contains(stream, part) {
					t.Errorf("%q is not of the stream", part)
				}
			}
			w := &watcher{fn: func(e *Entry) error { return nil }}
			_ = w.take(t.Context(), event)
		}
	})
}

// FuzzBytes: base64url has one form.
func FuzzBytes(f *testing.F) {
	f.Add("")
	f.Add("AQID")
	f.Add("AR")
	f.Add("AQ==")
	f.Add("-_-_")
	f.Fuzz(func(t *testing.T, text string) {
		var b Bytes
		if b.UnmarshalText([]byte(text)) != nil {
			return
		}
		again, err := b.MarshalText()
		if err != nil || strings.NewReplacer("\n", "", "\r", "").Replace(text) != string(again) {
			t.Errorf("%q, decoded and encoded: %q, %v", text, again, err)
		}
	})
}
