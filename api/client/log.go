package client

import (
	"encoding/json"
)

// Entry is one entry of the ledger. The other fields than Entry are derived
// from it for readers.
type Entry struct {
	Meta  `json:"-"`
	Seq   uint64          `json:"seq"`
	Stamp uint64          `json:"stamp"`
	Prev  string          `json:"prev" doc:"Leaf hash of the entry before, hex"`
	Hash  string          `json:"hash" doc:"Leaf hash, hex"`
	Kind  string          `json:"kind" enum:"genesis,statement,effect,seal"`
	Type  string          `json:"type,omitempty" doc:"Of the statement or effect"`
	ID    string          `json:"id,omitempty" doc:"Statement id, hex"`
	View  json.RawMessage `json:"view,omitempty" doc:"The decoded content"`
	Entry Bytes           `json:"entry" doc:"The entry's bytes (FORMAT.md section 5)"`
	Proof *InclusionProof `json:"proof,omitempty"`
}

// Entries is a page of /v1/entries, by seq.
type Entries struct {
	Meta    `json:"-"`
	Entries []Entry `json:"entries"`
	Next    *uint64 `json:"next,omitempty" doc:"from of the next page"`
}

// InclusionProof is the RFC 6962 inclusion proof of entry Seq in the tree of
// Size entries.
type InclusionProof struct {
	Meta   `json:"-"`
	Seq    uint64   `json:"seq"`
	Size   uint64   `json:"size"`
	Root   string   `json:"root" doc:"Hex"`
	Hashes []string `json:"hashes" doc:"From leaf to root, hex"`
}

// ConsistencyProof is the RFC 6962 proof that the tree of From entries is a
// prefix of that of To entries.
type ConsistencyProof struct {
	Meta     `json:"-"`
	From     uint64   `json:"from"`
	To       uint64   `json:"to"`
	FromRoot string   `json:"from_root" doc:"Hex"`
	ToRoot   string   `json:"to_root" doc:"Hex"`
	Hashes   []string `json:"hashes" doc:"Hex"`
}

// StateProof proves one record, or its absence, against the newest certified
// seal (FORMAT.md section 8).
type StateProof struct {
	Meta       `json:"-"`
	Key        string          `json:"key"`
	Checkpoint string          `json:"checkpoint" doc:"The certified note"`
	Seal       Bytes           `json:"seal" doc:"The seal's entry, the last below the checkpoint's size"`
	SealProof  []string        `json:"seal_proof" doc:"Its inclusion proof, hex"`
	Proof      json.RawMessage `json:"proof" doc:"FORMAT.md section 8, with value when the record exists"`
}

// Genesis is the answer of /v1/genesis.
type Genesis struct {
	Ledger string          `json:"ledger" doc:"Genesis hash, hex"`
	Words  string          `json:"words"`
	Entry  Bytes           `json:"entry" doc:"Entry 0"`
	View   json.RawMessage `json:"view"`
}

// WatchHead is the data of a watch's head event: the watcher has seen every
// entry below Size.
type WatchHead struct {
	Size      uint64 `json:"size"`
	Certified bool   `json:"certified"`
	Signed    uint64 `json:"signed" doc:"Milliseconds"`
}
