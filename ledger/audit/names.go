package audit

import (
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// The names that FORMAT.md section 12 gives to the files of an export. A name
// has one spelling, and whatever is named otherwise is refused: an auditor must
// not take away bytes that nobody verified in a folder that was.

const viewName = "entries.jsonl"

const vkeysName = "log.vkeys"

// limitOf is the largest size that the file at path may have, or 0 if no file
// of an export is named so.
func limitOf(path string) int64 {
	folder, name, nested := strings.Cut(path, "/")
	switch {
	case !nested:
		return limitOfTop(path)
	case folder == "authority":
		if number, ok := strings.CutSuffix(name, ".json"); ok && isNumber(number) {
			return ledger.MaxLinkBytes
		}
	case folder == "proofs":
		if _, kind, ok := parseProofName(path); ok && kind == proofStatement {
			return ledger.MaxEnvelopeBytes + maxReceipt
		} else if ok {
			return ledger.MaxProofFileBytes
		}
	case folder == "tile":
		level, _, _, err := archive.ParseTilePath(path)
		switch {
		case err != nil:
			return 0
		case level < 0:
			return maxBundleBytes
		case level < maxLevels:
			return maxTileBytes
		}
	}
	return 0
}

func limitOfTop(name string) int64 {
	switch name {
	case "checkpoint":
		return ledger.MaxCheckpointBytes
	case "log.vkey", "log-mldsa44.vkey":
		return maxVKeyBytes
	case "policy":
		return maxPolicyBytes
	case vkeysName:
		return maxVKeysBytes
	case "genesis.cbor":
		return ledger.MaxEntryBytes
	case viewName:
		return maxUnpackedBytes
	}
	return 0
}

// belongs says whether a file has its place in an export of size entries with
// this many authority links.
func belongs(path string, size uint64, links int) bool {
	if limitOf(path) == 0 {
		return false
	}
	folder, name, _ := strings.Cut(path, "/")
	switch folder {
	case "authority":
		n, err := strconv.ParseUint(strings.TrimSuffix(name, ".json"), 10, 53)
		return err == nil && n < uint64(links)
	case "proofs":
		seq, _, ok := parseProofName(path)
		return ok && seq < size
	case "tile":
		level, n, width, err := archive.ParseTilePath(path)
		count := size >> (8 * max(level, 0))
		return err == nil && (width == archive.TileWidth && n < count/archive.TileWidth ||
			width < archive.TileWidth && n == count/archive.TileWidth && uint64(width) == count%archive.TileWidth)
	}
	return true
}

// The kinds of files below proofs/.
const (
	proofEntry     = ".tlog-proof"
	proofStatement = ".cose"
)

func proofName(seq uint64, kind string) string {
	return "proofs/" + strconv.FormatUint(seq, 10) + kind
}

func parseProofName(path string) (seq uint64, kind string, ok bool) {
	name, ok := strings.CutPrefix(path, "proofs/")
	if !ok {
		return 0, "", false
	}
	for _, kind := range []string{proofEntry, proofStatement} {
		if number, found := strings.CutSuffix(name, kind); found && isNumber(number) {
			seq, err := strconv.ParseUint(number, 10, 53)
			return seq, kind, err == nil
		}
	}
	return 0, "", false
}

// isNumber says whether s is a decimal number as we write it.
func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 53)
	return err == nil && strconv.FormatUint(n, 10) == s
}
