package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/quorate/quorate/test/spacetest"
)

// The line of every node in the lossy section, and how often a message is sent:
// slower than on loopback, since a lost packet holds up whatever follows it on its
// connection.
const (
	lossyDelay = 50 * time.Millisecond
	lossyLoss  = 0.05
	lossyPace  = 60 * time.Millisecond
	lossyPort  = 7300 // of the agents; the bare nodes have the next
)

// lossyCommand is the argument by which this program runs within namespaces.
const lossyCommand = "within"

// lossyAnswer is what comes back from there.
type lossyAnswer struct {
	Results *broadcastResults `json:"results,omitempty"`
	Error   string            `json:"error,omitempty"`
	Skipped string            `json:"skipped,omitempty"`
}

// lossy measures broadcasts between 20 network namespaces whose lines lose and
// delay packets, in a copy of this program that lives in namespaces of its own.
// Where a machine gives none, a line says so, and nothing is measured.
func (b *bench) lossy(ctx context.Context) error {
	skip := func(why string) error {
		b.results.LossySkipped = why
		b.note("== lossy SKIPPED: %s", why)
		return nil
	}
	if tool := spacetest.Missing("ip", "tc"); tool != "" {
		return skip(tool + " is missing; `make chaos-tools` installs it")
	}
	dir, lock, err := spacetest.Folder()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer lock.Close()
	runtime.LockOSThread() // the child dies with the thread that made it
	defer runtime.UnlockOSThread()
	arguments := []string{lossyCommand, "--quorate", b.program, "--observer", b.observer}
	if b.quick {
		arguments = append(arguments, "--quick")
	}
	cmd := spacetest.Command(dir, arguments...)
	p := &process{name: "the namespaces", cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = io.MultiWriter(&p.log, os.Stderr)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return skip(fmt.Sprintf("this machine gives no namespaces: %v", err))
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // the kernel ends what it started
	defer stop()
	text, _ := io.ReadAll(out)
	err = cmd.Wait()
	var answer lossyAnswer
	if decoded := json.Unmarshal(text, &answer); decoded != nil {
		return errors.Join(ctx.Err(), err, fmt.Errorf("no answer from the namespaces: %w", decoded))
	}
	if answer.Skipped != "" {
		return skip(answer.Skipped)
	}
	if b.results.Lossy = answer.Results; answer.Results != nil {
		r := answer.Results
		b.note("broadcast to %d, %s: p50 %.0f ms p99 %.0f ms; bare GossipSub p50 %.0f ms p99 %.0f ms", r.Nodes-1, r.Line, r.Agents.Each.P50, r.Agents.Each.P99, r.Bare.Each.P50, r.Bare.Each.P99)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// within runs there, and answers on standard output.
func (b *bench) within(ctx context.Context) error {
	var answer lossyAnswer
	err := b.lossyWithin(ctx, &answer)
	if err != nil {
		answer.Error = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(&answer)
}

func (b *bench) lossyWithin(ctx context.Context, answer *lossyAnswer) (err error) {
	dir, inside := spacetest.Inside()
	if !inside {
		return errors.New("this is for the program itself")
	}
	if b.dir, err = spacetest.Furnish(dir); err != nil {
		answer.Skipped = fmt.Sprintf("this machine lacks something that the namespaces need: %v", err)
		return nil
	}
	addresses := map[string]string{}
	var agents, bare []place
	for i := range fleetAgents {
		space, ip := fmt.Sprintf("node%d", i), fmt.Sprintf("10.77.1.%d", i+1)
		addresses[space] = ip
		agents = append(agents, place{space, fmt.Sprintf("%s:%d", ip, lossyPort)})
		bare = append(bare, place{space, fmt.Sprintf("%s:%d", ip, lossyPort+1)})
	}
	lines, err := spacetest.NewLines(spacetest.Line{Delay: lossyDelay, Loss: lossyLoss}, addresses)
	if err != nil {
		answer.Skipped = fmt.Sprintf("this machine makes no bad lines: %v", err)
		return nil
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	s, err := b.startSpeakers(ctx, "lossy", agents, bare, spacetest.HubAddress)
	defer func() { err = errors.Join(err, s.stop()) }()
	if err != nil {
		return err
	}
	messages := 150
	if b.quick {
		messages = 40
	}
	answer.Results, err = s.broadcast(ctx, messages, lossyPace)
	if r := answer.Results; r != nil {
		r.Line = fmt.Sprintf("each line losing %.0f %% of its packets, the others %d ms late", 100*lossyLoss, lossyDelay.Milliseconds())
		if r.How = lines.How; r.How != "netem" {
			passed, lost, crowded := lines.Packets()
			late, latest := lines.Late()
			r.How = fmt.Sprintf("lines made by this program on TUN devices, the kernel having no netem: lost %d of %d packets, %d more where a line was full;\npassed on %.1f ms later than they should on the mean, %.0f ms at worst",
				lost, passed+lost+crowded, crowded, millis(late), millis(latest))
		}
		// Setting up the lines and losses disturbs what is at rest too much to compare.
		r.Agents.CPU, r.Bare.CPU = 0, 0
	}
	return err
}

// forward lets the agents, which see only the hub, reach the replicas on loopback,
// at the same ports. It returns once it listens; it ends with ctx.
func forward(ctx context.Context, host string, members []*member) error {
	for _, m := range members {
		_, port, err := net.SplitHostPort(m.api)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { _ = l.Close() })
		go func() {
			for {
				from, err := l.Accept()
				if err != nil {
					return
				}
				go join(from, m.api)
			}
		}()
	}
	return nil
}

// join connects two ends until one of them ends.
func join(from net.Conn, address string) {
	defer from.Close()
	to, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
}
