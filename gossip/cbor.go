package gossip

import "errors"

// Frames are arrays of the few shapes of deterministic CBOR (RFC 8949 section
// 4.2.1) that entries use too: unsigned integers, byte strings and arrays, of
// definite and shortest lengths.

var (
	errShort    = errors.New("it ends early")
	errType     = errors.New("an item of another type than expected")
	errShortest = errors.New("a length or integer not in its shortest form")
	errTrailing = errors.New("bytes after it")
	errBound    = errors.New("an item beyond its bound")
)

const (
	majorUint  = 0
	majorBytes = 2
	majorArray = 4
)

func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n < 1<<8:
		return append(b, m|24, byte(n))
	case n < 1<<16:
		return append(b, m|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(b, m|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, m|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendBytes(b, s []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(s))), s...)
}

func appendList[T ~[]byte](b []byte, list []T) []byte {
	b = appendHead(b, majorArray, uint64(len(list)))
	for _, s := range list {
		b = appendBytes(b, s)
	}
	return b
}

// cborReader reads items in order and keeps the first error.
type cborReader struct {
	rest []byte
	err  error
}

func (r *cborReader) fail(err error) uint64 {
	if r.err == nil {
		r.err = err
	}
	return 0
}

// head reads a head of a type, of at most limit.
func (r *cborReader) head(major byte, limit uint64) uint64 {
	switch {
	case r.err != nil:
		return 0
	case len(r.rest) == 0:
		return r.fail(errShort)
	case r.rest[0]>>5 != major || r.rest[0]&31 > 27:
		return r.fail(errType)
	}
	n, width := uint64(r.rest[0]&31), 0
	if n >= 24 {
		width = 1 << (n - 24)
		if len(r.rest) < 1+width {
			return r.fail(errShort)
		}
		least := [4]uint64{24, 1 << 8, 1 << 16, 1 << 32}[n-24]
		n = 0
		for _, c := range r.rest[1 : 1+width] {
			n = n<<8 | uint64(c)
		}
		if n < least {
			return r.fail(errShortest)
		}
	}
	r.rest = r.rest[1+width:]
	if n > limit {
		return r.fail(errBound)
	}
	return n
}

// bytes reads a byte string, which stays part of what is read.
func (r *cborReader) bytes(limit uint64) []byte {
	n := r.head(majorBytes, limit)
	if r.err == nil && uint64(len(r.rest)) < n {
		r.fail(errShort)
	}
	if r.err != nil {
		return nil
	}
	s := r.rest[:n:n]
	r.rest = r.rest[n:]
	return s
}

// list reads an array of byte strings.
func (r *cborReader) list(items, each uint64) [][]byte {
	n := r.head(majorArray, items)
	if r.err == nil && uint64(len(r.rest)) < n {
		r.fail(errShort) // each has a byte at least: so much is allocated at most
	}
	if r.err != nil || n == 0 {
		return nil
	}
	list := make([][]byte, 0, n)
	for range n {
		list = append(list, r.bytes(each))
	}
	return list
}

func (r *cborReader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = errTrailing
	}
	return r.err
}
