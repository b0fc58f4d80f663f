package model

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// Rotations is a fleet whose nodes rotate their keys: what a rotation costs each node
// until all know the key that is to follow, and what happens to statements that are
// said around the beginning of the epoch in which the new keys take effect.
type Rotations struct {
	Config Config
	Honest int
	Due    int           // nodes that rotate in the epoch
	Said   int           // of these, by agents in the model; the others are put on the ledger without traffic
	Slice  time.Duration // of the epoch, that was modelled

	// From the moment in which an agent says its rotation, to the certified view of each
	// agent that has it: of all agents and rotations.
	Half, Most, All time.Duration
	Left            int            // pairs of agent and rotation that were not known in the end
	Sent, Received  float64        // bytes of an honest agent on average, for one rotation
	By              [kinds]float64 // bytes sent, of Sent
	Busiest         float64        // of the replicas: its uplink's load while rotations were said
	Refused         int            // by the rules

	// The beginning of the epoch in which all keys take effect.
	First, Last    time.Duration // from its beginning on the ledger, until the first and the last agent are in it
	Spoken         int           // statements, half under old keys just before, half under new ones at once
	Held, MostHeld int           // that waited for their epoch, at all agents; at one at a time
	NoPlace        int           // that were early and found no place
	Unknown        int           // rulings that nobody holds a key, of the whole run
	NotValid       int           // rulings that a key is out of its range
	ByLedger       int           // pairs of agent and statement that gossip did not bring, and the ledger did
	Lost           int           // pairs of which neither did
}

// Rotating says how a fleet rotates.
type Rotating struct {
	Every int           // of the nodes that are due in the slice, each so many-th says so in the model; 0: all
	Slice time.Duration // of the epoch, from its middle on; 0: the whole epoch
	// Speakers is how many nodes speak at the boundary, each under its old key just before
	// and under its new one at once; 0: as many as there are, at most 60.
	Speakers int
}

// rotationBook is a ledger on which all nodes' keys are due in one epoch, which is
// the next one.
func rotationBook(nodes int) (*book, error) {
	b, err := newBook(nodes, operatorsOf(nodes), func(g *ledger.Genesis) {
		keys := ledger.DefaultKeys()
		keys.RotateEpochs, keys.LateEpochs = 2, 1
		g.Policy.Keys, g.Policy.KeyEpochs = &keys, g.Policy.Protects().AttestEpochs+3
	})
	if err != nil {
		return nil, err
	}
	if err := b.nextEpoch(); err != nil {
		return nil, err
	}
	return b, b.Apply(ledger.CommandSeal)
}

// dueIn lists the nodes by the time at which they are due, after the epoch's beginning.
func (b *book) dueIn() (at []time.Duration, err error) {
	meta, policy := b.State.Meta(), b.State.Policy()
	rules := policy.KeyRules()
	for _, m := range b.Fleet {
		n, _ := b.State.Node(m.Name)
		due := gossip.RotationDue(meta.Ledger, n.Name, n.Ordinal, n.ValidTo, rules.RotateEpochs, rules.LateEpochs)
		if due.Epoch != meta.Epoch {
			return nil, fmt.Errorf("%s is due in epoch %d, not %d", n.Name, due.Epoch, meta.Epoch)
		}
		at = append(at, time.Duration(policy.EpochMillis*due.At/10_000)*time.Millisecond)
	}
	return at, nil
}

// settling is how long a run goes on after the last rotation was said: at 5,000 nodes
// the replicas' uplinks have much to send.
const settling = 90 * time.Second

// Rotate runs the epoch in which a fleet rotates, and the beginning of the one in which
// the keys take effect.
func Rotate(config Config, how Rotating) (*Rotations, error) {
	config.AskAgain = true
	b, err := rotationBook(config.Nodes)
	if err != nil {
		return nil, err
	}
	out := &Rotations{Config: config, Due: config.Nodes}
	if err := out.announce(b, how); err != nil {
		return nil, err
	}
	if err := b.nextEpoch(); err != nil {
		return nil, err
	}
	if err := b.Apply(ledger.CommandSeal); err != nil {
		return nil, err
	}
	return out, out.turn(b, cmp.Or(how.Speakers, mostSpeakers))
}

