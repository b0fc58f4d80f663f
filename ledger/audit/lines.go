package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// lineReader reads lines of bounded length, many at a time, into memory of the
// caller's: a copy of each line would cost as much as comparing it.
type lineReader struct {
	from io.Reader
	rest []byte // read, and not given yet
	err  error  // what reading ended with
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{from: r} }

var errLongLine = fmt.Errorf("a line is longer than %d bytes", maxLineBytes)

// read puts the next count lines with their line feeds into buf, over what it
// held, and gives it back, larger if need be. At the end of the file it gives
// io.EOF and what there is, which may be part of a line.
func (l *lineReader) read(buf []byte, count int) ([]byte, error) {
	buf = append(buf[:0], l.rest...)
	l.rest = l.rest[:0]
	begin, seen := 0, 0 // of the line, and how far there is no line feed
	for {
		at := bytes.IndexByte(buf[seen:], '\n')
		switch {
		case at >= 0:
			seen += at + 1
			if seen-begin > maxLineBytes {
				return buf[:begin], errLongLine
			}
			begin = seen
			if count--; count == 0 {
				l.rest = append(l.rest, buf[seen:]...)
				return buf[:seen], nil
			}
			continue
		case len(buf)-begin > maxLineBytes:
			return buf[:begin], errLongLine
		case l.err != nil:
			return buf, l.err
		}
		seen = len(buf)
		buf = slices.Grow(buf, lineReadBytes)
		var n int
		n, l.err = l.from.Read(buf[len(buf) : len(buf)+lineReadBytes])
		buf = buf[:len(buf)+n]
	}
}

// ended says whether nothing follows.
func (l *lineReader) ended() bool {
	rest, err := l.read(nil, 1)
	l.rest = append(rest, l.rest...)
	return len(rest) == 0 && errors.Is(err, io.EOF)
}
