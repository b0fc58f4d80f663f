package keys

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger/canon"
)

func TestSignerLinesAreBounded(t *testing.T) {
	long := strings.Repeat("a", MaxSignerLine)
	in := bufio.NewReaderSize(strings.NewReader("one\n\n"+long+"\n"+long+"b\n"+long+long+"\ntwo\nrest"), 16)
	for i, want := range []struct {
		line string
		err  error
	}{{"one", nil}, {"", nil}, {long, nil}, {"", ErrLongLine}, {"", ErrLongLine}, {"two", nil}, {"", io.ErrUnexpectedEOF}, {"", io.EOF}} {
		line, err := ReadSignerLine(in)
		if string(line) != want.line || !errors.Is(err, want.err) {
			t.Fatalf("line %d: %d bytes, %v, want %d, %v", i, len(line), err, len(want.line), want.err)
		}
	}
}

func FuzzParseSignerRequest(f *testing.F) {
	for _, r := range []SignerRequest{
		{ID: 1, Op: SignerHello, Protocol: SignerProtocol},
		{ID: 2, Op: SignerSign, Purpose: PurposeStatement, Message: []byte{1}, Show: []string{"x"}},
		{ID: 3, Op: SignerUnwrap, Stanzas: []Stanza{{Type: "x", Args: []string{"y"}, Body: []byte{1}}}},
	} {
		line, err := canon.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseSignerRequest(line)
		if err != nil {
			return
		}
		if again, err := canon.Marshal(r); err != nil || !bytes.Equal(again, line) {
			t.Errorf("%q comes out as %q, %v", line, again, err)
		}
	})
}

func FuzzParseSignerAnswer(f *testing.F) {
	f.Add([]byte(`{"id":1,"ok":{"signature":"AA"}}`))
	f.Add([]byte(`{"error":{"code":"declined","message":"no"},"id":2}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		a, err := ParseSignerAnswer(line)
		if err != nil {
			return
		}
		if again, err := canon.Marshal(a); err != nil || !bytes.Equal(again, line) {
			t.Errorf("%q comes out as %q, %v", line, again, err)
		}
	})
}
