package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// lineReader reads lines of bounded length.
type lineReader struct{ buf *bufio.Reader }

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{buf: bufio.NewReaderSize(r, maxLineBytes)}
}

var errLongLine = fmt.Errorf("a line is longer than %d bytes", maxLineBytes)

// appendLine appends the next line with its line feed to b. Without a whole
// line it gives io.EOF, and appends what there is.
func (l *lineReader) appendLine(b []byte) ([]byte, error) {
	line, err := l.buf.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return b, errLongLine
	}
	return append(b, line...), err
}

// ended says whether nothing follows.
func (l *lineReader) ended() bool {
	_, err := l.buf.Peek(1)
	return errors.Is(err, io.EOF)
}
