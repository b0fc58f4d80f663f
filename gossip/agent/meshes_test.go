package agent

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// taken is a mesh whose addresses somebody else may have taken.
type taken struct {
	at    []string
	taken *bool
	until time.Time // others have the addresses before it
	tries int
}

var errTaken = errors.New("address in use")

func (m *taken) Listening() []string  { return slices.Clone(m.at) }
func (m *taken) StopListening() error { m.at = nil; return nil }

func (m *taken) Listen(addresses []string) error {
	m.tries++
	if *m.taken || time.Now().Before(m.until) {
		return errTaken
	}
	m.at = slices.Clone(addresses)
	return nil
}

// Whoever takes the addresses of a node while its peer key changes delays the change, and
// the node listens again at the same ones as soon as they are free.
func TestAddressesAreNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := false
		at := []string{"127.0.0.1:9", "[::1]:9"}
		old, next := &taken{at: slices.Clone(at), taken: &busy}, &taken{taken: &busy}
		s := &meshes{}

		// The new one can't have them: the old one takes them back.
		next.until = time.Now().Add(time.Hour)
		began := time.Now()
		if err := s.move(t.Context(), old, next); !errors.Is(err, errTaken) || s.deaf || !slices.Equal(old.at, at) || next.at != nil {
			t.Fatalf("%v, deaf %t, old at %v, new at %v", err, s.deaf, old.at, next.at)
		}
		if took := time.Since(began); took < listenPatience || took > listenPatience+time.Second || next.tries < 10 {
			t.Errorf("given up after %s and %d tries", took, next.tries)
		}
		next.until = time.Time{}

		// Neither can: the node is deaf until they are free, and knows where it was.
		busy = true
		if err := s.move(t.Context(), old, next); !errors.Is(err, errTaken) || !s.deaf || old.at != nil {
			t.Fatalf("%v, deaf %t, old at %v", err, s.deaf, old.at)
		}
		if s.listenAgain(old); !s.deaf {
			t.Fatal("it hears though others have its addresses")
		}
		// A change that is tried meanwhile is none without an address.
		if err := s.move(t.Context(), old, next); !errors.Is(err, errTaken) || !s.deaf {
			t.Fatalf("a change to nowhere: %v, new at %v", err, next.at)
		}
		busy = false
		if s.listenAgain(old); s.deaf || !slices.Equal(old.at, at) {
			t.Fatalf("with its addresses free it is at %v", old.at)
		}
		if err := s.move(t.Context(), old, next); err != nil || !slices.Equal(next.at, at) || old.at != nil {
			t.Fatalf("%v, new at %v", err, next.at)
		}
	})
}
