package archive

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// entriesLevel stands for "entries" where a path names a tile level.
const entriesLevel = -1

// TilePath is the C2SP tlog-tiles path of tile n of a level: "tile/0/x001/067", and for a width below
// 256 with the suffix of a partial tile: "tile/0/x001/067.p/12".
func TilePath(level int, n uint64, width int) string {
	return "tile/" + strconv.Itoa(level) + "/" + pathNumber(n, width)
}

// BundlePath is the C2SP tlog-tiles path of entry bundle n: "tile/entries/000".
func BundlePath(n uint64, width int) string {
	return "tile/entries/" + pathNumber(n, width)
}

// pathNumber writes n in groups of three digits, all but the last prefixed by x.
func pathNumber(n uint64, width int) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if width < TileWidth {
		s += ".p/" + strconv.Itoa(width)
	}
	return s
}

var errTilePath = errors.New("archive: not a tile path")

// ParseTilePath reads a path that TilePath or BundlePath wrote, and nothing else: each path has one
// spelling. The level is -1 for an entry bundle; the width is 256 for a full tile.
func ParseTilePath(path string) (level int, n uint64, width int, err error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return 0, 0, 0, errTilePath
	}
	name, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, 0, 0, errTilePath
	}
	if name == "entries" {
		level = entriesLevel
	} else if level, ok = smallNumber(name, maxTileLevel); !ok {
		return 0, 0, 0, errTilePath
	}
	width = TileWidth
	if number, partial, cut := strings.Cut(rest, ".p/"); cut {
		rest = number
		if width, ok = smallNumber(partial, TileWidth-1); !ok || width == 0 {
			return 0, 0, 0, errTilePath
		}
	}
	if n, ok = parsePathNumber(rest); !ok {
		return 0, 0, 0, errTilePath
	}
	return level, n, width, nil
}

// smallNumber reads a decimal number without leading zeros, of three digits at most.
func smallNumber(s string, most int) (int, bool) {
	if len(s) == 0 || len(s) > 3 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= most
}

func parsePathNumber(s string) (uint64, bool) {
	groups := strings.Split(s, "/")
	if len(groups) > 7 { // 2^64 has 20 digits
		return 0, false
	}
	var n uint64
	for i, g := range groups {
		last := i == len(groups)-1
		if !last {
			var ok bool
			if g, ok = strings.CutPrefix(g, "x"); !ok {
				return 0, false
			}
		}
		if len(g) != 3 || (i == 0 && !last && g == "000") {
			return 0, false
		}
		for _, c := range []byte(g) {
			if c < '0' || c > '9' {
				return 0, false
			}
			digit := uint64(c - '0')
			if n > (math.MaxUint64-digit)/10 {
				return 0, false
			}
			n = n*10 + digit
		}
	}
	return n, true
}
