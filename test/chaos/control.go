package main

import (
	"bufio"
	"fmt"
	"io"
	"syscall"
	"time"
)

// A chaos replica takes orders on its standard input, a line each, and answers
// each with a line.

func readLines(r io.Reader) chan string {
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

// order gives an order to a chaos replica and waits until it is taken.
func (m *member) order(text string) error {
	m.mu.Lock()
	control, answers := m.control, m.answers
	m.mu.Unlock()
	if control == nil {
		return fmt.Errorf("%s takes no orders", m.name)
	}
	if _, err := fmt.Fprintln(control, text); err != nil {
		return fmt.Errorf("order %s: %w", m.name, err)
	}
	select {
	case answer, ok := <-answers:
		if !ok || answer != "ok" {
			return fmt.Errorf("order %q to %s: %q", text, m.name, answer)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("order %q to %s: no answer", text, m.name)
	}
}

// pause stops a process without ending it.
func (m *member) pause() error { return m.signal(syscall.SIGSTOP) }

func (m *member) resume() error { return m.signal(syscall.SIGCONT) }
