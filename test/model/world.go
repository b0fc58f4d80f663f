package model

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip"
	"github.com/quorate/quorate/ledger"
)

// Config is one run of the model.
type Config struct {
	Nodes       int
	Seed        uint64
	Loss        float64 // of frames of gossip, for good; of others, until they are sent again
	Withholding bool    // a third of the operators' nodes and one replica of four say and relay nothing
	Alone       float64 // share of the honest agents that reach no replica
	AskAgain    bool    // whoever is behind a head that it saw asks another peer each replicaPatience
	NoRepair    bool    // planted: nobody offers what it has, nor asks a peer for what it lacks
	NoEarly     bool    // planted: what is said in the next epoch does not wait for it
}

func (c Config) String() string {
	who := "all relay"
	if c.Withholding {
		who = "a third withholds"
	}
	return fmt.Sprintf("%d nodes, seed %d, %g %% loss, %s", c.Nodes, c.Seed, 100*c.Loss, who)
}

// world is one fleet in virtual time.
type world struct {
	config    Config
	clock     *clock
	random    *rand.Rand
	net       *network
	gossip    *gossipsub
	book      *book
	core      *core
	agents    []*agent
	operators int
	bad       int // operators, from the first on, that withhold
	began     uint64
	codes     map[fsm.Code]int
	rulings   map[gossip.Reason]int
	boundary  *boundary                            // what is watched when an epoch begins; nil: nothing
	learnt    func(a *agent, st *ledger.Statement) // an agent has a certified statement; nil: nobody asks
	headOf    map[headName]*message
	published int // heads, by whomever
}

func newWorld(config Config, b *book) *world {
	operators := operatorsOf(config.Nodes)
	w := &world{
		config: config, clock: &clock{}, random: rand.New(rand.NewPCG(config.Seed, uint64(config.Nodes))), operators: operators,
		book: b, began: b.Now, codes: map[fsm.Code]int{}, rulings: map[gossip.Reason]int{}, headOf: map[headName]*message{},
	}
	if config.Withholding {
		w.bad = operators / 3
	}
	w.net = newNetwork(w.clock, w.random, config.Nodes, replicas, config.Loss)
	stables := make([]int, config.Nodes)
	for i, m := range b.Fleet {
		stables[i] = m.Stable
	}
	w.gossip = newGossipsub(w.net, stables)
	w.gossip.repair = !config.NoRepair
	w.gossip.silent = func(i int) bool { return w.agents[i].silent }
	w.gossip.judge = func(i, from int, m *message, pass func()) { w.agents[i].hear(from, m, pass) }
	w.core = &core{w: w, withholding: config.Withholding, versions: []version{{view: newView(b.State)}}, lastSeal: -sealInterval}
	w.core.ordered, w.core.where = map[ledger.Hash]bool{}, map[ledger.Hash]int{}
	for i, m := range b.Fleet {
		a := &agent{w: w, number: i, member: m, silent: m.Stable < w.bad, replica: w.random.IntN(replicas), enforcing: never, certain: never}
		a.judge = gossip.NewJudge(m.Name, b.State.Epoch())
		if !a.silent && w.random.Float64() < config.Alone {
			a.replica = none
		}
		if a.replica != none && !a.silent {
			w.core.followers[a.replica] = append(w.core.followers[a.replica], i)
		}
		w.agents = append(w.agents, a)
	}
	return w
}

// stamp is the time on the ledger's clock, in milliseconds.
func (w *world) stamp() uint64 { return w.began + uint64(w.clock.now.Milliseconds()) }

func (w *world) between(least, spread time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(spread)))
}

// head is the message that carries a head: whoever publishes it, the content is
// the same.
func (w *world) head(h headName) *message {
	m, ok := w.headOf[h]
	if !ok {
		m = w.gossip.message(topicHeads, w.book.slimHead, h)
		w.headOf[h] = m
	}
	return m
}
