package audit

import (
	"time"

	"github.com/quorate/quorate/ledger"
)

// Report is what Verify found. With Ok false, Bad names the first thing that
// is wrong, and the counts say how far verification got.
type Report struct {
	OK         bool           `json:"ok"`
	Bad        *Bad           `json:"bad,omitempty"`
	Genesis    ledger.Hash    `json:"-"`
	GenesisHex string         `json:"genesis"`
	Words      string         `json:"words"` // of the genesis hash, to compare aloud
	Origin     string         `json:"origin"`
	Size       uint64         `json:"size"` // complete to this many entries
	Root       string         `json:"root"`
	LastSigned time.Time      `json:"last_signed"` // the time that a threshold of replicas stated last
	Cosigners  int            `json:"cosigners"`
	Threshold  uint64         `json:"cosign_threshold"`
	Links      int            `json:"authority_links"`
	Entries    uint64         `json:"entries_verified"`
	Signatures uint64         `json:"signatures_verified"`
	Kinds      map[string]int `json:"kinds"`
	Statements map[string]int `json:"statements"` // by type
	Effects    map[string]int `json:"effects"`    // by type
	Digests    uint64         `json:"digests_derived"`
	View       bool           `json:"entries_jsonl_compared"`
	Seconds    float64        `json:"seconds"`
}

// Bad is the first thing that is wrong.
type Bad struct {
	Step   string  `json:"step"`
	File   string  `json:"file,omitempty"`
	Seq    *uint64 `json:"seq,omitempty"`
	Reason string  `json:"reason"`
}

func (e *BadError) report() *Bad {
	bad := &Bad{Step: e.Step, File: e.File, Reason: e.Reason.Error()}
	if e.HasSeq {
		bad.Seq = &e.Seq
	}
	return bad
}
