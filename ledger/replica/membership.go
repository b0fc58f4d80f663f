package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// membershipLoop brings Raft's configuration after the certified replica set,
// one step at a time, as leader.
func (r *Replica) membershipLoop(ctx context.Context, node *raft.Raft) error {
	timer := time.NewTicker(r.limits.Membership)
	defer timer.Stop()
	for {
		changed := r.changed.wait()
		if err := r.reconcile(ctx, node); err != nil && ctx.Err() == nil {
			r.log.Info("reconcile raft members", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			continue
		case <-changed:
		}
		// A change that touches no replica costs one comparison; more than one
		// look a tenth of a second is of no use.
		if !pause(ctx, r.limits.Membership/10) {
			return nil
		}
	}
}

// certifiedPin says whether the certified set has a replica under this pin still:
// its cosignature may be what its own removal, or rotation, waits for.
func (r *Replica) certifiedPin(p *peer) bool {
	sealed := r.shell.certified.Load()
	return sealed != nil && slices.ContainsFunc(sealed.state.Replicas(), func(one fsm.ReplicaRecord) bool { return one.Server() == p.id && one.TLSPin == p.TLSPin })
}

// step is one change of Raft's configuration.
type step struct {
	what    string // add, promote, remove, or "" for none
	id      raft.ServerID
	address raft.ServerAddress
}

// nextStep compares Raft's servers with the replica set. Whoever is removed or
// re-keyed goes first, since the new one may have its address; then one is
// added or promoted.
func nextStep(servers []raft.Server, set []fsm.ReplicaRecord) step {
	wanted := map[raft.ServerID]fsm.ReplicaRecord{}
	for _, one := range set {
		wanted[serverOf(one)] = one
	}
	have := map[raft.ServerID]raft.Server{}
	for _, s := range servers {
		have[s.ID] = s
		if _, ok := wanted[s.ID]; !ok {
			return step{"remove", s.ID, s.Address}
		}
	}
	for _, one := range set {
		id, address := serverOf(one), raft.ServerAddress(one.Peer)
		s, ok := have[id]
		switch {
		case !ok, s.Address != address && s.Suffrage == raft.Nonvoter:
			return step{"add", id, address}
		case one.Standing == fsm.ReplicaActive && s.Suffrage != raft.Voter, s.Address != address:
			return step{"promote", id, address}
		}
	}
	return step{}
}

func (r *Replica) reconcile(ctx context.Context, node *raft.Raft) error {
	sealed := r.shell.certified.Load()
	if sealed == nil || sealed.state.Meta().Generation != r.shell.now.Load().state.Meta().Generation {
		return nil // those of the generation before are not coming back
	}
	future := node.GetConfiguration()
	if err := future.Error(); err != nil {
		return err
	}
	servers, index := future.Configuration().Servers, future.Index()
	next := nextStep(servers, r.cfg.Hooks.members(sealed.state.Replicas()))
	if next.what == "" {
		return nil
	}
	var change func() raft.Future
	switch next.what {
	case "remove":
		if next.id == raft.ServerID(r.id.String()) {
			r.log.Info("removed from the ledger: leadership handed on")
			return r.futures.do(ctx, node.LeadershipTransfer)
		}
		if !r.keepsQuorum(servers, next.id) {
			return fmt.Errorf("remove %s: too few voters would be within reach", next.id)
		}
		change = func() raft.Future { return node.RemoveServer(next.id, index, r.limits.PeerTimeout) }
	case "add":
		change = func() raft.Future { return node.AddNonvoter(next.id, next.address, index, r.limits.PeerTimeout) }
	case "promote":
		change = func() raft.Future { return node.AddVoter(next.id, next.address, index, r.limits.PeerTimeout) }
	}
	if err := r.futures.do(ctx, change); err != nil {
		return fmt.Errorf("%s %s: %w", next.what, next.id, err)
	}
	r.log.Info("raft member changed", "step", next.what, "id", string(next.id), "address", string(next.address))
	r.changed.fire()
	return nil
}

// keepsQuorum says whether a majority of the voters that remain is within
// reach.
func (r *Replica) keepsQuorum(servers []raft.Server, without raft.ServerID) bool {
	voters, reachable := 0, 0
	for _, s := range servers {
		if s.ID == without || s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == raft.ServerID(r.id.String()) {
			reachable++
			continue
		}
		if p := r.pins.now.Load().byServer(s.ID); p != nil && r.peers.contact(p.id).reachable {
			reachable++
		}
	}
	return voters > 0 && reachable > voters/2
}
