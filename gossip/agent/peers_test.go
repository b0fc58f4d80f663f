package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm"
)

// later gives an answer after a while.
func later(ctx context.Context, d time.Duration, r *syncResponse) (*syncResponse, error) {
	if err := sleep(ctx, d); err != nil {
		return nil, err
	}
	return r, nil
}

// What a peer answers costs bounded time and memory, and leaves nothing behind that no
// head covers.
func TestAPeerThatLies(t *testing.T) {
	h := newHistory(t)
	seals := h.seals(t)
	first := seals[0] + 1 // entries up to the first seal
	certified := h.certify(t, h.entries[:first], time.Now())
	start := func(t *testing.T) *Agent {
		t.Helper()
		a := &Agent{chronicle: h.chronicle(t), logger: slog.New(slog.DiscardHandler)}
		if _, err := h.follow(t, a.chronicle, h.entries[:first], certified); err != nil {
			t.Fatal(err)
		}
		return a
	}

	t.Run("entries that its head does not cover", func(t *testing.T) {
		a := start(t)
		size := a.certified()
		asked := 0
		err := a.askSource(t.Context(), func(_ context.Context, r *syncRequest) (*syncResponse, error) {
			asked++
			return &syncResponse{Entries: h.entries[first : first+1], Head: certified}, nil
		})
		if next, _ := a.position(); err != nil || asked != 1 || next != size || a.certified() != size {
			t.Errorf("%v, asked %d times, next %d, size %d of %d", err, asked, next, a.certified(), size)
		}
	})

	t.Run("what we had was the lie", func(t *testing.T) {
		a := start(t)
		size := a.certified()
		for _, raw := range h.alteredAt(t, seals[1])[first:] {
			if err := a.chronicle.add(raw); err != nil {
				t.Fatal(err)
			}
		}
		end := errors.New("that is all")
		var from []uint64
		err := a.askSource(t.Context(), func(_ context.Context, r *syncRequest) (*syncResponse, error) {
			if from = append(from, r.From); len(from) > 1 {
				return nil, end
			}
			return &syncResponse{Entries: h.entries[r.From-1:], Head: h.note}, nil
		})
		if !errors.Is(err, end) || len(from) != 2 || from[1] != size {
			t.Errorf("%v, asked for entries from %v on, certified %d", err, from, size)
		}
	})

	t.Run("a peer that is slow", func(t *testing.T) {
		a, b := start(t), start(t)
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := a.askSource(t.Context(), func(ctx context.Context, _ *syncRequest) (*syncResponse, error) {
				return later(ctx, peerSyncTimeout-time.Second, &syncResponse{Links: h.links[:1]})
			})
			if took := time.Since(began); err == nil || took > askPatience {
				t.Errorf("links: %v after %s", err, took)
			}
			began = time.Now()
			pages := 0
			err = b.askSource(t.Context(), func(ctx context.Context, _ *syncRequest) (*syncResponse, error) {
				pages++
				page := &statePage{More: true, Size: uint64(len(h.entries) + 1), Seal: h.entries[len(h.entries)-1]}
				page.Records = []stateEntry{{Key: fmt.Sprintf("%09d", pages)}}
				if pages == 1_000 {
					page.More = false
				}
				return later(ctx, peerSyncTimeout-time.Second, &syncResponse{Head: h.note, State: page})
			})
			if took := time.Since(began); err == nil || pages < 2 || took > askPatience+statePatience {
				t.Errorf("a state: %v after %s and %d pages", err, took, pages)
			}
		})
	})

	t.Run("a state that is not needed", func(t *testing.T) {
		a := start(t)
		asked := 0
		err := a.askSource(t.Context(), func(context.Context, *syncRequest) (*syncResponse, error) {
			asked++
			page := &statePage{More: asked < 10, Size: a.certified(), Seal: h.entries[first-1], Records: []stateEntry{{Key: fmt.Sprint(asked)}}}
			return &syncResponse{Head: certified, State: page}, nil
		})
		if !errors.Is(err, errBehind) || asked != 1 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
}

func TestPagesWithoutEnd(t *testing.T) {
	key := func(i int) string { return fmt.Sprintf("%09d", i) }
	large := make([]byte, 1<<20)
	for name, page := range map[string]func(n int) []stateEntry{
		"nothing":       func(int) []stateEntry { return []stateEntry{{}} },
		"one key":       func(int) []stateEntry { return []stateEntry{{Key: "a"}} },
		"keys descend":  func(n int) []stateEntry { return []stateEntry{{Key: key(1_000 - n)}} },
		"large records": func(n int) []stateEntry { return []stateEntry{{Key: key(n), Value: large}} },
	} {
		asked := 0
		answer := func() *statePage { return &statePage{More: asked < 500, Size: 7, Records: page(asked)} }
		_, err := fetchRecords(t.Context(), func(context.Context, *syncRequest) (*syncResponse, error) {
			asked++
			return &syncResponse{State: answer()}, nil
		}, answer())
		if err == nil || asked > maxStateBytes/len(large) {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
}

// One peer holds one state, as long as it goes on asking for it and no longer than a
// fetch may take.
func TestPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pinned
		state := &fsm.State{}
		for size := range uint64(10) {
			if !p.keep("one", size, state) {
				t.Fatal("its own state is in its way")
			}
		}
		if !p.keep("two", 20, state) {
			t.Fatal("one peer holds all places")
		}
		if p.keep("three", 30, state) {
			t.Fatal("more states are held than may be")
		}
		if !p.keep("four", 20, state) {
			t.Fatal("a state that is held anyway is refused")
		}
		time.Sleep(pinnedIdle)
		if p.get("two", 20) == nil || p.get("three", 20) != nil || p.get("two", 9) != nil {
			t.Fatal("a state is not whose it is")
		}
		time.Sleep(time.Second)
		if !p.keep("three", 30, state) {
			t.Fatal("a state that nobody fetches holds a place")
		}
		if p.get("two", 20) == nil || p.get("one", 9) != nil || p.get("four", 20) != nil {
			t.Fatal("another was to be dropped")
		}
		began := time.Now()
		for p.get("two", 20) != nil {
			if time.Since(began) > pinnedFor {
				t.Fatal("a state is held for ever")
			}
			time.Sleep(pinnedIdle)
		}
	})
}
