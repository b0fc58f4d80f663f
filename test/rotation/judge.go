package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// saying is what an agent says that it said.
type saying struct {
	spoken
	content string // whichever statement carries it
	at      time.Time
}

func (s saying) String() string {
	return fmt.Sprintf("%s (epoch %d, seq %d, %.12s…)", s.content, s.epoch, s.seq, s.id)
}

// absence is a time in which a node's agent did not run as it should.
type absence struct {
	name     string
	from, to time.Time // to: when it followed the ledger again
	abrupt   bool      // it was stopped or killed, and may have lost what it said
	long     bool      // long enough that its rotation may be late
}

// lost gives what was said and is not on the ledger. What its author said just before
// an abrupt absence, or in it, is counted apart: how much, and how much of it is on
// the ledger all the same. What is there under another id, since its agent signed it
// anew in a later epoch, is there.
func lost(said []saying, h *history, absences []absence) (missing []saying, apart, apartKept int) {
	for _, s := range said {
		kept := h.has(s)
		excused := slices.ContainsFunc(absences, func(a absence) bool {
			return a.abrupt && a.name == s.author && s.at.After(a.from.Add(-justBefore)) && s.at.Before(a.to)
		})
		switch {
		case excused:
			apart++
			if kept {
				apartKept++
			}
		case !kept:
			missing = append(missing, s)
		}
	}
	return missing, apart, apartKept
}

// anew counts what is on the ledger under another id than it was said under first.
func anew(said []saying, h *history) (n int) {
	for _, s := range said {
		if _, same := h.ids[s.id]; !same && h.has(s) {
			n++
		}
	}
	return n
}

// partition is a time in which some agents were cut off.
type partition struct {
	names    []string
	from, to time.Time
}

// spoke counts what those said that were cut off, while they were, how much of it is on
// the ledger, and how much of that under another id.
func (p *partition) spoke(said []saying, h *history) (n, kept, again int) {
	var list []saying
	for _, s := range said {
		if slices.Contains(p.names, s.author) && s.at.After(p.from) && s.at.Before(p.to) {
			list = append(list, s)
			if h.has(s) {
				kept++
			}
		}
	}
	return len(list), kept, anew(list, h)
}

// outside are the reader's complaints of statements that were accepted under a key that
// was not their author's in the epoch.
func outside(wrong []string) (list []string) {
	for _, w := range wrong {
		if strings.Contains(w, "was accepted, its key") || strings.Contains(w, "under two keys") {
			list = append(list, w)
		}
	}
	return list
}

// twice gives what shares author, epoch and seq with another statement.
func twice(spokenOf ...[]spoken) (list []string) {
	type place struct {
		author     string
		epoch, seq uint64
	}
	first := map[place]string{}
	for _, s := range slices.Concat(spokenOf...) {
		p := place{s.author, s.epoch, s.seq}
		if id, taken := first[p]; taken && id != s.id {
			list = append(list, fmt.Sprintf("%s said %.12s… and %.12s… under epoch %d and seq %d", s.author, id, s.id, s.epoch, s.seq))
		}
		first[p] = s.id
	}
	return list
}

// untold are those who were late, or expired, without an alarm that named them.
func untold(lates []lateness) (list []string) {
	for _, l := range lates {
		if !l.told {
			list = append(list, fmt.Sprintf("%s in epoch %d (expired %v) without an alarm", l.name, l.epoch, l.expired))
		}
	}
	return list
}

// unexcused are those who were late though nothing had stopped or hindered them in their window.
// starts are of epochs, in milliseconds.
func unexcused(lates []lateness, starts map[uint64]uint64, absences []absence) (list []string) {
	for _, l := range lates {
		from, to := time.UnixMilli(int64(starts[l.from])), time.UnixMilli(int64(starts[l.epoch]))
		if !slices.ContainsFunc(absences, func(a absence) bool { return a.name == l.name && a.long && a.from.Before(to) && a.to.After(from) }) {
			list = append(list, fmt.Sprintf("%s in epoch %d, its window began with epoch %d", l.name, l.epoch, l.from))
		}
	}
	return list
}

// idle are nodes that rotated less often than their keys last, since they came or were
// given another key. A node that expired is none.
func idle(h *history, t times) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(h.first)) {
		since := h.last - min(h.last, h.first[name])
		if want := int(since / (t.key + 1)); h.rotations[name] < want {
			list = append(list, fmt.Sprintf("%s rotated %d times in %d epochs, want %d", name, h.rotations[name], since, want))
		}
	}
	return list
}

// seconds counts those between two times in which nobody said anything.
func silent(said []saying, from, to time.Time) (quiet, all int) {
	spoke := map[int64]bool{}
	for _, s := range said {
		spoke[s.at.Unix()] = true
	}
	for at := from.Unix(); at < to.Unix(); at++ {
		if all++; !spoke[at] {
			quiet++
		}
	}
	return quiet, all
}
