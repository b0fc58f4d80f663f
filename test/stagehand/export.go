package stagehand

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/ledger"
)

// Exported is an entry where it stands in an exported folder.
type Exported struct {
	Raw   []byte
	Entry *ledger.Entry
	Path  string // of the bundle
	At    int    // where Raw begins in it
}

// Exports reads all entries of an exported folder, in their order. A hole is an error,
// and so are two entries of one seq, and a bundle with bytes that are no entry.
func Exports(folder string) ([]Exported, error) {
	found := map[uint64]Exported{}
	err := filepath.WalkDir(filepath.Join(folder, "tile", "entries"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for at := 0; at < len(content); {
			if at+2 > len(content) {
				return fmt.Errorf("%s: its end is not whole", path)
			}
			size := int(content[at])<<8 | int(content[at+1])
			if at += 2; at+size > len(content) {
				return fmt.Errorf("%s: its end is not whole", path)
			}
			raw := content[at : at+size]
			e, err := ledger.ParseEntry(raw)
			if err != nil {
				return fmt.Errorf("%s, byte %d: %w", path, at, err)
			}
			if other, twice := found[e.Seq]; twice && !bytes.Equal(other.Raw, raw) {
				return fmt.Errorf("%s and %s have two entries %d", other.Path, path, e.Seq)
			}
			found[e.Seq] = Exported{raw, e, path, at}
			at += size
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var list []Exported
	for _, seq := range slices.Sorted(maps.Keys(found)) {
		if seq != uint64(len(list)) {
			return nil, fmt.Errorf("the export has no entry %d", len(list))
		}
		list = append(list, found[seq])
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there are no entries in %s", folder)
	}
	return list, nil
}
