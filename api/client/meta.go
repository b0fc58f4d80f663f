package client

import (
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The values of ?consistency=.
const (
	Certified    = "certified"    // the state at the newest certified seal; the default
	Stale        = "stale"        // what this replica has applied, perhaps behind and not yet certified
	Linearizable = "linearizable" // at least everything acknowledged before the request; perhaps not yet certified
)

// The headers of an answer to a read.
const (
	HeaderSize        = "Quorate-Size"        // entries that the answer reflects
	HeaderConsistency = "Quorate-Consistency" // what the answer is
	HeaderCertified   = "Quorate-Certified"   // true: a certified checkpoint covers it
	HeaderSigned      = "Quorate-Signed"      // milliseconds: when the certified head was last signed by its threshold
)

// Meta is what the headers of an answer say about it. A server says it; only
// Sync and the verified reads prove it.
type Meta struct {
	Size        uint64
	Consistency string
	Certified   bool
	Signed      uint64 // milliseconds
	ETag        string
	NotModified bool // the answer still has the ETag of Read.ETag; nothing else is filled in
}

func (m *Meta) readHeaders(h http.Header) {
	m.Size, _ = strconv.ParseUint(h.Get(HeaderSize), 10, 64)
	m.Consistency = h.Get(HeaderConsistency)
	m.Certified = h.Get(HeaderCertified) == "true"
	m.Signed, _ = strconv.ParseUint(h.Get(HeaderSigned), 10, 64)
	m.ETag = h.Get("ETag")
}

// setMeta is how a call hands the headers to the answer that embeds Meta.
func (m *Meta) setMeta(other Meta) { *m = other }

// Read says how to read. The zero value reads the certified state, at once.
type Read struct {
	Consistency string        // "" is Certified
	Index       uint64        // answer once the size exceeds Index (Meta.Size of the last answer), or after Wait
	Wait        time.Duration // with Index or ETag: at most this long
	ETag        string        // answer Meta.NotModified while the answer has this ETag
	Limit       int           // of a page; 0: the server's default
	Cursor      string        // Next of the page before
}

func (r Read) query() url.Values {
	q := url.Values{}
	if r.Consistency != "" {
		q.Set("consistency", r.Consistency)
	}
	if r.Wait > 0 {
		q.Set("wait", r.Wait.String())
		q.Set("index", strconv.FormatUint(r.Index, 10))
	}
	if r.Limit > 0 {
		q.Set("limit", strconv.Itoa(r.Limit))
	}
	if r.Cursor != "" {
		q.Set("cursor", r.Cursor)
	}
	return q
}
