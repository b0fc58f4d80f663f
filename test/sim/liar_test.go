package sim

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/replica"
)

// twoFaced makes a replica lie whenever it leads: one follower gets other
// commands than the rest, at the same indexes and terms, and the commit index to
// match. That follower applies and cosigns a history of its own. In the count of
// cosignatures (checks.signed) a liar stands under every head there is.
func twoFaced(w *world, name, victim string) *atomic.Int64 {
	lies := &atomic.Int64{}
	n := w.named(name)
	n.hooks = func(h *replica.Hooks) {
		inner := h.Transport
		h.Transport = func(g replica.GuardedTransport) replica.GuardedTransport {
			return &forked{GuardedTransport: inner(g), victim: raft.ServerID(w.named(victim).key.ID().String()), lies: lies}
		}
	}
	return lies
}

type forked struct {
	replica.GuardedTransport
	victim raft.ServerID
	lies   *atomic.Int64
}

func (f *forked) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if id != f.victim {
		return f.GuardedTransport.AppendEntries(id, target, args, resp)
	}
	lie := *args
	lie.Entries = nil
	for _, entry := range args.Entries {
		other := *entry
		if c, err := ledger.ParseCommand(entry.Data); entry.Type == raft.LogCommand && err == nil {
			c.Stamp++
			other.Data = c.Encode()
			f.lies.Add(1)
		}
		lie.Entries = append(lie.Entries, &other)
	}
	return f.GuardedTransport.AppendEntries(id, target, &lie, resp)
}

// leads hands leadership to a replica, again and again while the world lasts.
func leads(w *world, name string) {
	w.watched.Go(func() {
		for w.sleep(30 * time.Second) {
			leader := w.leader()
			if leader == nil || leader.name() == name {
				continue
			}
			if p := leader.running(); p != nil {
				ctx, cancel := context.WithTimeout(context.Background(), readLimit)
				_ = p.replica.TransferLeadership(ctx, name)
				cancel()
			}
		}
	})
}

// One liar of four, under faults: nothing inconsistent can be certified, and
// nothing that was certified is lost.
func TestOneLiarOfFour(t *testing.T) {
	p := draw(*flagSeed+1000, 4, time.Hour)
	p.Liars = []string{"r1"}
	p.Faults = slices.DeleteFunc(p.Faults, func(f fault) bool { return changes(f.Kind) }) // the count of liars stands for one set
	var lies *atomic.Int64
	res := run(t, p, newRecorder(p, nil), func(w *world) {
		w.checks.liars["r1"] = true
		lies = twoFaced(w, "r1", "r2")
		leads(w, "r1")
	})
	t.Log(res, lies.Load())
	if res.violation != nil {
		t.Errorf("seed %d: %v", p.Seed, res.violation)
	}
	if lies.Load() == 0 {
		t.Error("the liar told no lie")
	}
}
