package keys

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/quorate/quorate/ledger/canon"
)

// The protocol that external signers speak on their standard input and output:
// one canonical JSON object a line, one request at a time. deploy/signer.md is
// normative.

const (
	// SignerProtocol is what hello names.
	SignerProtocol = "quorate/signer.v1"

	// MaxSignerLine bounds a line, in bytes: a request to sign 32 KiB has 44 KiB.
	MaxSignerLine = 128 << 10

	// maxSignerError bounds an error's text, in bytes; maxSignerShow and
	// maxSignerStanzas the lists in a request.
	maxSignerError   = 400
	maxSignerShow    = 16
	maxSignerStanzas = 32
)

// The operations.
const (
	SignerHello  = "hello"
	SignerSign   = "sign"
	SignerUnwrap = "unwrap"
)

// The codes of a signer's error: a closed set.
const (
	SignerDeclined    = "declined"    // a person said no
	SignerLocked      = "locked"      // it wants a PIN or passphrase that is not there
	SignerUnknownOp   = "unknown_op"  // it cannot do that at all
	SignerBadRequest  = "bad_request" // it does not sign or read such a thing
	SignerForeign     = "foreign"     // no stanza is for its identity
	SignerUnavailable = "unavailable" // the card is out, the machine does not answer
)

// SignerRequest is a line to the signer.
type SignerRequest struct {
	ID       uint64   `json:"id"` // counts from 1
	Message  []byte   `json:"message,omitempty"`
	Op       string   `json:"op"`
	Protocol string   `json:"protocol,omitempty"`
	Purpose  string   `json:"purpose,omitempty"`
	Show     []string `json:"show,omitempty"`
	Stanzas  []Stanza `json:"stanzas,omitempty"`
}

// SignerAnswer is a line from it: ok or error.
type SignerAnswer struct {
	Error *SignerError `json:"error,omitempty"`
	ID    uint64       `json:"id"`
	OK    canon.Raw    `json:"ok,omitempty"`
}

// SignerError is why a signer did not do it.
type SignerError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// NewSignerError is an error of a code, with at most maxSignerError bytes of text.
func NewSignerError(code, message string) *SignerError {
	return &SignerError{Code: code, Message: message[:min(len(message), maxSignerError)]}
}

func (e *SignerError) Error() string { return fmt.Sprintf("%.40q: %.400q", e.Code, e.Message) }

// SignerOwner is who a signer signs for.
type SignerOwner struct {
	Name      string `json:"name"`
	Operator  string `json:"operator,omitempty"`
	Protocol  string `json:"protocol"`
	Public    []byte `json:"public"`
	Recipient string `json:"recipient,omitempty"`
	Role      string `json:"role"`
}

// SignerSignature is the answer to sign.
type SignerSignature struct {
	Signature []byte `json:"signature"`
}

// SignerFileKey is the answer to unwrap.
type SignerFileKey struct {
	FileKey []byte `json:"file_key"`
}

// ErrLongLine says that a line was longer than any may be.
var ErrLongLine = fmt.Errorf("the line is longer than %d bytes", MaxSignerLine)

// ReadSignerLine reads one line without its end. A longer one than any may be is
// read to its end and gives ErrLongLine.
func ReadSignerLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxSignerLine+1 {
			long, line = true, nil
		} else if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (long || len(line) > 0):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case long:
			return nil, ErrLongLine
		}
		return bytes.TrimSuffix(line, []byte("\n")), nil
	}
}

// ParseSignerRequest reads a line to a signer.
func ParseSignerRequest(line []byte) (*SignerRequest, error) {
	r := &SignerRequest{}
	if err := canon.Unmarshal(line, r); err != nil {
		return nil, err
	}
	switch {
	case len(r.Show) > maxSignerShow:
		return nil, fmt.Errorf("%d lines to show, at most %d", len(r.Show), maxSignerShow)
	case len(r.Stanzas) > maxSignerStanzas:
		return nil, fmt.Errorf("%d stanzas, at most %d", len(r.Stanzas), maxSignerStanzas)
	}
	return r, nil
}

// ParseSignerAnswer reads a line from a signer: ok or error, and not both.
func ParseSignerAnswer(line []byte) (*SignerAnswer, error) {
	a := &SignerAnswer{}
	if err := canon.Unmarshal(line, a); err != nil {
		return nil, err
	}
	if (a.Error == nil) == (a.OK == nil) {
		return nil, errors.New("want ok or error, and not both")
	}
	return a, nil
}
