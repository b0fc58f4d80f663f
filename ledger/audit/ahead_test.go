package audit

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// What is read ahead is what was there, whole, with its error at the end.
func TestReadAhead(t *testing.T) {
	data := make([]byte, 3*chunkBytes+17)
	for i := range data {
		data[i] = byte(i ^ i>>9)
	}
	broken := errors.New("the disk is broken")
	for _, c := range []struct {
		name string
		from io.Reader
		want error
	}{
		{"whole", bytes.NewReader(data), nil},
		{"in halves", iotest.HalfReader(bytes.NewReader(data)), nil},
		{"with the error beside the last bytes", iotest.DataErrReader(bytes.NewReader(data)), nil},
		{"cut", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		{"broken", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), broken},
	} {
		a := readAhead(c.from)
		got, err := io.ReadAll(a)
		if !bytes.Equal(got, data) || !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes and %v, want %d and %v", c.name, len(got), err, len(data), c.want)
		}
		if n, again := a.Read(make([]byte, 1)); n != 0 || again == nil {
			t.Errorf("%s: after its end it gives %d bytes and %v", c.name, n, again)
		}
		a.stop()
	}
	// Stopped in the midst of an endless file, it ends.
	a := readAhead(endless{})
	if _, err := io.ReadFull(a, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	a.stop()
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
