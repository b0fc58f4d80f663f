// Command observer is the node agent with its hook for tests: it writes what the
// agent was given and let pass, and whom it drops, to a file, one JSON object a
// line. It alters nothing, unless its standard input tells it to: see orders.go.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/nodetest"
)

func main() {
	path := flag.String("config", "", "the configuration of the agent")
	out := flag.String("out", "", "where to write what was seen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *path, *out)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "observer: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path, out string) error {
	config, err := agent.ReadConfig(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := &writer{file: f, to: bufio.NewWriter(f)}
	a, err := agent.New(config, agent.Options{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Registry: prometheus.NewRegistry(), Observe: w.frame,
		Passphrase: func() ([]byte, error) {
			b, err := os.ReadFile(config.PassphraseFile)
			return bytes.TrimSpace(b), err
		},
	})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	watching, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { w.drops(watching, a) })
	go w.orders(ctx, a, os.Stdin) // a read cannot be broken off: it ends with the process
	err = a.Run(ctx)
	stop()
	wait.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(err, w.to.Flush(), f.Close())
}

type writer struct {
	mu   sync.Mutex
	file *os.File
	to   *bufio.Writer
}

func (w *writer) write(l *nodetest.Seen) {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err) // our own shape
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.to.Write(append(b, '\n'))
	_ = w.to.Flush() // the process may be killed
}

// frame notes statements that came by gossip.
func (w *writer) frame(f mesh.Frame) {
	if f.Direction != mesh.Received || f.Channel != string(mesh.Statements) {
		return
	}
	l := &nodetest.Seen{At: time.Now().UnixNano(), Channel: f.Channel, Verdict: f.Verdict.String(), From: hex.EncodeToString(f.Peer)}
	if st, err := ledger.ParseStatement(f.Data); err == nil {
		l.Author, l.Type, l.ID = st.Payload.Author, st.Payload.Type, st.ID.String()
	}
	w.write(l)
}

// drops notes each change of whom the agent drops.
func (w *writer) drops(ctx context.Context, a *agent.Agent) {
	was := map[string]string{}
	for {
		changed := a.Changed()
		view := a.View()
		if view.State != nil {
			for _, n := range view.State.Nodes("", 1<<16) {
				standing := view.Standing(n.Name)
				if was[n.Name] != standing && (was[n.Name] != "" || standing != fsm.NodeActive) {
					w.write(&nodetest.Seen{At: time.Now().UnixNano(), Dropped: n.Name, As: standing})
				}
				was[n.Name] = standing
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
