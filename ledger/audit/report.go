package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/ledger"
)

// Report is what Verify found. With OK false, Bad names the first thing that
// is wrong, and the counts say how far verification got. Its JSON is stable:
// fields are added, never renamed (DESIGN.md).
type Report struct {
	OK         bool           `json:"ok"`
	Bad        *Bad           `json:"bad,omitempty"`
	Genesis    ledger.Hash    `json:"-"`
	GenesisHex string         `json:"genesis"`
	Words      string         `json:"words"` // of the genesis hash, to compare aloud
	Origin     string         `json:"origin"`
	Size       uint64         `json:"size"` // complete to this many entries
	Root       string         `json:"root"`
	LastSigned time.Time      `json:"last_signed"`        // the time that a threshold of replicas stated last
	AtLeast    uint64         `json:"at_least,omitempty"` // size of the known checkpoint that the export extends
	Cosigners  int            `json:"cosigners"`
	Threshold  uint64         `json:"cosign_threshold"`
	Links      int            `json:"authority_links"`
	Entries    uint64         `json:"entries_verified"`
	Signatures uint64         `json:"signatures_verified"`
	Digests    uint64         `json:"digests_derived"`
	Proofs     uint64         `json:"proofs_verified"` // files below proofs/
	Kinds      map[string]int `json:"kinds"`
	Statements map[string]int `json:"statements"` // by type
	Effects    map[string]int `json:"effects"`    // by type
	Disputed   []DisputedKey  `json:"disputed,omitempty"`
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

// Text is the report for people: lines, the last with its line feed.
func (r *Report) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("ledger", "%s", r.GenesisHex)
	line("words", "%s", r.Words)
	if r.Size > 0 {
		line("origin", "%s", r.Origin)
		line("root", "%s", r.Root)
		line("certified", "by %d replicas (threshold %d) under authority %d", r.Cosigners, r.Threshold, r.Links-1)
	}
	line("verified", "%d of %d entries, %d signatures, %d state digests, %d proof files", r.Entries, r.Size, r.Signatures, r.Digests, r.Proofs)
	for _, counts := range []struct {
		name string
		of   map[string]int
	}{{"statements", r.Statements}, {"effects", r.Effects}} {
		if len(counts.of) > 0 {
			line(counts.name, "%s", countsText(counts.of))
		}
	}
	for _, d := range r.Disputed {
		line("disputed", "%s", d.text())
	}
	if r.AtLeast > 0 {
		line("extends", "the known checkpoint of size %d", r.AtLeast)
	}
	line("time", "%.1f s", r.Seconds)
	if r.OK {
		fmt.Fprintf(&b, "complete to size %d, last signed %s\n", r.Size, r.LastSigned.Format(time.RFC3339))
		return b.String()
	}
	if bad := r.Bad; bad != nil {
		fmt.Fprintf(&b, "BAD at step %s: %s", bad.Step, bad.File)
		if bad.Seq != nil {
			fmt.Fprintf(&b, ", entry %d", *bad.Seq)
		}
		fmt.Fprintf(&b, ": %s\n", bad.Reason)
	}
	return b.String()
}

func countsText(counts map[string]int) string {
	parts := make([]string, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
