package gossip

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// The frames by which nodes carry the ledger to each other, for those that reach
// no replica. A frame proves itself to whoever holds the authority chain, so it
// needs no signature of whoever relays it.

// frameVersion is the first item of each.
const frameVersion = 1

// Entries is a run of entries and the certified head that proves them. The head's
// own cosignatures are in Note (FORMAT.md section 9).
//
//	[1, note, [entry, ...], [hash, ...]]
type Entries struct {
	Note    []byte
	Entries [][]byte      // consecutive
	Proof   []ledger.Hash // RFC 6962 inclusion of the last entry under the note's head
}

// Encode gives the frame's bytes.
func (f *Entries) Encode() ([]byte, error) {
	b := appendHead(nil, majorArray, 4)
	b = appendHead(b, majorUint, frameVersion)
	b = f.append(b)
	return bounded(b)
}

func (f *Entries) append(b []byte) []byte {
	b = appendBytes(b, f.Note)
	b = appendList(b, f.Entries)
	return appendHashes(b, f.Proof)
}

func appendHashes(b []byte, hashes []ledger.Hash) []byte {
	b = appendHead(b, majorArray, uint64(len(hashes)))
	for _, h := range hashes {
		b = appendBytes(b, h[:])
	}
	return b
}

func bounded(b []byte) ([]byte, error) {
	if len(b) > MaxFrameBytes {
		return nil, fmt.Errorf("encode frame: %d bytes, at most %d", len(b), MaxFrameBytes)
	}
	return b, nil
}

// ParseEntries reads what Encode gives, and nothing else. What it returns is part
// of b.
func ParseEntries(b []byte) (*Entries, error) {
	r, err := openFrame(b, 4)
	if err != nil {
		return nil, fmt.Errorf("parse entries: %w", err)
	}
	f := readEntries(r)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("parse entries: %w", err)
	}
	return &f, nil
}

func openFrame(b []byte, items uint64) (*cborReader, error) {
	if len(b) > MaxFrameBytes {
		return nil, errBound
	}
	r := &cborReader{rest: b}
	if n := r.head(majorArray, items); r.err == nil && n != items {
		r.fail(errType)
	}
	if v := r.head(majorUint, frameVersion); r.err == nil && v != frameVersion {
		r.fail(errors.New("another version than 1"))
	}
	return r, r.err
}

func readEntries(r *cborReader) Entries {
	return Entries{
		Note:    r.bytes(MaxNoteBytes),
		Entries: r.list(MaxFrameEntries, ledger.MaxEntryBytes),
		Proof:   readHashes(r, ledger.MaxInclusionHashes),
	}
}

func readHashes(r *cborReader, limit uint64) []ledger.Hash {
	var hashes []ledger.Hash
	for _, h := range r.list(limit, 32) {
		if len(h) != 32 {
			r.fail(errType)
			return nil
		}
		hashes = append(hashes, ledger.Hash(h))
	}
	return hashes
}

// ErrFrame says that a frame does not prove what it brings.
var ErrFrame = errors.New("the frame does not hold")

// Check checks that the entries are one run of the history that head, which the
// caller has certified, commits to, and gives the seq of the first. The error
// wraps ErrFrame.
func (f *Entries) Check(head ledger.Head) (first uint64, err error) {
	refuse := func(format string, args ...any) (uint64, error) {
		return 0, fmt.Errorf("check entries: "+format+": %w", append(args, ErrFrame)...)
	}
	if len(f.Entries) == 0 {
		return refuse("none")
	}
	var next *ledger.Entry
	for i := len(f.Entries) - 1; i >= 0; i-- {
		e, err := ledger.ParseEntry(f.Entries[i])
		if err != nil {
			return refuse("entry %d of the run: %s", i, err)
		}
		leaf := ledger.LeafHash(f.Entries[i])
		switch {
		case next == nil:
			if err := ledger.VerifyInclusion(f.Proof, e.Seq, head.Size, leaf, head.Root); err != nil {
				return refuse("%s", err)
			}
		case e.Seq+1 != next.Seq || next.Prev != leaf:
			return refuse("entry %d does not follow entry %d", next.Seq, e.Seq)
		}
		next = e
	}
	return next.Seq, nil
}

