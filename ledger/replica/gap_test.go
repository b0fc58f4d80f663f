package replica_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
	"github.com/quorate/quorate/ledger/replica"
	"github.com/quorate/quorate/ledger/replica/replicatest"
)

// source stands for a peer that has the history: it answers what is asked for
// entries, and nothing else.
type source struct {
	entries [][]byte
	mode    atomic.Value // of the constants below
	lies    atomic.Int64
	short   atomic.Int64 // answers with fewer entries than were asked for
}

const (
	sourceAway  = "away"
	sourceLies  = "lies"
	sourceShort = "tells three entries at a time"
)

func (s *source) RoundTrip(q *http.Request) (*http.Response, error) {
	mode := s.mode.Load()
	if q.URL.Path != "/entries" || mode == sourceAway {
		return nil, errors.New("nobody is there")
	}
	from, _ := strconv.Atoi(q.FormValue("from"))
	count, _ := strconv.Atoi(q.FormValue("count"))
	if mode == sourceShort {
		s.short.Add(1)
		count = min(count, 3)
	}
	var body []byte
	for _, e := range s.entries[from:min(from+count, len(s.entries))] {
		if mode == sourceLies {
			s.lies.Add(1)
			e = bytes.Clone(e)
			e[len(e)-1] ^= 1
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(e))), e...)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: q}, nil
}

// A replica that lacks a part of its history, alone with what it has: it says so,
// does not lead, signs nothing, serves nothing of the gap and takes no lie for
// it; once somebody has it, it goes on by itself. Its peer is only joining, so
// that it could lead without it.
func TestGapOnItsOwn(t *testing.T) {
	from := &source{}
	from.mode.Store(sourceAway)
	var signed atomic.Int64
	c := replicatest.Start(t, 1, func(cfg *replica.Config) {
		cfg.Raft.TrailingLogs = 1
		cfg.Limits.BackfillBatch = 7
		cfg.Limits.LeaderHold = 1500 * time.Millisecond // it looks whether to sign each second
		cfg.Hooks = &replica.Hooks{
			Requests: func(http.RoundTripper) http.RoundTripper { return from },
			Signed:   func(ledger.Head) { signed.Add(1) },
		}
	})
	n := c.Leader()
	for i := range 20 {
		c.Submit(n, replica.WaitCommitted, c.Record(c.Council[i%3], "before"))
	}
	c.Decide(n, "replica.add", replicaArgs{replicatest.NewIdentity(t, "r2", "op-b").Record})
	last := c.Submit(n, replica.WaitCertified, c.Record(c.Council[0], "the last")).Last
	if err := n.Replica.Snapshot(c.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	history, err := replica.OpenArchive(n.Dir)
	if err == nil {
		err = history.Entries(0, history.Size(), func(_ uint64, e []byte) error {
			from.entries = append(from.entries, bytes.Clone(e))
			return nil
		})
		err = errors.Join(err, history.Close(), os.RemoveAll(filepath.Join(n.Dir, "archive")))
	}
	if err != nil {
		t.Fatal(err)
	}

	signed.Store(0)
	n.Start()
	s := n.Await("it says what it lacks", func(s replica.Status) bool { return s.GapFrom < s.GapTo && alarmed(s, "gap") })
	if s.GapFrom != 1 || s.GapTo <= last {
		t.Errorf("the gap is %d to %d, entry %d was the last", s.GapFrom, s.GapTo, last)
	}
	refuses := func() {
		t.Helper()
		if _, err := n.Replica.Submit(c.Context(), [][]byte{c.Record(c.Council[1], "into the gap")}, replica.WaitCommitted); !errors.Is(err, replica.ErrNoLeader) {
			t.Errorf("answer %v, want no leader", err)
		}
		if _, err := n.Replica.Archive().Entry(5); !errors.Is(err, archive.ErrGap) {
			t.Errorf("entry 5, which it lacks: %v", err)
		}
		if n := signed.Load(); n > 0 {
			t.Errorf("%d heads signed", n)
		}
		if _, err := n.Replica.View(c.Context(), replica.Certified); err != nil {
			t.Errorf("the state is whole: %v", err)
		}
	}
	refuses()
	from.mode.Store(sourceLies)
	n.Await("it was lied to", func(replica.Status) bool { return from.lies.Load() > 60 })
	refuses()

	from.mode.Store(sourceShort)
	n.Await("its history is whole", func(s replica.Status) bool { return s.GapFrom == s.GapTo && !alarmed(s, "gap") && s.Ready })
	err = n.Replica.Archive().Entries(0, uint64(len(from.entries)), func(seq uint64, e []byte) error {
		if !bytes.Equal(e, from.entries[seq]) {
			t.Errorf("entry %d is another", seq)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	c.Submit(n, replica.WaitCertified, c.Record(c.Council[1], "after it"))
	if signed.Load() == 0 || from.short.Load() < 3 {
		t.Errorf("%d heads signed, %d answers", signed.Load(), from.short.Load())
	}
}
