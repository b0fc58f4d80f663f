package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// ErrNotFound says that something is proven not to exist.
var ErrNotFound = errors.New("proven not to exist")

// Record is a record of the state, or its absence, proven under a certified
// head that the client verified.
type Record struct {
	Key    string
	Value  []byte // canonical JSON; nil: there is no such record
	Head   Head
	Report ledger.ProofReport
}

// Record reads a record of the state and verifies its proof.
func (c *Client) Record(ctx context.Context, key string) (*Record, error) {
	file, head, report, err := c.proveState(ctx, key)
	if err != nil {
		return nil, err
	}
	return &Record{Key: key, Value: file.Proof.Value, Head: *head, Report: *report}, nil
}

// ProveState gives the proof file of a record or its absence, verified, which
// stands alone offline (FORMAT.md section 11).
func (c *Client) ProveState(ctx context.Context, key string) (*ledger.StateProofFile, error) {
	file, _, _, err := c.proveState(ctx, key)
	if err != nil {
		return nil, err
	}
	file.Authority, err = c.parsedLinks()
	return file, err
}

func (c *Client) proveState(ctx context.Context, key string) (file *ledger.StateProofFile, head *Head, report *ledger.ProofReport, err error) {
	if c.options.Genesis.IsZero() {
		return nil, nil, nil, ErrNoGenesis
	}
	c.syncing.Lock()
	defer c.syncing.Unlock()
	err = c.failOver(ctx, func(server string) error {
		var answer StateProof
		if err := c.try(ctx, server, call{method: http.MethodGet, path: "/v1/proofs/state?key=" + url.QueryEscape(key)}, &answer); err != nil {
			return err
		}
		var err error
		file, err = stateProofFile(&answer)
		if err != nil {
			return &ProofError{server, "record " + key, err}
		}
		if head, err = c.adopt(ctx, server, []byte(file.Checkpoint)); err != nil {
			return err
		}
		if report, err = file.VerifyUnder(c.trust.chain); err != nil {
			return &ProofError{server, "record " + key, err}
		}
		if report.Key != key {
			return &ProofError{server, "record " + key, fmt.Errorf("it is of record %q", clip(report.Key))}
		}
		return c.fresh(head)
	})
	return file, head, report, err
}

func stateProofFile(answer *StateProof) (*ledger.StateProofFile, error) {
	proof, err := ledger.ParseStateProof(answer.Proof)
	if err != nil {
		return nil, err
	}
	sealProof, err := parseHashes(answer.SealProof)
	if err != nil {
		return nil, err
	}
	return &ledger.StateProofFile{
		Checkpoint: answer.Checkpoint, Proof: *proof, Seal: answer.Seal, SealProof: sealProof,
	}, nil
}

func (c *Client) parsedLinks() ([]*ledger.Link, error) {
	var links []*ledger.Link
	for _, raw := range c.Links() {
		link, err := ledger.ParseLink(raw)
		if err != nil {
			return nil, err
		}
		links = append(links, link)
	}
	return links, nil
}