// Ask is what a request asks for.
type Ask uint64

const (
	AskHead        Ask = iota // the newest certified head
	AskLinks                  // authority links from index From on
	AskEntries                // entries from seq From on, at most Count
	AskConsistency            // the proof from size From to the head of size Count
	AskOwn                    // the asker's newest statements that the peer has seen: by which a node that was restored learns what it has signed
	asks
)

// Request is what one peer asks another.
//
//	[1, ask, from, count, key]
type Request struct {
	Ask         Ask
	From, Count uint64
	Key         ledger.Hash // of AskOwn: the asker's key id; else zero
}

// Encode gives the request's bytes.
func (q *Request) Encode() []byte {
	b := appendHead(nil, majorArray, 5)
	b = appendHead(b, majorUint, frameVersion)
	b = appendHead(b, majorUint, uint64(q.Ask))
	b = appendHead(b, majorUint, q.From)
	b = appendHead(b, majorUint, q.Count)
	return appendBytes(b, q.Key[:])
}

// MaxRequestBytes is the longest request.
const MaxRequestBytes = 1 + 1 + 1 + 9 + 9 + 34

// ParseRequest reads what Encode gives, and nothing else.
func ParseRequest(b []byte) (*Request, error) {
	r, err := openFrame(b, 5)
	if err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	q := &Request{Ask: Ask(r.head(majorUint, uint64(asks)-1)), From: r.head(majorUint, canon.MaxInt), Count: r.head(majorUint, canon.MaxInt)}
	key := r.bytes(32)
	if r.err == nil && len(key) != 32 {
		r.fail(errType)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	q.Key = ledger.Hash(key)
	if (q.Ask == AskOwn) == q.Key.IsZero() {
		return nil, errors.New("parse request: a key belongs to a request for one's own statements")
	}
	return q, nil
}

// Answer is what the other gives: of what was asked, as much as fits a frame. An
// empty one says that it has none.
//
//	[1, ask, note, [entry, ...], [hash, ...], [link, ...], [statement, ...]]
type Answer struct {
	Ask Ask
	Entries
	Links      [][]byte // canonical JSON of ledger.Link
	Statements [][]byte
}

// Encode gives the answer's bytes.
func (a *Answer) Encode() ([]byte, error) {
	b := appendHead(nil, majorArray, 7)
	b = appendHead(b, majorUint, frameVersion)
	b = appendHead(b, majorUint, uint64(a.Ask))
	b = a.Entries.append(b)
	b = appendList(b, a.Links)
	b = appendList(b, a.Statements)
	return bounded(b)
}

// ParseAnswer reads what Encode gives, and nothing else. What it returns is part
// of b.
func ParseAnswer(b []byte) (*Answer, error) {
	r, err := openFrame(b, 7)
	if err != nil {
		return nil, fmt.Errorf("parse answer: %w", err)
	}
	a := &Answer{Ask: Ask(r.head(majorUint, uint64(asks)-1))}
	a.Entries = Entries{
		Note:    r.bytes(MaxNoteBytes),
		Entries: r.list(MaxFrameEntries, ledger.MaxEntryBytes),
		Proof:   readHashes(r, 2*ledger.MaxInclusionHashes),
	}
	a.Links = r.list(MaxFrameLinks, MaxFrameBytes)
	a.Statements = r.list(MaxFrameStatements, MaxStatementBytes)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("parse answer: %w", err)
	}
	return a, nil
}

// Fill adds entries to a frame that is to stay below the bound, and gives how
// many went in. around is what the frame has besides.
func (f *Entries) Fill(entries [][]byte, around int) int {
	size, added := around+len(f.Note)+(2*ledger.MaxInclusionHashes)*34+64, 0
	for _, e := range f.Entries {
		size += len(e) + 9
	}
	for _, e := range entries {
		size += len(e) + 9
		if size > MaxFrameBytes || len(f.Entries) == MaxFrameEntries {
			break
		}
		f.Entries = append(f.Entries, e)
		added++
	}
	return added
}
