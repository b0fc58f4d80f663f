package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"

	"github.com/quorate/quorate/test/nodetest"
)

// talker is a child that takes orders on its standard input and says what it
// sees on its standard output, line by line: an observer, or a node of the bare
// GossipSub.
type talker struct {
	*process
	address string // where it listens
	orders  io.WriteCloser

	mu        sync.Mutex
	ready     bool
	accepted  map[string]int64 // when it first let a statement pass, by id; nanoseconds since 1970
	known     map[string]int64 // when a copy came of one that it had from the ledger already
	published map[string]int64 // when it began to publish one
	dropped   map[string]int64 // when it first called a node anything but active
	heard     map[string][]nodetest.Seen
	judged    *nodetest.Judged
}

const maxTalkBytes = 1 << 20 // of a line

// startTalker starts one; space is the network namespace that it lives in, "" for
// this one.
func startTalker(name, address, space, program string, arguments ...string) (*talker, error) {
	if space != "" {
		arguments = append([]string{"netns", "exec", space, program}, arguments...)
		program = "ip"
	}
	t := &talker{
		process: &process{name: name, cmd: exec.Command(program, arguments...), done: make(chan struct{})}, address: address,
		accepted: map[string]int64{}, known: map[string]int64{}, published: map[string]int64{}, dropped: map[string]int64{}, heard: map[string][]nodetest.Seen{},
	}
	t.cmd.Stderr = &t.log
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if t.orders, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := t.begin(); err != nil {
		return nil, err
	}
	go t.listen(out) // ends with the child
	return t, nil
}

func (t *talker) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxTalkBytes)
	for lines.Scan() {
		var s nodetest.Seen
		if json.Unmarshal(lines.Bytes(), &s) == nil {
			t.note(&s)
		}
	}
}

func (t *talker) note(s *nodetest.Seen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := func(times map[string]int64, key string, at int64) {
		if _, there := times[key]; !there {
			times[key] = at
		}
	}
	switch {
	case s.Judged != nil:
		t.judged = s.Judged
	case s.Published != 0:
		first(t.published, s.ID, s.Published)
	case s.Dropped != "" && s.As != "active":
		first(t.dropped, s.Dropped, s.At)
	case s.Channel == bareReady:
		t.ready = true
	case s.ID != "":
		switch s.Verdict {
		case "accept":
			first(t.accepted, s.ID, s.At)
		case "known":
			first(t.known, s.ID, s.At)
		}
		if s.Author != "" {
			t.heard[s.Author] = append(t.heard[s.Author], *s)
		}
	}
}

// order tells it to do something.
func (t *talker) order(o *nodetest.Order) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := t.orders.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("order %s: %w", t.name, err)
	}
	return nil
}

// when reads a time under the lock, 0 if there is none.
func (t *talker) when(times map[string]int64, key string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return times[key]
}
