package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// StateHead is the first line of /v1/state, which streams newline-delimited
// JSON: the certified head, and the seal that ends it. Each line after it is
// an array of a record's key and its value, sorted by key, the value in the
// very bytes that the seal's digest covers.
type StateHead struct {
	Size       uint64   `json:"size" doc:"Of the certified head: the seal's seq + 1"`
	Checkpoint string   `json:"checkpoint" doc:"The certified note"`
	Seal       Bytes    `json:"seal" doc:"The seal's entry"`
	SealProof  []string `json:"seal_proof" doc:"Its inclusion proof, hex"`
}

// CertifiedState is a whole state that the client verified: its records' digest
// is the one that a certified head's last entry seals.
type CertifiedState struct {
	State *fsm.State
	Head  Head
	Seal  []byte // the entry, with which fsm.Load makes the state again

	SealProof []ledger.Hash // its inclusion proof in Head
}

// State fetches the whole state at the newest certified head and verifies it.
// It is as large as the fleet: about 6 KB for each node.
func (c *Client) State(ctx context.Context) (*CertifiedState, error) {
	if c.options.Genesis.IsZero() {
		return nil, ErrNoGenesis
	}
	var out *CertifiedState
	err := c.failOver(ctx, func(server string) (err error) {
		out, err = c.stateOf(ctx, server)
		return err
	})
	return out, err
}

// stateOf takes a whole state from one server.
func (c *Client) stateOf(ctx context.Context, server string) (*CertifiedState, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	response, err := c.open(ctx, server, call{method: http.MethodGet, path: "/v1/state"})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	// A server that stops in the middle is left for another one.
	silence := time.AfterFunc(stateSilence, cancel)
	defer silence.Stop()
	lines := bufio.NewScanner(io.LimitReader(response.Body, maxStateBytes))
	lines.Buffer(nil, maxStateLine)
	bad := func(err error) error { return &ProofError{server, "the state", err} }
	if !lines.Scan() {
		return nil, fmt.Errorf("read state of %s: %w", server, orEOF(lines.Err()))
	}
	var first StateHead
	if err := json.Unmarshal(lines.Bytes(), &first); err != nil {
		return nil, bad(err)
	}
	head, seal, proof, err := c.adoptSeal(ctx, server, &first)
	if err != nil {
		return nil, err
	}
	records := &recordReader{lines: lines, alive: func() { silence.Reset(stateSilence) }}
	state, err := fsm.Load(records.all, seal)
	switch {
	case records.cut != nil:
		return nil, fmt.Errorf("read state of %s: %w", server, records.cut) // it proves nothing of the server
	case records.bad != nil:
		return nil, bad(records.bad)
	case err != nil:
		return nil, bad(err)
	}
	return &CertifiedState{State: state, Head: *head, Seal: first.Seal, SealProof: proof}, errors.Join(c.fresh(head), c.unkeptNow())
}

// adoptSeal makes the head of a state the client's own, and verifies that the
// seal is its last entry.
func (c *Client) adoptSeal(ctx context.Context, server string, first *StateHead) (*Head, *ledger.Entry, []ledger.Hash, error) {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	head, err := c.adopt(ctx, server, []byte(first.Checkpoint))
	if err != nil {
		return nil, nil, nil, err
	}
	bad := func(err error) (*Head, *ledger.Entry, []ledger.Hash, error) {
		return nil, nil, nil, &ProofError{server, "the state's seal", err}
	}
	if first.Size != head.Size || head.Size == 0 {
		return bad(fmt.Errorf("it is of size %d, the certified head of %d", first.Size, head.Size))
	}
	proof, err := parseHashes(first.SealProof)
	if err != nil {
		return bad(err)
	}
	if err := ledger.VerifyInclusion(proof, head.Size-1, head.Size, ledger.LeafHash(first.Seal), head.Root); err != nil {
		return bad(err)
	}
	seal, err := ledger.ParseEntry(first.Seal)
	if err != nil {
		return bad(err)
	}
	if seal.Seq != head.Size-1 {
		return bad(fmt.Errorf("it is entry %d", seal.Seq))
	}
	return head, seal, proof, nil
}

// recordReader reads the records of a state, one a line.
type recordReader struct {
	lines *bufio.Scanner
	alive func() // another line came
	cut   error  // the stream ended early
	bad   error  // a line is no record
}

func (r *recordReader) all(yield func(key string, value []byte) bool) {
	for r.lines.Scan() {
		r.alive()
		key, value, err := splitRecord(r.lines.Bytes())
		if err != nil {
			r.bad = err
			return
		}
		if !yield(key, value) {
			return
		}
	}
	r.cut = r.lines.Err()
	if errors.Is(r.cut, bufio.ErrTooLong) {
		r.bad, r.cut = r.cut, nil
	}
}

// splitRecord reads a line ["KEY",VALUE]. The value stays in its bytes: what is
// decoded and encoded again is not what was sealed.
func splitRecord(line []byte) (key string, value []byte, err error) {
	var pair []json.RawMessage
	if err := json.Unmarshal(line, &pair); err != nil {
		return "", nil, fmt.Errorf("read record: %w", err)
	}
	if len(pair) != 2 {
		return "", nil, fmt.Errorf("read record: %d parts, want a key and a value", len(pair))
	}
	if err := json.Unmarshal(pair[0], &key); err != nil {
		return "", nil, fmt.Errorf("read record: %w", err)
	}
	return key, bytes.Clone(pair[1]), nil
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