// announce lets the fleet say its rotations, and leaves the book with all of them.
func (r *Rotations) announce(b *book, how Rotating) error {
	at, err := b.dueIn()
	if err != nil {
		return err
	}
	meta, length := b.State.Meta(), time.Duration(b.State.Policy().EpochMillis)*time.Millisecond
	from, to := time.Duration(0), length
	if how.Slice > 0 {
		from, to = length/2, length/2+how.Slice
	}
	r.Slice = to - from
	b.Now = meta.EpochStart + uint64(from.Milliseconds())
	w := newWorld(r.Config, b)
	r.Honest = w.wake()
	var before, after []string // who is put on the ledger without traffic
	inSlice := 0
	said := map[ledger.Hash]time.Duration{}
	for i, a := range w.agents {
		switch {
		case a.silent:
			continue
		case at[i] >= to:
			after = append(after, a.member.Name)
			continue
		case at[i] >= from:
			if inSlice++; how.Every == 0 || inSlice%how.Every == 0 {
				r.Said++
				w.clock.at(at[i]-from, func() {
					st := a.sign(ledger.TypeRotate, w.book.Rotation(a.member.Name))
					said[st.ID] = w.clock.now
					w.clock.after(signing, func() { a.spread(st) })
				})
				continue
			}
		}
		before = append(before, a.member.Name)
	}
	if err := b.rotate(before); err != nil {
		return err
	}
	w.core.versions[0].view = newView(b.State)
	var known []time.Duration
	w.learnt = func(a *agent, st *ledger.Statement) {
		if at, ok := said[st.ID]; ok && !a.silent {
			known = append(known, w.clock.now-at)
		}
	}
	w.clock.run(r.Slice+settling, nil)
	r.count(w, known)
	return b.rotate(after)
}

// rotate puts rotations on the ledger, without a network.
func (b *book) rotate(names []string) error {
	for some := range slices.Chunk(names, directly) {
		var statements [][]byte
		for _, name := range some {
			s, err := b.Say(name, ledger.TypeRotate, b.Rotation(name))
			if err != nil {
				return err
			}
			statements = append(statements, s)
		}
		if err := b.Apply(ledger.CommandStatements, statements...); err != nil {
			return err
		}
		if err := b.Apply(ledger.CommandSeal); err != nil {
			return err
		}
	}
	return nil
}

const directly = 64 // rotations in a command

// wake has all agents do what they do at rest, and says how many are honest.
func (w *world) wake() (honest int) {
	for _, a := range w.agents {
		if a.silent {
			continue
		}
		honest++
		if a.replica != none {
			w.clock.after(time.Duration(w.random.Int64N(int64(refreshEvery))), a.refresh)
		} else {
			w.clock.after(time.Duration(w.random.Int64N(int64(peerEvery))), a.poll)
		}
	}
	return honest
}

// count takes what the rotations cost from a world in which they were said.
func (r *Rotations) count(w *world, known []time.Duration) {
	slices.Sort(known)
	pairs := r.Honest * r.Said
	r.Left = pairs - len(known)
	at := func(share int) time.Duration {
		if n := (pairs*share + 99) / 100; n > 0 && n <= len(known) {
			return known[n-1]
		}
		return never
	}
	r.Half, r.Most, r.All = at(50), at(99), at(100)
	each := float64(r.Honest * max(r.Said, 1))
	for i, a := range w.agents {
		if a.silent {
			continue
		}
		for k := range refreshing { // what costs as much without rotations is left out
			r.By[k] += float64(w.net.sent[i][k]) / each
			r.Sent += float64(w.net.sent[i][k]) / each
			r.Received += float64(w.net.received[i][k]) / each
		}
	}
	for i := w.net.agents; i < len(w.net.sent); i++ {
		sum := 0.0
		for k := range refreshing {
			sum += float64(w.net.sent[i][k])
		}
		r.Busiest = max(r.Busiest, sum/(coreUplink*r.Slice.Seconds()))
	}
	r.add(w)
}

