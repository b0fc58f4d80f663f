package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/gossip/mesh"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// neighbourhood is the members that an agent is connected to, and what became of asking
// them. Those who have the ledger answer as an agent does.
type neighbourhood struct {
	whole *judge // of an agent that has it
	peers []mesh.Member
	have  []string      // names of who has the ledger
	after time.Duration // that an answer takes
	asked []string
	at    []time.Time // when
}

func (n *neighbourhood) Peers() []mesh.Member { return n.peers }
func (n *neighbourhood) Refresh()             {}

func (n *neighbourhood) Ask(ctx context.Context, to ed25519.PublicKey, request []byte) ([]byte, error) {
	n.asked, n.at = append(n.asked, string(to)), append(n.at, time.Now())
	if err := sleep(ctx, n.after); err != nil {
		return nil, err
	}
	if !slices.Contains(n.have, string(to)) {
		return nil, errNoState
	}
	return n.whole.Sync(mesh.Member{Name: "asker"}, request)
}

func memberOf(name string) mesh.Member {
	return mesh.Member{Name: name, Peer: ed25519.PublicKey(name)}
}

// reaching is a ledger, and agents that know its first seal and how to be told of the rest.
type reaching struct {
	*history
	early []byte // certifies its first seal
	first int
}

func newReaching(t *testing.T) *reaching {
	h := newHistory(t)
	first := h.seals(t)[0] + 1
	return &reaching{history: h, first: first, early: h.certify(t, h.entries[:first], time.Now())}
}

// agent follows the ledger up to an entry.
func (r *reaching) agent(t *testing.T, entries int, note []byte) *Agent {
	t.Helper()
	disk := newCrashDisk(1)
	kept, err := openOutbox(disk, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{
		chronicle: r.chronicle(t), logger: slog.New(slog.DiscardHandler), config: &Config{Name: "n0", MaxHeadAge: time.Hour}, genesis: r.cluster.Hash,
		changed: newBroadcast(), ahead: make(chan claim, keptClaims), cores: newCores(nil),
	}
	a.view.Store(&View{})
	a.identity.Store(&identity{held: map[ledger.Hash]*keys.PrivateKey{}, seqs: newSeqs(disk, "seqs", ledger.Hash{}, "this machine")})
	a.docket, a.judge = newDocket(a), newJudge(a)
	a.out = senderOf(a, kept)
	if _, err := r.follow(t, a.chronicle, r.entries[:entries], note); err != nil {
		t.Fatal(err)
	}
	return a
}

// bring gives an agent the rest, as replicas do.
func (r *reaching) bring(a *Agent) (*head, error) {
	for _, raw := range r.entries[r.first:] {
		if err := a.takeEntry(&client.Entry{Entry: raw}); err != nil {
			return nil, err
		}
	}
	return a.offerHead(r.note, true)
}

// claim is what a peer says by the newest head.
func (r *reaching) claim(t *testing.T, of mesh.Member) claim {
	t.Helper()
	head, err := r.chronicle(t).verifyHead(r.note)
	if err != nil {
		t.Fatal(err)
	}
	return claim{peer: of, head: head}
}

// Whoever brought a head is asked first, then others in turn, each a little later, until
// one has what it covers, a replica brought it, or enough were asked.
func TestReach(t *testing.T) {
	r := newReaching(t)
	whole := r.agent(t, len(r.entries), r.note)
	var others []mesh.Member
	for i := range 5 {
		others = append(others, memberOf(fmt.Sprint("other-", i)))
	}
	names := []string{"other-0", "other-1", "other-2", "other-3", "other-4"}
	reach := func(name string, n *neighbourhood, meanwhile func(a *Agent), check func(t *testing.T, a *Agent, took time.Duration, err error)) {
		a, c := r.agent(t, r.first, r.early), r.claim(t, memberOf("who showed it"))
		n.whole, a.near = whole.judge, n
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if meanwhile != nil {
					go meanwhile(a)
				}
				began := time.Now()
				err := a.reach(ctx, c)
				check(t, a, time.Since(began), err)
			})
		})
	}
	all := uint64(len(r.entries) + 1)

	n := &neighbourhood{peers: others, have: []string{"who showed it"}}
	reach("who showed it has it", n, nil, func(t *testing.T, a *Agent, took time.Duration, err error) {
		if err != nil || took != 0 || !slices.Equal(n.asked, []string{"who showed it"}) || a.certified() != all || a.View().Size != all {
			t.Errorf("%v after %s, asked %q, certified %d of %d", err, took, n.asked, a.certified(), all)
		}
	})
	some := &neighbourhood{peers: others, have: names[1:]}
	reach("some have it", some, nil, func(t *testing.T, a *Agent, took time.Duration, err error) {
		last := len(some.asked) - 1
		if err != nil || last < 1 || some.asked[0] != "who showed it" || !slices.Contains(some.have, some.asked[last]) || a.certified() != all {
			t.Errorf("%v, asked %q, certified %d of %d", err, some.asked, a.certified(), all)
		}
		if took != time.Duration(last)*replicaPatience {
			t.Errorf("%d were asked in %s", last+1, took)
		}
	})
	none := &neighbourhood{peers: others}
	reach("nobody has it", none, nil, func(t *testing.T, a *Agent, took time.Duration, err error) {
		if err != nil || len(none.asked) != maxReach || took != maxReach*replicaPatience || a.certified() == all {
			t.Errorf("%v after %s, asked %d times, certified %d", err, took, len(none.asked), a.certified())
		}
		turns := map[string]int{}
		for _, name := range none.asked[1:] {
			turns[name]++
		}
		if len(turns) < 2 || turns["who showed it"] > 0 {
			t.Errorf("asked %q", none.asked)
		}
	})
	slow := &neighbourhood{peers: others, after: time.Hour}
	reach("nobody answers", slow, nil, func(t *testing.T, a *Agent, took time.Duration, err error) {
		if err != nil || took > maxReach*(replicaPatience+peerSyncTimeout) || len(slow.asked) != maxReach {
			t.Errorf("%v after %s, asked %d times", err, took, len(slow.asked))
		}
	})
	alone := &neighbourhood{}
	reach("nobody else is there", alone, nil, func(t *testing.T, a *Agent, took time.Duration, err error) {
		if err != nil || len(alone.asked) != maxReach || slices.ContainsFunc(alone.asked, func(name string) bool { return name != "who showed it" }) {
			t.Errorf("%v, asked %q", err, alone.asked)
		}
	})
	late := &neighbourhood{peers: others}
	reach("a replica brings it", late, func(a *Agent) {
		time.Sleep(3*replicaPatience + time.Millisecond)
		_, _ = r.bring(a)
	}, func(t *testing.T, a *Agent, took time.Duration, err error) {
		if err != nil || len(late.asked) != 4 || took != 4*replicaPatience {
			t.Errorf("%v after %s, asked %q", err, took, late.asked)
		}
	})
}

