package model

import (
	"slices"
	"time"

	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// The bounds of gossip/agent for statements of the next epoch, which wait for it.
const (
	maxEarly      = 16
	maxEarlyHop   = 4
	earlyPatience = 3 * time.Second
)

// early is an agent's statements that wait for their epoch. A function of one is
// called once: when the epoch has begun here.
type early struct {
	hops    map[int]int
	waiting map[string]*wait // by author
}

type wait struct {
	hop    int
	resume func()
}

// await has a statement wait for its epoch, if it is the next one and there is a place.
// Else it is ignored, and GossipSub shows it no more.
func (a *agent) await(hop int, st *ledger.Statement, resume func()) bool {
	view, e := a.view(), &a.early
	author, known := view.Author(st.KeyID)
	switch {
	case !known, len(author.Public) == 0: // nothing to verify it with
		a.w.rulings[gossip.UnknownAuthor]++
		return false
	case a.w.config.NoEarly || *st.Payload.Epoch != view.rules.Epoch+1:
		return false
	case len(e.waiting) >= maxEarly || e.hops[hop] >= maxEarlyHop || e.waiting[author.Name] != nil:
		a.w.boundary.crowded()
		return false
	}
	if e.hops == nil {
		e.hops, e.waiting = map[int]int{}, map[string]*wait{}
	}
	one := &wait{hop, resume}
	e.hops[hop]++
	e.waiting[author.Name] = one
	a.w.boundary.held(len(e.waiting))
	a.w.clock.after(earlyPatience, func() {
		if e.waiting[author.Name] == one {
			a.leave(author.Name)
		}
	})
	return true
}

func (a *agent) leave(author string) *wait {
	one := a.early.waiting[author]
	delete(a.early.waiting, author)
	if a.early.hops[one.hop]--; a.early.hops[one.hop] == 0 {
		delete(a.early.hops, one.hop)
	}
	return one
}

// enter is what an agent does whose view has come to the next epoch.
func (a *agent) enter() {
	a.w.boundary.entered(a)
	var authors []string
	for name := range a.early.waiting {
		authors = append(authors, name)
	}
	slices.Sort(authors)
	for _, name := range authors {
		a.leave(name).resume()
	}
}

// boundary is what is watched while an epoch begins. Its methods take nil for nobody
// watches.
type boundary struct {
	w       *world
	began   time.Duration // on the ledger
	in      []time.Duration
	speaks  map[*agent]bool                 // in the first moment of the epoch
	spoken  map[ledger.Hash]map[*agent]bool // who has each statement: by gossip (true), or from the ledger alone
	waits   int                             // statements that waited, at all agents
	most    int                             // at one agent at a time
	ignored int                             // because there was no place
}

func (b *boundary) crowded() {
	if b != nil {
		b.ignored++
	}
}

func (b *boundary) held(now int) {
	if b != nil {
		b.waits++
		b.most = max(b.most, now)
	}
}

// entered takes note of an agent that is in the epoch; some speak at once.
func (b *boundary) entered(a *agent) {
	if b == nil {
		return
	}
	b.in = append(b.in, a.w.clock.now-b.began)
	if b.speaks[a] {
		a.w.clock.after(signing, func() { b.speak(a) })
	}
}

// speak has an agent say something that must not be lost.
func (b *boundary) speak(a *agent) {
	tick := a.w.stamp() / a.view().rules.TickMillis
	about := a.w.agents[(a.number+1)%len(a.w.agents)]
	st := a.sign(ledger.TypeObserve, ledger.Observe{Counter: a.seq + 1, From: tick, Kind: ledger.LinkUp, Subject: about.member.Name, To: tick})
	b.spoken[st.ID] = map[*agent]bool{a: true}
	a.spread(st)
}

// heard takes note that gossip brought a statement, maybe after the ledger.
func (b *boundary) heard(a *agent, st *ledger.Statement) {
	if b != nil && b.spoken[st.ID] != nil {
		b.spoken[st.ID][a] = true
	}
}

func (b *boundary) learnt(a *agent, st *ledger.Statement) {
	if who := b.spoken[st.ID]; who != nil && !who[a] {
		who[a] = false
	}
}
