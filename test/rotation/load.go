package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/quorate/quorate/test/nodetest"
	"github.com/quorate/quorate/test/stagehand"
)

// speaks has every agent that is there say something once in every, until ctx ends.
func (f *fleet) speaks(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every / nodesOfFleet)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			// Nobody says the same twice within as many ticks, so that a statement is known by
			// what it says.
			of := i + 1 + i/nodesOfFleet%(nodesOfFleet-1)
			f.orders(f.agents[i%nodesOfFleet], f.agents[of%nodesOfFleet].Name)
		}
	}
}

// orders tells an agent to speak of another, unless it is disturbed.
func (f *fleet) orders(a *agent, subject string) {
	line, err := json.Marshal(nodetest.Order{LinkUp: subject})
	if err != nil {
		panic(err) // our own shape
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !a.quiet && a.orders != nil {
		_, _ = a.orders.Write(append(line, '\n')) // whoever ended by itself is found later
	}
}

// watches keeps the newest epoch that an agent which is not disturbed knows, until ctx
// ends.
func (f *fleet) watches(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		a := f.agents[i%nodesOfFleet]
		f.mu.Lock()
		quiet := a.quiet
		f.mu.Unlock()
		if quiet {
			continue
		}
		if s, err := a.Status(ctx); err == nil {
			f.newest.Store(max(f.newest.Load(), s.Epoch))
		}
		select {
		case <-ctx.Done():
		case <-time.After(clockPace):
		}
	}
}

// until waits until an epoch has begun.
func (f *fleet) until(ctx context.Context, epoch uint64) error {
	limit := overrun * f.epoch
	if now := f.newest.Load(); now < epoch {
		limit += time.Duration(epoch-now) * f.epoch
	}
	return stagehand.Await(ctx, limit, "an epoch has begun", func() bool { return f.newest.Load() >= epoch })
}

var number = regexp.MustCompile(`[0-9]+`)

// words is what agents wrote down.
type words struct {
	said   []saying
	unsaid map[string]int // orders that were not carried out, by the reason
	heard  int            // copies of said statements that other agents let pass, or had already
}

// words reads what every agent wrote, in every life that it had.
func (f *fleet) words() (*words, error) {
	w := &words{unsaid: map[string]int{}}
	heard := map[string]map[string]bool{}
	for _, a := range f.agents {
		for _, folder := range a.folders {
			if err := w.read(filepath.Join(folder, "seen"), a.Name, heard); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range w.said {
		w.heard += len(heard[s.id])
	}
	return w, nil
}

func (w *words) read(path, name string, heard map[string]map[string]bool) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	scan := bufio.NewScanner(file)
	scan.Buffer(nil, maxLine)
	for scan.Scan() {
		var s nodetest.Seen
		if json.Unmarshal(scan.Bytes(), &s) != nil {
			continue // the last line of a life that was killed
		}
		switch {
		case s.Unsaid != "":
			w.unsaid[number.ReplaceAllString(s.Unsaid, "N")]++ // epochs are many, reasons few
		case s.Published != 0 && s.Seq != nil:
			w.said = append(w.said, saying{spoken{s.Author, s.Epoch, *s.Seq, s.ID}, s.Content, time.Unix(0, s.At)})
		case s.Author != name && (s.Verdict == "accept" || s.Verdict == "known"):
			if heard[s.ID] == nil {
				heard[s.ID] = map[string]bool{}
			}
			heard[s.ID][name] = true
		}
	}
	return scan.Err()
}
