package replica

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// verifier checks statements' signatures, with the keys that were used last
// kept unpacked.
type verifier struct {
	cache       *keys.Cache
	possessions *possessions
	test        *Hooks // nil but in tests

	mu       sync.Mutex
	admitted map[*byte][]*parsed // by the first byte of the ordered command
}

func newVerifier(l Limits) *verifier {
	return &verifier{cache: keys.NewCache(l.PublicKeys), possessions: newPossessions(), admitted: map[*byte][]*parsed{}}
}

func (v *verifier) verify(st *ledger.Statement, public []byte) bool {
	unpacked, err := v.cache.Get(public)
	return v.test.verify(st, err == nil && st.Verify(unpacked))
}

// checked holds statements that were parsed, and what came of verifying them,
// so that neither is done twice: by the leader at admission and inside Apply,
// or on all cores before a batch and inside Apply. It is fsm.Verifier and
// fsm.Parser, and never answers otherwise than they would without it: an
// envelope is known by the very bytes in memory, which nobody changes, and a
// signature by the key that it was verified under.
//
// It is used by one goroutine at a time.
type checked struct {
	verifier *verifier
	parsed   map[*byte]*parsed // by an envelope's first byte
	found    map[*ledger.Statement]*parsed
}

// parsed is one statement, or why it is none.
type parsed struct {
	statement *ledger.Statement
	err       error
	public    []byte // the key it was verified under; nil: not yet
	good      bool
}

func (v *verifier) newChecked(n int) *checked {
	return &checked{verifier: v, parsed: make(map[*byte]*parsed, n), found: make(map[*ledger.Statement]*parsed, n)}
}

func parse(envelope []byte) *parsed {
	st, err := ledger.ParseStatement(envelope)
	return &parsed{statement: st, err: err}
}

func (p *parsed) verify(v *verifier, public []byte) bool {
	if p.public == nil || !bytes.Equal(p.public, public) {
		p.public, p.good = public, v.verify(p.statement, public)
	}
	return p.good
}

func (c *checked) add(envelope []byte, p *parsed) {
	if len(envelope) == 0 {
		return
	}
	c.parsed[&envelope[0]] = p
	if p.statement != nil {
		c.found[p.statement] = p
	}
}

// list gives the statements that were parsed, in order; nil unless all were.
func (c *checked) list(envelopes [][]byte) []*parsed {
	list := make([]*parsed, len(envelopes))
	for i, envelope := range envelopes {
		if len(envelope) > 0 {
			list[i] = c.parsed[&envelope[0]]
		}
		if list[i] == nil {
			return nil
		}
	}
	return list
}

// Parse is fsm.Parser.
func (c *checked) Parse(envelope []byte) (*ledger.Statement, error) {
	if len(envelope) == 0 {
		return ledger.ParseStatement(envelope)
	}
	p := c.parsed[&envelope[0]]
	if p == nil {
		p = parse(envelope)
		c.add(envelope, p)
	}
	return p.statement, p.err
}

// Verify is fsm.Verifier.
func (c *checked) Verify(st *ledger.Statement, public []byte) bool {
	if p := c.found[st]; p != nil {
		return p.verify(c.verifier, public)
	}
	return c.verifier.verify(st, public)
}

// admit remembers what the leader checked of a command, statement by
// statement, until it is applied: data is the command as Raft gets it. What it
// returns forgets it again.
func (v *verifier) admit(data []byte, list []*parsed) (forget func()) {
	if len(list) == 0 {
		return func() {}
	}
	key := &data[0]
	v.mu.Lock()
	v.admitted[key] = list
	v.mu.Unlock()
	return func() { v.take(data) }
}

// take gives what the leader checked of a command, once; nil on every other
// replica, where the same command has other memory.
func (v *verifier) take(data []byte) []*parsed {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := v.admitted[&data[0]]
	delete(v.admitted, &data[0])
	return list
}

// ahead parses and verifies the statements of commands on all cores, under the
// keys that state knows, and the proofs of those that rotate. A key that changes
// within the batch is looked up and verified inside Apply. The i-th command was
// read from data[i].
func (v *verifier) ahead(state *fsm.State, commands []*ledger.Command, data func(i int) []byte) *checked {
	var envelopes [][]byte
	var known []*parsed
	for i, c := range commands {
		if c == nil || len(c.Statements) == 0 {
			continue
		}
		envelopes = append(envelopes, c.Statements...)
		if admitted := v.take(data(i)); len(admitted) == len(c.Statements) {
			known = append(known, admitted...)
		} else {
			known = append(known, make([]*parsed, len(c.Statements))...)
		}
	}
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(envelopes) {
				return
			}
			if known[i] != nil {
				continue
			}
			p := parse(envelopes[i])
			if known[i] = p; p.err != nil {
				continue
			}
			if public, verdict := state.PublicKey(p.statement); verdict.Code == fsm.OK && p.verify(v, public) {
				v.possessions.ahead(p.statement)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(envelopes)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	all := v.newChecked(len(envelopes))
	for i, envelope := range envelopes {
		all.add(envelope, known[i])
	}
	return all
}
