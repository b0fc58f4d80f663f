package audit

import "io"

// aheadReader reads in a goroutine of its own, a few chunks ahead of whoever
// reads it, so that unzipping and writing files take two cores.
type aheadReader struct {
	full  chan chunk
	free  chan []byte
	quit  chan struct{}
	ended chan struct{}

	current chunk
	unread  []byte // of current
}

// chunk is some bytes, and what reading ended with after them.
type chunk struct {
	data []byte
	err  error
}

// readAhead starts reading r. The caller stops it.
func readAhead(r io.Reader) *aheadReader {
	a := &aheadReader{
		full: make(chan chunk, chunksAhead), free: make(chan []byte, chunksAhead),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	for range chunksAhead {
		a.free <- make([]byte, chunkBytes)
	}
	go func() {
		defer close(a.ended)
		a.fill(r)
	}()
	return a
}

func (a *aheadReader) fill(r io.Reader) {
	for {
		var c chunk
		select {
		case c.data = <-a.free:
		case <-a.quit:
			return
		}
		n := 0
		for n < len(c.data) && c.err == nil {
			var read int
			read, c.err = r.Read(c.data[n:])
			n += read
		}
		c.data = c.data[:n]
		a.full <- c // has room for every chunk
		if c.err != nil {
			return
		}
	}
}

// Read gives what r gave, its error last and from then on.
func (a *aheadReader) Read(b []byte) (int, error) {
	for len(a.unread) == 0 {
		if a.current.err != nil {
			return 0, a.current.err
		}
		if a.current.data != nil {
			a.free <- a.current.data[:chunkBytes]
		}
		a.current = <-a.full
		a.unread = a.current.data
	}
	n := copy(b, a.unread)
	a.unread = a.unread[n:]
	return n, nil
}

// stop ends the reading and waits for it. Nothing may be read any more.
func (a *aheadReader) stop() {
	close(a.quit)
	<-a.ended
}
