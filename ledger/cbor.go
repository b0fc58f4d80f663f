package ledger

import "errors"

// The few shapes of deterministic CBOR (RFC 8949 section 4.2.1) that entries
// and commands use: unsigned integers, byte strings and arrays, all with
// definite, shortest lengths. A general decoder would accept more than it may.

var (
	errCBORShort    = errors.New("CBOR ends early")
	errCBORType     = errors.New("CBOR item of another type than expected")
	errCBORShortest = errors.New("CBOR length or integer not in its shortest form")
	errCBORTrailing = errors.New("bytes after the CBOR item")
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
	return append(b, m|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32),
		byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendBytes(b, s []byte) []byte { return append(appendHead(b, 2, uint64(len(s))), s...) }

// cborReader reads items in order and keeps the first error.
type cborReader struct {
	rest []byte
	err  error
}

func (d *cborReader) head(major byte) uint64 {
	if d.err != nil {
		return 0
	}
	if len(d.rest) == 0 {
		d.err = errCBORShort
		return 0
	}
	first := d.rest[0]
	if first>>5 != major {
		d.err = errCBORType
		return 0
	}
	info := first & 31
	if info < 24 {
		d.rest = d.rest[1:]
		return uint64(info)
	}
	if info > 27 {
		d.err = errCBORType
		return 0
	}
	width := 1 << (info - 24)
	if len(d.rest) < 1+width {
		d.err = errCBORShort
		return 0
	}
	var n uint64
	for _, c := range d.rest[1 : 1+width] {
		n = n<<8 | uint64(c)
	}
	least := [4]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]
	if n < least {
		d.err = errCBORShortest
		return 0
	}
	d.rest = d.rest[1+width:]
	return n
}

func (d *cborReader) bytes() []byte {
	n := d.head(2)
	if d.err != nil {
		return nil
	}
	if uint64(len(d.rest)) < n {
		d.err = errCBORShort
		return nil
	}
	s := d.rest[:n:n]
	d.rest = d.rest[n:]
	return s
}

func (d *cborReader) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.err = errCBORTrailing
	}
	return d.err
}