// verified is Record with its value decoded.
func verified[T any](ctx context.Context, c *Client, key string) (*T, *Head, error) {
	r, err := c.Record(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	if r.Value == nil {
		return nil, &r.Head, fmt.Errorf("record %s: %w", key, ErrNotFound)
	}
	var value T
	if err := canon.Unmarshal(r.Value, &value); err != nil {
		return nil, &r.Head, fmt.Errorf("read record %s: %w", key, err)
	}
	return &value, &r.Head, nil
}

// VerifiedNode reads a node and verifies its proof. A node that is proven not
// to exist is ErrNotFound.
func (c *Client) VerifiedNode(ctx context.Context, name string) (*fsm.NodeRecord, *Head, error) {
	return verified[fsm.NodeRecord](ctx, c, "node/"+name)
}

// VerifiedProposal reads a proposal, by its statement id in hex, and verifies
// its proof: what a governor signs should come from here.
func (c *Client) VerifiedProposal(ctx context.Context, id string) (*fsm.Proposal, *Head, error) {
	return verified[fsm.Proposal](ctx, c, "proposal/"+id)
}

// VerifiedPolicy reads the policy and verifies its proof.
func (c *Client) VerifiedPolicy(ctx context.Context) (*ledger.Policy, *Head, error) {
	return verified[ledger.Policy](ctx, c, "policy")
}

// VerifiedCouncil reads the council whole: it is part of the authority that
// certifies the newest head.
func (c *Client) VerifiedCouncil(ctx context.Context) ([]ledger.AuthorityMember, *Head, error) {
	authority, head, err := verified[ledger.Authority](ctx, c, "authority")
	if err != nil {
		return nil, head, err
	}
	return authority.Council, head, nil
}

// Entry reads an entry and verifies its inclusion under a head that the client
// verified. It fails with a *Problem of status 404 while no head covers it.
func (c *Client) Entry(ctx context.Context, seq uint64) (*Entry, error) {
	entry, _, err := c.proveEntry(ctx, seq)
	return entry, err
}

// ProveEntry gives the .tlog-proof of an entry, verified, which stands alone
// offline.
func (c *Client) ProveEntry(ctx context.Context, seq uint64) (*ledger.EntryProof, error) {
	entry, proof, err := c.proveEntry(ctx, seq)
	if err != nil {
		return nil, err
	}
	proof.Entry = entry.Entry
	proof.Authority, err = c.parsedLinks()
	return proof, err
}

func (c *Client) proveEntry(ctx context.Context, seq uint64) (*Entry, *ledger.EntryProof, error) {
	head, err := c.covering(ctx, seq)
	if err != nil {
		return nil, nil, err
	}
	var entry Entry
	var proof *ledger.EntryProof
	err = c.failOver(ctx, func(server string) error {
		entry = Entry{}
		path := fmt.Sprintf("/v1/entries/%d?size=%d&consistency=stale", seq, head.Size)
		if err := c.try(ctx, server, call{method: http.MethodGet, path: path}, &entry); err != nil {
			return lacking(server, head, err)
		}
		bad := func(err error) error { return &ProofError{server, "entry " + strconv.FormatUint(seq, 10), err} }
		if entry.Proof == nil {
			return bad(errors.New("it came without a proof"))
		}
		hashes, err := parseHashes(entry.Proof.Hashes)
		if err != nil {
			return bad(err)
		}
		if err := ledger.VerifyInclusion(hashes, seq, head.Size, ledger.LeafHash(entry.Entry), head.Root); err != nil {
			return bad(err)
		}
		decoded, err := DecodeEntry(entry.Entry)
		if err != nil {
			return bad(err)
		}
		if decoded.Seq != seq {
			return bad(fmt.Errorf("it is entry %d", decoded.Seq))
		}
		decoded.Meta, decoded.Proof = entry.Meta, entry.Proof
		entry = decoded
		proof = &ledger.EntryProof{Seq: seq, Proof: hashes, Checkpoint: head.Note}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return &entry, proof, nil
}

// covering gives a verified head that covers seq.
func (c *Client) covering(ctx context.Context, seq uint64) (*Head, error) {
	if c.options.Genesis.IsZero() {
		return nil, ErrNoGenesis
	}
	if head := c.Head(); head != nil && seq < head.Size {
		return head, nil
	}
	head, err := c.Sync(ctx)
	if err != nil {
		return nil, err
	}
	if seq >= head.Size {
		return nil, &Problem{Status: http.StatusNotFound, Code: "not_found", Title: "Not Found",
			Detail: fmt.Sprintf("entry %d is not covered by the newest certified head, which has %d entries", seq, head.Size)}
	}
	return head, nil
}

// lacking turns a 404 for what a verified head covers into what it is: the
// server is behind, and another one is not.
func lacking(server string, head *Head, err error) error {
	var problem *Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		return &RollbackError{Server: server, Kept: head.Size}
	}
	return err
}

// Entries reads up to limit entries from seq from on and verifies them under a
// head that the client verified: the last by its inclusion proof, the others
// by the hash chain. It gives fewer at the head's end or where a page is full.
func (c *Client) Entries(ctx context.Context, from uint64, limit int) ([]Entry, error) {
	head, err := c.covering(ctx, from)
	if err != nil {
		return nil, err
	}
	limit = min(max(limit, 1), MaxEntriesPage)
	if head.Size-from < uint64(limit) {
		limit = int(head.Size - from)
	}
	var entries []Entry
	err = c.failOver(ctx, func(server string) error {
		var page Entries
		path := fmt.Sprintf("/v1/entries?from=%d&limit=%d&consistency=stale", from, limit)
		if err := c.try(ctx, server, call{method: http.MethodGet, path: path}, &page); err != nil {
			return lacking(server, head, err)
		}
		if len(page.Entries) == 0 {
			return &RollbackError{Server: server, Kept: head.Size}
		}
		if entries, err = chained(page.Entries, from, limit); err != nil {
			return &ProofError{server, "entries from " + strconv.FormatUint(from, 10), err}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	last := entries[len(entries)-1]
	proven, err := c.Entry(ctx, last.Seq)
	if err != nil {
		return nil, err
	}
	if proven.Hash != last.Hash {
		return nil, &ProofError{c.servers[c.preferred.Load()], "entries from " + strconv.FormatUint(from, 10), errors.New("the last is not the one that is proven")}
	}
	return entries, nil
}

// chained decodes a page and checks that it is dense and hash-chained.
func chained(page []Entry, from uint64, limit int) ([]Entry, error) {
	if len(page) == 0 || len(page) > limit {
		return nil, fmt.Errorf("%d entries, want 1 to %d", len(page), limit)
	}
	out := make([]Entry, len(page))
	for i := range page {
		e, err := DecodeEntry(page[i].Entry)
		if err != nil {
			return nil, err
		}
		if e.Seq != from+uint64(i) {
			return nil, fmt.Errorf("entry %d where %d was wanted", e.Seq, from+uint64(i))
		}
		if i > 0 && e.Prev != out[i-1].Hash {
			return nil, fmt.Errorf("entry %d does not follow the one before", e.Seq)
		}
		out[i] = e
	}
	return out, nil
}

// page reads a page of entries, unverified, for filters.
func (c *Client) page(ctx context.Context, from uint64, kinds, types string, r Read) (*Entries, error) {
	q := url.Values{"from": {strconv.FormatUint(from, 10)}}
	if kinds != "" {
		q.Set("kinds", kinds)
	}
	if types != "" {
		q.Set("types", types)
	}
	return get[Entries](ctx, c, "/v1/entries?"+q.Encode(), r)
}

// ListEntries reads a page of entries of some kinds and types (comma-separated,
// "" for all), as a server says they are; Entries verifies.
func (c *Client) ListEntries(ctx context.Context, from uint64, kinds, types string, r Read) (*Entries, error) {
	return c.page(ctx, from, kinds, types, r)
}

// Genesis fetches entry 0 and checks it against the client's genesis hash. A
// client without one takes what the server says, which proves nothing.
func (c *Client) Genesis(ctx context.Context) (*ledger.Genesis, ledger.Hash, error) {
	answer, err := get[genesisAnswer](ctx, c, "/v1/genesis", Read{})
	if err != nil {
		return nil, ledger.Hash{}, err
	}
	genesis, hash, err := ledger.ParseGenesis(answer.Entry)
	if err != nil {
		return nil, hash, err
	}
	if !c.options.Genesis.IsZero() && hash != c.options.Genesis {
		return nil, hash, fmt.Errorf("the server's ledger is %s, not %s", hash, c.options.Genesis)
	}
	return genesis, hash, nil
}

type genesisAnswer struct {
	Meta `json:"-"`
	Genesis
}

// awaitCovered waits until a certified head that the client verified covers
// seq: the server that answers may be behind the one that took the submission.
func (c *Client) awaitCovered(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, certifyPatience)
	defer cancel()
	pause := retryFirst
	for {
		_, err := c.covering(ctx, seq)
		var problem *Problem
		var rollback *RollbackError
		var stale *StaleError
		behind := errors.As(err, &problem) && problem.Status == http.StatusNotFound || errors.As(err, &rollback) || errors.As(err, &stale)
		if err == nil || !behind {
			return err
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("committed, and not certified in time: %w", err)
		}
		pause = min(2*pause, retryMost)
	}
}

// confirm checks, when wait is WaitCertified, that every statement is included
// under a certified head that the client verified.
func (c *Client) confirm(ctx context.Context, envelopes [][]byte, wait Wait, answer *SubmitAnswer) error {
	if wait != WaitCertified || c.options.Genesis.IsZero() {
		return nil
	}
	if len(answer.Statements) != len(envelopes) {
		return fmt.Errorf("check submission: %d verdicts for %d statements", len(answer.Statements), len(envelopes))
	}
	want := make(map[uint64]string, len(envelopes)) // statement id by seq
	seqs := make([]uint64, 0, len(envelopes))
	for i, envelope := range envelopes {
		st, err := ledger.ParseStatement(envelope)
		if err != nil {
			return fmt.Errorf("check submission: %w", err)
		}
		seq, id := answer.Statements[i].Seq, st.ID.String()
		other, twice := want[seq]
		if twice && other != id {
			return fmt.Errorf("check submission: entry %d is said to be both statement %s and %s", seq, other, id)
		}
		if !twice {
			seqs = append(seqs, seq)
		}
		want[seq] = id
	}
	slices.Sort(seqs)
	for len(seqs) > 0 {
		first := seqs[0]
		run := 1
		for run < len(seqs) && run < MaxEntriesPage && seqs[run] < first+MaxEntriesPage {
			run++
		}
		if err := c.awaitCovered(ctx, seqs[run-1]); err != nil {
			return fmt.Errorf("check submission: %w", err)
		}
		entries, err := c.Entries(ctx, first, int(seqs[run-1]-first)+1)
		if err != nil {
			return fmt.Errorf("check submission: %w", err)
		}
		covered := entries[len(entries)-1].Seq
		for len(seqs) > 0 && seqs[0] <= covered {
			if got := entries[seqs[0]-first].ID; got != want[seqs[0]] {
				return fmt.Errorf("check submission: entry %d is not statement %s", seqs[0], want[seqs[0]])
			}
			seqs = seqs[1:]
		}
	}
	answer.Verified, answer.Level = true, string(WaitCertified)
	if head := c.Head(); head != nil {
		answer.Checkpoint = max(answer.Checkpoint, head.Size)
	}
	return nil
}