// add counts what no run should see.
func (r *Rotations) add(w *world) {
	r.Unknown += w.rulings[gossip.UnknownAuthor]
	r.NotValid += w.rulings[gossip.NotValid]
	for code, n := range w.codes {
		if code != fsm.OK {
			r.Refused += n
		}
	}
}

const (
	turning      = 5 * time.Second        // before the epoch begins
	justBefore   = 300 * time.Millisecond // who speaks under the old key does so at most so long before
	afterTurning = time.Minute
	mostSpeakers = 60
)

// turn runs the beginning of the epoch in which all keys take effect.
func (r *Rotations) turn(b *book, speakers int) error {
	meta, policy := b.State.Meta(), b.State.Policy()
	b.Now = meta.EpochStart + policy.EpochMillis - uint64(turning.Milliseconds())
	w := newWorld(r.Config, b)
	w.wake()
	seen := &boundary{w: w, began: turning, speaks: map[*agent]bool{}, spoken: map[ledger.Hash]map[*agent]bool{}}
	w.boundary, w.learnt = seen, seen.learnt
	for _, i := range w.random.Perm(len(w.agents)) {
		a := w.agents[i]
		n, _ := b.State.Node(a.member.Name)
		if a.silent || n.Next == nil || len(seen.speaks) == speakers {
			continue
		}
		seen.speaks[a] = true
		w.clock.at(turning-time.Duration(w.random.Int64N(int64(justBefore))), func() { seen.speak(a) })
	}
	w.clock.at(turning, func() { w.core.planSeal(w.core.apply(ledger.CommandTick).Urgent) })
	w.clock.run(turning+afterTurning, nil)
	if b.State.Epoch() != meta.Epoch+1 {
		return fmt.Errorf("%v: it is epoch %d", r.Config, b.State.Epoch())
	}
	for a := range seen.speaks {
		if n, _ := b.State.Node(a.member.Name); n.ValidFrom != meta.Epoch+1 {
			return fmt.Errorf("%v: %s has no new key", r.Config, n.Name)
		}
	}
	r.Held, r.MostHeld, r.NoPlace, r.Spoken = seen.waits, seen.most, seen.ignored, len(seen.spoken)
	r.First, r.Last = never, never
	if len(seen.in) > 0 {
		r.First = seen.in[0]
	}
	if len(seen.in) == r.Honest {
		r.Last = seen.in[len(seen.in)-1]
	}
	for _, heard := range seen.spoken {
		for _, a := range w.agents {
			byGossip, there := heard[a]
			switch {
			case a.silent:
			case !there:
				r.Lost++
			case !byGossip:
				r.ByLedger++
			}
		}
	}
	r.add(w)
	return nil
}

// RotationColumns heads the lines of a table of fleets that rotate.
const RotationColumns = `| nodes | rotate in an epoch | loss | withhold | sent / received by a node for one, kB | of it sent as statements, heads, control, following and submitting | load of a replica's uplink | 50 % know the key, ms | 99 % | all | in the new epoch: first / last, ms | spoke | held (at one) | no place | by the ledger | unknown author | refused | lost |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|`

// String is a line of the table.
func (r *Rotations) String() string {
	loss, who := fmt.Sprintf("%g %%", 100*r.Config.Loss), "none"
	if r.Config.Withholding {
		who = "a third"
	}
	return fmt.Sprintf("| %d | %d in %s | %s | %s | %s / %s | %s, %s, %s, %s | %.0f %% | %s | %s | %s | %s / %s | %d | %d (%d) | %d | %d | %d | %d | %d |",
		r.Config.Nodes, r.Said, r.Slice, loss, who, kilobytes(r.Sent), kilobytes(r.Received), kilobytes(r.By[statements]), kilobytes(r.By[heads]),
		kilobytes(r.By[control]), kilobytes(r.By[following]+r.By[submitting]), 100*r.Busiest, inMillis(r.Half), inMillis(r.Most), inMillis(r.All),
		inMillis(r.First), inMillis(r.Last), r.Spoken, r.Held, r.MostHeld, r.NoPlace, r.ByLedger, r.Unknown+r.NotValid, r.Refused, r.Left+r.Lost)
}
