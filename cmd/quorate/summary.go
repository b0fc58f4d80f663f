package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
)

// summary is what an offline machine needs to know of a ledger to write or
// read a proposal: written beside the proposal on the online machine. Nothing
// in it is proven; what it shows is shown as its writer's word.
type summary struct {
	Type       string            `json:"type"`
	Ledger     string            `json:"ledger"`
	Generation uint64            `json:"generation"`
	Size       uint64            `json:"size"`
	Signed     uint64            `json:"signed"` // milliseconds
	Action     string            `json:"action"`
	Args       json.RawMessage   `json:"args"`
	Base       map[string]uint64 `json:"base"`
	Rule       *ledger.Rule      `json:"rule,omitempty"`
	Council    []client.Governor `json:"council,omitempty"`
	Diff       *client.Diff      `json:"diff,omitempty"`
}

const (
	summaryType     = "quorate/summary.v1"
	summaryEnding   = ".summary.json"
	maxSummaryBytes = 16 << 20
)

// summaryPath is the summary beside a proposal's file.
func summaryPath(file string) string { return strings.TrimSuffix(file, ".cose") + summaryEnding }

func writeSummary(path string, s *summary) error {
	s.Type = summaryType
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return writeNew(path, append(data, '\n'), 0o644)
}

func readSummary(path string) (*summary, error) {
	data, err := readBounded(path, maxSummaryBytes)
	if err != nil {
		return nil, usage("quorate propose … --save-base FILE writes one on a machine that reaches a server", "read %s: %w", path, err)
	}
	var s summary
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || s.Type != summaryType {
		return nil, usage("quorate propose … --save-base FILE writes one", "%s is no summary of a ledger", path)
	}
	return &s, nil
}

// summaryBeside reads the summary beside a proposal's file, or the one that is
// named; nil when there is none.
func summaryBeside(file, named string) (*summary, error) {
	if named != "" {
		return readSummary(named)
	}
	path := summaryPath(file)
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	return readSummary(path)
}

// spot is where statements of the summary belong.
func (s *summary) spot() (spot, error) {
	hash, err := ledger.ParseHash(s.Ledger)
	if err != nil {
		return spot{}, usage("write it again with quorate propose … --save-base FILE", "the summary names no ledger: %w", err)
	}
	return spot{genesis: hash, generation: s.Generation}, nil
}
