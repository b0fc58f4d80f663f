package replica

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

func TestVouchersAreEnough(t *testing.T) {
	set := func(names string) (ids []raft.ServerID) {
		for _, one := range names {
			ids = append(ids, raft.ServerID(one))
		}
		return ids
	}
	for _, c := range []struct {
		name          string
		sets          []string
		votes, follow string
		ok            bool
	}{
		{"alone", []string{"a"}, "a", "", true},
		{"alone, and asked by one without a vote", []string{"b"}, "a", "", false},
		{"of two its own", []string{"ab"}, "a", "", false},
		{"of two both", []string{"ab"}, "ab", "", true},
		{"of three two", []string{"abc"}, "ab", "", true},
		{"of three its own, and one follows", []string{"abc"}, "a", "b", true},
		{"of four two", []string{"abcd"}, "ab", "", false},
		{"of four three", []string{"abcd"}, "abc", "", true},
		{"of four two, and one follows", []string{"abcd"}, "ab", "c", true},
		{"of seven three, and one follows, who may lie too", []string{"abcdefg"}, "abc", "d", false},
		{"of seven three, and two follow", []string{"abcdefg"}, "abc", "de", true},
		{"votes of strangers", []string{"abcd"}, "axyz", "", false},
		{"a set that is being left", []string{"abcd", "abcde"}, "abe", "", true},
		{"a set that is being entered", []string{"abc", "abcd"}, "ab", "", true},
		{"nobody is known", []string{""}, "a", "", false},
	} {
		v := vouchers{votes: map[raft.ServerID]bool{}, follow: map[raft.ServerID]bool{}}
		for _, id := range set(c.votes) {
			v.votes[id] = true
		}
		for _, id := range set(c.follow) {
			v.follow[id] = true
		}
		var sets [][]raft.ServerID
		for _, one := range c.sets {
			sets = append(sets, set(one))
		}
		if err := v.enough(sets); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// askedPeers is a replica's elections among peers whose answers the test gives.
func askedPeers(n int, answer func(to byte, term uint64) (voteMessage, bool)) (*elections, []*peer) {
	var peers []*peer
	var set []raft.ServerID
	for i := range n {
		one := &peer{id: ledger.Hash{byte(i)}, Replica: ledger.Replica{Peer: string(rune('a' + i))}}
		peers, set = append(peers, one), append(set, one.serverID())
	}
	return &elections{
		self: peers[0].serverID(), current: func() uint64 { return 5 },
		voted: func() (uint64, string) { return 0, "" }, sets: func() [][]raft.ServerID { return [][]raft.ServerID{set} },
		others: func() []*peer { return peers[1:] }, wait: 500 * time.Millisecond,
		ask: func(ctx context.Context, to *peer, term uint64) (voteMessage, bool) { return answer(to.id[0], term) },
		won: map[uint64]raft.ServerID{}, asking: map[raft.ServerID]chan struct{}{},
	}, peers
}

// A claim is proven by the voters, once for all its connections; one that is not
// is refused in time, and whoever vouches late is heard.
func TestElectionsAreProvenByVoters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		begin := time.Now()
		e, peers := askedPeers(4, func(to byte, term uint64) (said voteMessage, ok bool) {
			asked.Add(1)
			switch {
			case term == 6: // b, c and d voted for c
				said.Voted = "c"
			case term == 7 && time.Since(begin) > 800*time.Millisecond: // d follows b, late
				said.Follows = ledger.Hash{1}
			}
			return said, true
		})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := e.prove(t.Context(), peers[2], 6); err != nil {
					t.Errorf("the elected: %v", err)
				}
			})
		}
		wg.Wait()
		if n := asked.Load(); n > 2 {
			t.Errorf("%d questions for one election", n)
		}
		if e.prove(t.Context(), peers[1], 6) == nil {
			t.Error("two leaders of one term")
		}
		now := time.Now()
		if e.prove(t.Context(), peers[1], 7) == nil || time.Since(now) != e.wait {
			t.Errorf("a claim that nobody vouches for was refused after %s", time.Since(now))
		}
		if err := e.prove(t.Context(), peers[1], 7); err != nil {
			t.Errorf("its follower's word: %v", err)
		}
		rule := refuseUnelected(t.Context(), e, func() bool { return true })
		if err := rule.check(&request{RPC: raft.RPC{Command: &raft.AppendEntriesRequest{Term: 4}}, sender: peers[1]}); err != nil {
			t.Errorf("an old leader does not hear of the newer term: %v", err)
		}
		for term := range uint64(100) {
			e.note(term, "x")
		}
		if len(e.won) > maxElections {
			t.Errorf("%d terms are remembered", len(e.won))
		}
	})
}

// A vote counts once it is whole on disk, and after a start too.
func TestBallotIsWhatIsStored(t *testing.T) {
	cfg := &Config{Dir: t.TempDir(), LogStore: LogStoreBolt, Limits: Limits{}.withDefaults()}
	if err := (files{dir: cfg.Dir}).makeDirs(); err != nil {
		t.Fatal(err)
	}
	store, err := openLogStore(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, term uint64, candidate string) {
		t.Helper()
		if in, of := store.ballot.cast(); in != term || of != candidate {
			t.Errorf("%s: voted for %q in %d, want %q in %d", what, of, in, candidate, term)
		}
	}
	expect("at first", 0, "")
	err = errors.Join(store.SetUint64([]byte(keyVoteTerm), 3), store.Set([]byte(keyVoteCandidate), []byte("h:1")))
	expect("voted", 3, "h:1")
	err = errors.Join(err, store.SetUint64([]byte(keyVoteTerm), 4))
	expect("between term and candidate", 4, "")
	err = errors.Join(err, store.Set([]byte(keyVoteCandidate), []byte("h:2")), store.SetUint64([]byte("CurrentTerm"), 4))
	expect("voted again", 4, "h:2")
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	if store, err = openLogStore(cfg, nil); err != nil {
		t.Fatal(filepath.Base(cfg.Dir), err)
	}
	defer store.Close()
	expect("after a start", 4, "h:2")
}