// A head that a peer shows is left to the replicas for a moment, unless none answers; and
// while none does, a peer is asked from time to time without any.
func TestFollowPeers(t *testing.T) {
	r := newReaching(t)
	whole := r.agent(t, len(r.entries), r.note)
	all := uint64(len(r.entries) + 1)
	shown := memberOf("who showed it")
	follow := func(name string, answered, claimed bool, n *neighbourhood, check func(t *testing.T, a *Agent, began time.Time)) {
		a, c := r.agent(t, r.first, r.early), r.claim(t, shown)
		n.whole, a.near = whole.judge, n
		if answered {
			a.client = &client.Client{} // that nobody asks
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a.trouble.reached(time.Hour)
				a.ahead = make(chan claim, keptClaims) // of this bubble
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- a.followPeers(ctx) }()
				if claimed {
					a.ahead <- c
				}
				check(t, a, time.Now())
				cancel()
				if err := <-ended; err != context.Canceled {
					t.Errorf("it ends with %v", err)
				}
			})
		})
	}
	n := &neighbourhood{have: []string{shown.Name}}
	follow("no replica is configured", false, true, n, func(t *testing.T, a *Agent, _ time.Time) {
		synctest.Wait()
		if len(n.asked) != 1 || a.certified() != all {
			t.Errorf("asked %q, certified %d of %d", n.asked, a.certified(), all)
		}
	})
	patient := &neighbourhood{have: []string{shown.Name}}
	follow("replicas answer", true, true, patient, func(t *testing.T, a *Agent, began time.Time) {
		time.Sleep(time.Minute)
		if len(patient.asked) != 1 || patient.at[0].Sub(began) != replicaPatience || a.certified() != all {
			t.Errorf("asked %q, certified %d of %d", patient.asked, a.certified(), all)
		}
	})
	needless := &neighbourhood{have: []string{shown.Name}}
	follow("a replica is quicker", true, true, needless, func(t *testing.T, a *Agent, _ time.Time) {
		if _, err := r.bring(a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(needless.asked) != 0 || a.certified() != all {
			t.Errorf("asked %q, certified %d of %d", needless.asked, a.certified(), all)
		}
	})
	idle := &neighbourhood{peers: []mesh.Member{memberOf("other-0")}}
	follow("replicas answer, and nothing is ahead", true, false, idle, func(t *testing.T, a *Agent, began time.Time) {
		time.Sleep(time.Hour) // and then they do not
		before := len(idle.asked)
		time.Sleep(10*peerEvery + time.Millisecond)
		if got := len(idle.asked); before != 0 || got != 10 {
			t.Errorf("asked %d times while replicas answer, %d times in ten rounds without", before, got)
		}
	})
}

// Heads of peers that are ahead wait for their turn, a bounded number of them, and the same
// size not again before its signatures are fresher by a while. Who shows them never waits.
func TestHeadsThatAreAhead(t *testing.T) {
	r := newReaching(t)
	a := r.agent(t, r.first, r.early)
	began := time.Now().Add(-time.Hour)
	show := func(what string, note []byte, want mesh.Verdict, waiting int) {
		t.Helper()
		if got := a.judge.Head(memberOf("who showed it"), note); got != want || len(a.ahead) != waiting {
			t.Errorf("%s: verdict %v, %d wait; want %v and %d", what, got, len(a.ahead), want, waiting)
		}
	}
	show("what is certified here", r.certify(t, r.entries[:r.first], began), mesh.Accept, 0)
	note := r.certify(t, r.entries, began)
	show("what is ahead", note, mesh.Accept, 1)
	show("the same", note, mesh.Ignore, 1)
	show("signed a little later", r.certify(t, r.entries, began.Add(publishHeadEvery-time.Second)), mesh.Ignore, 1)
	for i := 1; i < keptClaims+4; i++ {
		show(fmt.Sprintf("signed anew %d times", i), r.certify(t, r.entries, began.Add(time.Duration(i)*publishHeadEvery)), mesh.Accept, min(i+1, keptClaims))
	}
	if c := <-a.ahead; c.peer.Name != "who showed it" || c.head.Size != uint64(len(r.entries)+1) {
		t.Errorf("%s waits with a head of %d", c.peer.Name, c.head.Size)
	}
	show("and there is room again", r.certify(t, r.entries, began.Add(50*publishHeadEvery)), mesh.Accept, keptClaims)
}
