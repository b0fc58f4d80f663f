package audit

import (
	"bufio"
	"fmt"
	"io"
)

// lineReader reads lines of bounded length.
type lineReader struct {
	scan *bufio.Scanner
	line int
}

func newLineReader(r io.Reader) *lineReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	return &lineReader{scan: s}
}

// next returns the next line without its end, or io.ErrUnexpectedEOF when
// there is none.
func (l *lineReader) next() ([]byte, error) {
	l.line++
	if l.scan.Scan() {
		return l.scan.Bytes(), nil
	}
	if err := l.scan.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", l.line, err)
	}
	return nil, io.ErrUnexpectedEOF
}
