package ledger

import "fmt"

// CommandKind is what a Raft command asks of the FSM.
type CommandKind uint8

// The commands of FORMAT.md section 13.
const (
	CommandStatements CommandKind = 1 + iota
	CommandTick
	CommandSeal
)

// Command is what Raft orders. The leader sets Stamp; Apply takes the greater
// of it and the last entry's stamp.
type Command struct {
	Kind       CommandKind
	Stamp      uint64   // milliseconds
	Statements [][]byte // envelopes, verbatim; all are accepted or none
}

// Encode returns the command's deterministic CBOR.
func (c *Command) Encode() []byte {
	size := 32
	for _, s := range c.Statements {
		size += len(s) + 5
	}
	b := append(make([]byte, 0, size), 0x84, 0x01)
	b = appendHead(b, 0, uint64(c.Kind))
	b = appendHead(b, 0, c.Stamp)
	b = appendHead(b, 4, uint64(len(c.Statements)))
	for _, s := range c.Statements {
		b = appendBytes(b, s)
	}
	return b
}

// ParseCommand reads a command; whatever it accepts encodes to the same bytes.
func ParseCommand(b []byte) (*Command, error) {
	d := cborReader{rest: b}
	if n := d.head(4); n != 4 && d.err == nil {
		return nil, fmt.Errorf("parse command: array of %d, want 4", n)
	}
	if v := d.head(0); v != 1 && d.err == nil {
		return nil, fmt.Errorf("parse command: version %d, this program reads 1", v)
	}
	kind := d.head(0)
	c := Command{Stamp: d.head(0)}
	n := d.head(4)
	if n > MaxBundle {
		return nil, fmt.Errorf("parse command: %d statements, at most %d", n, MaxBundle)
	}
	for i := uint64(0); i < n && d.err == nil; i++ {
		c.Statements = append(c.Statements, d.bytes())
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("parse command: %w", err)
	}
	if kind < uint64(CommandStatements) || kind > uint64(CommandSeal) {
		return nil, fmt.Errorf("parse command: unknown kind %d", kind)
	}
	c.Kind = CommandKind(kind)
	if (c.Kind == CommandStatements) != (n > 0) {
		return nil, fmt.Errorf("parse command: kind %d with %d statements", kind, n)
	}
	return &c, nil
}
