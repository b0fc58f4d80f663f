package agent

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// What peers ask and answer on the mesh's sync stream, as canonical JSON. Every
// byte of an answer is verified by whoever asked; nothing in it is taken on
// the word of the peer.

// syncRequest asks for what is new, or for a page of the state.
type syncRequest struct {
	After string `json:"after,omitempty"` // of the state: the last key that came
	From  uint64 `json:"from"`            // the next entry wanted
	Links uint64 `json:"links"`           // how many links are known
	State uint64 `json:"state,omitempty"` // the size of the state whose next page is wanted
}

// syncResponse is what a peer has of it, as much as fits.
type syncResponse struct {
	Entries [][]byte   `json:"entries"` // from From on; none when they are no longer kept
	Head    []byte     `json:"head"`    // the newest note
	Links   [][]byte   `json:"links"`
	State   *statePage `json:"state,omitempty"` // instead of entries
}

// statePage is a page of the records at the seal that ends Head.
type statePage struct {
	More    bool         `json:"more,omitempty"`
	Proof   [][]byte     `json:"proof"` // inclusion proof of the seal
	Records []stateEntry `json:"records"`
	Seal    []byte       `json:"seal"` // entry
	Size    uint64       `json:"size"`
}

type stateEntry struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

func parseSyncRequest(b []byte) (*syncRequest, error) {
	if len(b) > maxSyncRequestBytes {
		return nil, errors.New("parse request: too large")
	}
	var r syncRequest
	if err := canon.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	if len(r.After) > ledger.MaxRecordKeyBytes {
		return nil, errors.New("parse request: the key is too long")
	}
	return &r, nil
}

func parseSyncResponse(b []byte) (*syncResponse, error) {
	if len(b) > maxSyncResponseBytes {
		return nil, errors.New("parse answer: too large")
	}
	var r syncResponse
	if err := canon.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("parse answer: %w", err)
	}
	if len(r.Head) > ledger.MaxCheckpointBytes || len(r.Entries) > keptEntries || len(r.Links) > maxLinksPage {
		return nil, errors.New("parse answer: more than was asked for")
	}
	return &r, nil
}
