package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The little of C2SP signed-note that a checkpoint needs: a text, an empty
// line, and lines "— <name> base64(key id || signature)".

// Signature types of C2SP signed-note. ML-DSA-65 has none, so it takes 0xff,
// which a long identifier follows.
const (
	noteEd25519  = "\x01"
	noteMLDSA44  = "\x06"
	noteMLDSA65  = "\xff" + "quorate/cosignature/v1"
	notePrefix   = "— " // U+2014 and a space
	noteKeyIDLen = 4
)

// base64Std is strict: the unused bits of the last character are zero, so that
// no two texts mean the same bytes.
var base64Std = base64.StdEncoding.Strict()

// noteKeyID is H(name || 0x0A || type || public key)[:4].
func noteKeyID(name, typ string, public []byte) [noteKeyIDLen]byte {
	h := sha256.New()
	h.Write([]byte(name + "\n" + typ))
	h.Write(public)
	return [noteKeyIDLen]byte(h.Sum(nil))
}

// noteLine gives a signature line, without its line feed.
func noteLine(name string, id [noteKeyIDLen]byte, sig []byte) string {
	return notePrefix + name + " " + base64.StdEncoding.EncodeToString(append(id[:], sig...))
}

// noteVKey gives a verifier key: name+hex(key id)+base64(type || public key).
func noteVKey(name, typ string, public []byte) string {
	return fmt.Sprintf("%s+%x+%s", name, noteKeyID(name, typ, public),
		base64.StdEncoding.EncodeToString(append([]byte(typ), public...)))
}

// timedSignature is u64 time || sig, as C2SP tlog-cosignature has it.
func timedSignature(unixSeconds uint64, sig []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, unixSeconds), sig...)
}

// signatureLine is a parsed signature line of a note.
type signatureLine struct {
	text string // without the line feed
	name string
	id   [noteKeyIDLen]byte
	sig  []byte
}

// splitNote splits a note into its text, which ends in a line feed, and its
// signature lines.
func splitNote(note []byte) (text []byte, lines []signatureLine, err error) {
	if len(note) > MaxCheckpointBytes {
		return nil, nil, fmt.Errorf("%d bytes, at most %d", len(note), MaxCheckpointBytes)
	}
	at := bytes.Index(note, []byte("\n\n"))
	if at < 0 {
		return nil, nil, errors.New("no empty line between text and signatures")
	}
	text, rest := note[:at+1], string(note[at+2:])
	if rest == "" {
		return text, nil, nil
	}
	if !strings.HasSuffix(rest, "\n") {
		return nil, nil, errors.New("the last line has no line feed")
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(rest, "\n"), "\n") {
		if len(lines) == MaxNoteLines {
			return nil, nil, fmt.Errorf("more than %d signature lines", MaxNoteLines)
		}
		parsed, err := parseSignatureLine(line)
		if err != nil {
			return nil, nil, fmt.Errorf("signature line %d: %w", len(lines)+1, err)
		}
		lines = append(lines, parsed)
	}
	return text, lines, nil
}

func parseSignatureLine(line string) (signatureLine, error) {
	rest, ok := strings.CutPrefix(line, notePrefix)
	name, encoded, found := strings.Cut(rest, " ")
	if !ok || !found || !validNoteName(name) {
		return signatureLine{}, errors.New("want an em dash, a key name and base64")
	}
	raw, err := base64Std.DecodeString(encoded)
	if err != nil || len(raw) <= noteKeyIDLen || strings.ContainsAny(encoded, "\r\n") {
		return signatureLine{}, errors.New("want base64 of a key id and a signature")
	}
	return signatureLine{text: line, name: name, id: [noteKeyIDLen]byte(raw), sig: raw[noteKeyIDLen:]}, nil
}

func validNoteName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.Contains(name, "+") &&
		strings.IndexFunc(name, unicode.IsSpace) < 0
}
