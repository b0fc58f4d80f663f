package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

const (
	opTimeout = 5 * time.Second
	// A governor has at most 256 live nonces; a client makes fewer statements
	// than that within their life.
	nonceLife  = 25 * time.Second
	leastPause = 60 * time.Millisecond
)

// load is clients at work: each submits statements and reads linearizably, at
// one replica or at all of them, and writes down what it was told and when.
type load struct {
	c       *cluster
	began   time.Time
	history *history
	quit    chan struct{}
	wg      sync.WaitGroup
}

// startLoad starts the clients. Client i keeps to replica i; the last ones
// fail over along all of them.
func (c *cluster) startLoad(seed uint64) (*load, error) {
	l := &load{c: c, began: time.Now(), history: &history{}, quit: make(chan struct{})}
	for i, key := range c.keys {
		servers := c.members
		if i < len(c.members) {
			servers = c.members[i : i+1]
		}
		cl, err := c.clientOf(servers...)
		if err != nil {
			l.stop()
			return nil, err
		}
		w := &worker{load: l, number: i, key: key, client: cl, member: servers[0].number, chance: mathrand.New(mathrand.NewPCG(seed, uint64(i)))}
		if len(servers) > 1 {
			w.member = 0
		}
		l.wg.Go(w.run)
	}
	return l, nil
}

// stop ends the clients and waits for what they have under way.
func (l *load) stop() {
	close(l.quit)
	l.wg.Wait()
}

// now is the run's clock, in nanoseconds; it never goes back.
func (l *load) now() int64 { return int64(time.Since(l.began)) }

// worker is one client.
type worker struct {
	load   *load
	number int
	member int // the only replica that it asks; 0: all
	key    *keys.File
	client *client.Client
	chance *mathrand.Rand
	said   int
}

func (w *worker) run() {
	defer w.client.Close()
	for {
		select {
		case <-w.load.quit:
			return
		case <-time.After(leastPause + mathrand.N(leastPause)):
		}
		switch p := w.chance.IntN(10); {
		case p < 6:
			w.submit()
		case p < 8:
			w.readSize()
		default:
			w.lookUp()
		}
	}
}

// submit records a text. Whatever is no receipt leaves the outcome open: the
// statement may take effect at any later time.
func (w *worker) submit() {
	w.said++
	text := fmt.Sprintf("%s says %d", w.key.Name, w.said)
	envelope, id, err := signRecord(w.key, w.load.c.genesis, text)
	if err != nil {
		w.load.history.broken(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	o := op{kind: opSubmit, client: w.number, member: w.member, id: id, text: text, call: w.load.now()}
	answer, err := w.client.Submit(ctx, [][]byte{envelope}, client.WaitCommitted)
	o.end = w.load.now()
	switch {
	case err != nil:
		o.open = err
	case len(answer.Statements) != 1 || answer.Statements[0].ID != id:
		w.load.history.broken(fmt.Errorf("the answer to statement %s is about another", id))
		return
	default:
		o.seq = answer.Statements[0].Seq
	}
	w.load.history.add(o)
}

// readSize reads how many entries there are.
func (w *worker) readSize() {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	o := op{kind: opSize, client: w.number, member: w.member, call: w.load.now()}
	epoch, err := w.client.CurrentEpoch(ctx, client.Read{Consistency: client.Linearizable})
	o.end = w.load.now()
	if err != nil {
		return // a read that failed says nothing
	}
	o.seq = epoch.Size
	w.load.history.add(o)
}

// lookUp asks whether a statement that somebody submitted lately is there.
func (w *worker) lookUp() {
	about, ok := w.load.history.lately(w.chance)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	o := op{kind: opLookUp, client: w.number, member: w.member, id: about.id, call: w.load.now()}
	page, err := w.client.ListEntries(ctx, about.seq, "", "", client.Read{Consistency: client.Linearizable, Limit: 1})
	o.end = w.load.now()
	if err != nil {
		return
	}
	if len(page.Entries) > 0 && page.Entries[0].ID == about.id {
		o.seq = page.Entries[0].Seq
	}
	w.load.history.add(o)
}

// signRecord makes a record statement and its id.
func signRecord(key *keys.File, genesis ledger.Hash, text string) (envelope []byte, id string, err error) {
	return signRecordFor(key, genesis, text, nonceLife)
}

func signRecordFor(key *keys.File, genesis ledger.Hash, text string, life time.Duration) (envelope []byte, id string, err error) {
	p := ledger.Payload{
		Author: key.Name, Ledger: genesis, Type: ledger.TypeRecord, Nonce: make([]byte, 16),
		Expires: uint64(time.Now().Add(life).UnixMilli()),
	}
	_, _ = rand.Read(p.Nonce) // it never fails
	envelope, err = ledger.Sign(key.Key, p, ledger.Record{Text: text, Name: hex.EncodeToString(p.Nonce[:4])})
	if err != nil {
		return nil, "", err
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return nil, "", err
	}
	return envelope, st.ID.String(), nil
}

// probe submits a statement through a member and waits until it is certified,
// again and again until it is.
func (c *cluster) probe(ctx context.Context, m *member, key *keys.File) (seq uint64, err error) {
	cl, err := c.clientOf(m)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	err = await(ctx, "a certified statement through "+m.name, func(ctx context.Context) error {
		envelope, _, err := signRecord(key, c.genesis, "is anybody there?")
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 4*opTimeout)
		defer cancel()
		answer, err := cl.Submit(ctx, [][]byte{envelope}, client.WaitCertified)
		if err != nil {
			return err
		}
		if len(answer.Statements) != 1 {
			return errors.New("the answer is about something else")
		}
		seq = answer.Statements[0].Seq
		return nil
	})
	return seq, err
}

// submitAnyhow submits an envelope through whoever takes it.
func (c *cluster) submitAnyhow(ctx context.Context, envelope []byte) error {
	cl, err := c.clientOf(c.members...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 4*opTimeout)
	defer cancel()
	_, err = cl.Submit(ctx, [][]byte{envelope}, client.WaitCommitted)
	return err
}
