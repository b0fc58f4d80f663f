package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/nodetest"
)

const maxOrderBytes = 1 << 20 // of a line

// orders carries out what its input says, line by line, until the input ends.
func (w *writer) orders(ctx context.Context, a *agent.Agent, from io.Reader) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxOrderBytes)
	for ctx.Err() == nil && lines.Scan() {
		var o nodetest.Order
		err := json.Unmarshal(lines.Bytes(), &o)
		switch {
		case err != nil:
		case len(o.Publish) > 0:
			err = w.publish(ctx, a, o.Publish)
		case o.LinkUp != "":
			w.linkUp(a, o.LinkUp)
		case o.Judge != "":
			err = w.judge(a, o.Judge)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "observer: order: %v\n", err)
		}
	}
}

func (w *writer) publish(ctx context.Context, a *agent.Agent, envelope []byte) error {
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := a.Mesh().Publish(ctx, mesh.Statements, envelope); err != nil {
		return err
	}
	w.write(&nodetest.Seen{At: time.Now().UnixNano(), ID: st.ID.String(), Published: began.UnixNano()})
	return nil
}

// linkUp has the agent speak by itself, and notes what it said, or why it did not.
func (w *writer) linkUp(a *agent.Agent, subject string) {
	began := time.Now()
	st, err := a.LinkUp(subject)
	l := &nodetest.Seen{At: time.Now().UnixNano(), Published: began.UnixNano()}
	if err != nil {
		l.Unsaid = err.Error()
	} else {
		l.ID, l.Author, l.Type, l.Epoch, l.Seq = st.ID.String(), st.Payload.Author, st.Payload.Type, *st.Payload.Epoch, st.Payload.Seq
		if o, err := ledger.DecodeBody[ledger.Observe](st); err == nil {
			l.Content = nodetest.ContentOf(st.Payload.Author, o)
		}
	}
	w.write(l)
}

// judge has the agent judge each envelope of a file once, on all cores, as if a
// peer had passed it on.
func (w *writer) judge(a *agent.Agent, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var envelopes [][]byte
	if err := json.Unmarshal(b, &envelopes); err != nil {
		return err
	}
	var accepted, next atomic.Int64
	var wait sync.WaitGroup
	used, began := processorTime(), time.Now()
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(envelopes)); i = next.Add(1) - 1 {
				if a.Judge().Statement(mesh.Member{}, envelopes[i]) == mesh.Accept {
					accepted.Add(1)
				}
			}
		})
	}
	wait.Wait()
	took := time.Since(began)
	w.write(&nodetest.Seen{At: time.Now().UnixNano(), Judged: &nodetest.Judged{
		Accepted: int(accepted.Load()), Nanos: took.Nanoseconds(), CPUNanos: (processorTime() - used).Nanoseconds()}})
	return nil
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
