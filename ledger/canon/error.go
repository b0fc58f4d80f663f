package canon

import (
	"strconv"
	"strings"
)

// The codes of Error: a closed set that is only ever appended to, because
// clients branch on it.
const (
	CodeNotCanonical   = "not_canonical"   // JSON, but not in the one canonical form
	CodeUnknownField   = "unknown_field"   // a key that the schema does not have
	CodeDuplicateField = "duplicate_field" // a key that stands twice in one object
	CodeMissingField   = "missing_field"   // a required key is absent
	CodeFloat          = "float"           // a number with fraction or exponent
	CodeNull           = "null"            // null, or a nil that may not be left out
	CodeNumberRange    = "number_range"    // negative, above 2^53-1, or too large for the field
	CodeBadString      = "bad_string"      // invalid UTF-8, raw control, lone surrogate, malformed escape
	CodeBadBase64      = "bad_base64"      // not unpadded base64url, or of the wrong length
	CodeWrongType      = "wrong_type"      // another kind of value than the schema has
	CodeTooDeep        = "too_deep"        // more than MaxDepth arrays and objects open
	CodeTrailingBytes  = "trailing_bytes"  // anything after the value
	CodeNotJSON        = "not_json"        // no JSON at all
)

// Error says what is wrong and where. Path names the value from the root, as
// in "body.add[2].name"; it is empty for the root itself. A key that is no
// plain word stands quoted, as in `body["a b"]`.
type Error struct {
	Code    string
	Path    string
	Message string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return "canonical JSON: " + e.Message + " (" + e.Code + ")"
	}
	return "canonical JSON: " + e.Path + ": " + e.Message + " (" + e.Code + ")"
}

func fail(code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// inKey and inIndex put the step that led to the error in front of its path.
// Paths are built while an error travels up, so that success pays nothing.
func (e *Error) inKey(key string) *Error {
	if !isWord(key) {
		if len(key) > maxPathKey {
			key = key[:maxPathKey] + "..."
		}
		return e.under("[" + strconv.QuoteToASCII(key) + "]")
	}
	return e.under(key)
}

func (e *Error) inIndex(i int) *Error {
	return e.under("[" + strconv.Itoa(i) + "]")
}

func (e *Error) under(step string) *Error {
	if e.Path != "" && !strings.HasPrefix(e.Path, "[") {
		step += "."
	}
	e.Path = step + e.Path
	return e
}

func isWord(key string) bool {
	if key == "" || len(key) > maxPathKey {
		return false
	}
	for i := 0; i < len(key); i++ {
		c := key[i]
		word := c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !word {
			return false
		}
	}
	return true
}
