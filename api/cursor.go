package api

import (
	"encoding/base64"
	"strings"
)

// A cursor is where a page ended: the list's name and the last key, in
// base64url. It holds no more than the page itself showed, so it needs no
// signature; a forged one only starts a page elsewhere.

const (
	cursorVersion  = "1"
	maxCursorBytes = 192
)

func encodeCursor(list, last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorVersion + " " + list + " " + last))
}

// parseCursor gives the last key; "" for the first page.
func parseCursor(list, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	refused := badParameter("query.cursor", "not a cursor of this list; begin again without one")
	if len(cursor) > maxCursorBytes {
		return "", refused
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return "", refused
	}
	parts := strings.SplitN(string(raw), " ", 3)
	if len(parts) != 3 || parts[0] != cursorVersion || parts[1] != list || parts[2] == "" {
		return "", refused
	}
	for i := range len(parts[2]) {
		if c := parts[2][i]; c <= ' ' || c >= 0x7f {
			return "", refused
		}
	}
	return parts[2], nil
}
