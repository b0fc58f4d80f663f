package readertest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// happened takes note of what an effect says about keys.
func (r *Reader) happened(effect *ledger.Effect) error {
	switch effect.Type {
	case "alarm":
		return r.alarm(effect)
	case "replica.active":
		var body struct {
			Key  ledger.Hash `json:"key"`
			Name string      `json:"name"`
		}
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return err
		}
		delete(r.joining, body.Name)
	case "epoch":
		r.checkAlarms()
		var body epochBody
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return err
		}
		r.begins(&body)
	case "executed":
		r.checkAlarms()
		var body struct {
			Action   string      `json:"action"`
			DueAt    uint64      `json:"due_at,omitempty"`
			Proposal ledger.Hash `json:"proposal"`
			Reason   string      `json:"reason,omitempty"`
		}
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return err
		}
		p, ok := r.proposals[body.Proposal]
		if !ok || p.action != body.Action {
			return fmt.Errorf("nobody proposed %s as %s", body.Action, body.Proposal)
		}
		return r.decided(p.action, p.args)
	case "quarantined", "excluded", "released":
		var body struct {
			Name       string `json:"name"`
			Reason     string `json:"reason"`
			Reputation uint64 `json:"reputation"`
			Stay       uint64 `json:"stay,omitempty"`
			Strikes    uint64 `json:"strikes,omitempty"`
		}
		if err := canon.Unmarshal(effect.Body, &body); err != nil {
			return err
		}
		standing := effect.Type
		if standing == "released" {
			standing = active
		}
		r.stands(body.Name, standing)
	}
	return nil
}

func (r *Reader) stands(name, standing string) {
	n, ok := r.Nodes[name]
	if !ok {
		r.complain("%s is %s and no node", name, standing)
		return
	}
	n.Standing = standing
	r.Nodes[name] = n
}

// decided does what a decision does to keys.
func (r *Reader) decided(action string, args []byte) error {
	switch action {
	case "node.admit":
		return decide(args, func(a struct {
			Joins []ledger.Hash `json:"joins"`
		}) {
			for _, id := range a.Joins {
				r.admit(id)
			}
		})
	case "node.rekey":
		return decide(args, func(a struct {
			From *uint64     `json:"from,omitempty"`
			Join ledger.Hash `json:"join"`
		}) {
			j := r.joins[a.Join]
			old := r.Nodes[j.Name]
			r.end(old, r.since(a.From))
			r.admit(a.Join)
			r.stands(j.Name, old.Standing)
		})
	case "node.remove":
		return decide(args, func(a struct {
			From *uint64 `json:"from,omitempty"`
			Name string  `json:"name"`
		}) {
			r.end(r.Nodes[a.Name], r.since(a.From))
			delete(r.Nodes, a.Name)
		})
	case "key.revoke":
		return decide(args, func(a struct {
			From   uint64      `json:"from"`
			Key    ledger.Hash `json:"key"`
			Reason string      `json:"reason"`
		}) {
			r.revokeFrom(a.Key, a.From)
		})
	case "node.quarantine", "node.release":
		return decide(args, func(a struct {
			Name   string `json:"name"`
			Reason string `json:"reason"`
		}) {
			r.stands(a.Name, map[string]string{"node.quarantine": quarantined, "node.release": active}[action])
		})
	case "ledger.freeze", "ledger.unfreeze":
		r.frozen = action == "ledger.freeze"
	case "operator.add":
		return decide(args, func(a struct {
			Name    string `json:"name"`
			Sponsor string `json:"sponsor,omitempty"`
		}) {
			r.sponsors[a.Name] = a.Sponsor
		})
	case "policy.change":
		return decide(args, func(a struct {
			Policy ledger.Policy `json:"policy"`
		}) {
			r.takePolicy(&a.Policy)
		})
	case "format.upgrade":
		return decide(args, func(a struct {
			Format uint64 `json:"format"`
		}) {
			r.Format = a.Format
		})
	}
	return r.reseated(action, args)
}

// reseated does what decisions do to the keys of those who are no nodes.
func (r *Reader) reseated(action string, args []byte) error {
	switch action {
	case "council.change":
		return decide(args, func(a struct {
			Add    []ledger.Member `json:"add,omitempty"`
			Remove []string        `json:"remove,omitempty"`
		}) {
			r.council(a.Remove, a.Add)
		})
	case "council.reseat":
		return decide(args, func(a struct {
			Council []ledger.Member `json:"council"`
		}) {
			r.council(slices.Collect(maps.Keys(r.names[governor])), a.Council)
		})
	case "replica.add", "replica.rekey":
		return decide(args, func(a struct {
			From    *uint64        `json:"from,omitempty"`
			Replica ledger.Replica `json:"replica"`
		}) {
			if action == "replica.rekey" {
				r.unseat(replica, a.Replica.Name, a.From)
			}
			r.seatReplica(a.Replica)
			r.joining[a.Replica.Name] = true
		})
	case "replica.remove":
		return decide(args, func(a struct {
			Cause bool    `json:"cause,omitempty"`
			From  *uint64 `json:"from,omitempty"`
			Name  string  `json:"name"`
		}) {
			r.unseat(replica, a.Name, a.From)
		})
	case ledger.TypeRecover:
		return decide(args, func(a ledger.Recover) {
			for _, name := range slices.Collect(maps.Keys(r.names[replica])) {
				if !slices.Contains(a.Keep, name) {
					r.unseat(replica, name, nil)
				}
			}
			for _, one := range a.New {
				r.seatReplica(one)
				r.joining[one.Name] = true
			}
		})
	}
	return nil
}

func decide[A any](raw []byte, do func(A)) error {
	var args A
	if err := canon.Unmarshal(raw, &args); err != nil {
		return err
	}
	do(args)
	return nil
}

// since is the epoch from which a decision ends a key: the present one unless it says.
func (r *Reader) since(from *uint64) uint64 {
	if from != nil {
		return *from
	}
	return r.Epoch
}

// admit seats the node of a join.
func (r *Reader) admit(id ledger.Hash) {
	j, ok := r.joins[id]
	if !ok {
		r.complain("join %s is admitted and was never said", id)
		return
	}
	key := ledger.Hash(sha256.Sum256(j.Public))
	if k, known := r.Keys[key]; known {
		r.complain("%s is seated under a key that was %s's", j.Name, k.Holder)
	}
	r.seats++
	r.Keys[key] = Key{Holder: j.Name, Role: node, Seat: r.seats, From: r.Epoch, To: r.Epoch + r.keyEpochs}
	r.Nodes[j.Name] = Seated{Key: key, Standing: active}
	r.people[j.Name] = person{operator: j.Operator}
}

// council replaces governors. Who leaves and comes back under the same key keeps it.
func (r *Reader) council(leaving []string, coming []ledger.Member) {
	for _, name := range leaving {
		id := r.names[governor][name]
		delete(r.names[governor], name)
		if !slices.ContainsFunc(coming, func(m ledger.Member) bool { return m.KeyID() == id }) {
			r.revoke(id, r.Epoch)
		}
	}
	for _, m := range coming {
		r.seatMember(m)
	}
}
