package client

import (
	"encoding/base64"
	"fmt"
)

// Bytes are bytes as unpadded base64url (RFC 4648 section 5) in JSON.
type Bytes []byte

// MarshalText gives the base64url of b.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads base64url, strictly: unused bits are zero.
func (b *Bytes) UnmarshalText(text []byte) error {
	out, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("decode base64url: %w", err)
	}
	*b = out
	return nil
}
