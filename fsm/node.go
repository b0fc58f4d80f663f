package fsm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

type admitArgs struct {
	Joins []ledger.Hash `json:"joins"`
}

type nodeRekeyArgs struct {
	From *uint64     `json:"from,omitempty"` // epoch from which the key before is revoked; from format 3 on
	Join ledger.Hash `json:"join"`
}

type nodeArgs struct {
	From *uint64 `json:"from,omitempty"` // as of node.rekey
	Name string  `json:"name"`
}

type nodeReasonArgs struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// join is the statement join: a node asks to be admitted, or a node of the
// ledger for another key. It waits for a decision until it expires.
func (t *transition) join(st *ledger.Statement, a author) *problem {
	body, err := ledger.DecodeBody[ledger.Join](st)
	if err != nil {
		return fromStatementError(err)
	}
	if t.meta.Frozen != "" {
		return refuse(Frozen, "", t.meta.Frozen)
	}
	if len(body.Peer) != ed25519.PublicKeySize {
		return refuse(BadField, "body.peer", "want 32 bytes of Ed25519 public key")
	}
	if p := t.checkOperator("body.operator", body.Operator); p != nil {
		return p
	}
	if _, taken := t.Key(st.KeyID); taken {
		return refuse(KeyTaken, "body.public", "the key has or had a role")
	}
	if t.named(body.Name) {
		n, ok := t.Node(body.Name)
		if !ok {
			return refuse(NameTaken, "body.name", fmt.Sprintf("%s is in use", body.Name))
		}
		if n.Operator != body.Operator {
			return refuse(WrongOperator, "body.operator", fmt.Sprintf("%s belongs to %s", n.Name, n.Operator))
		}
	}
	if p := t.checkNonce(st, a.nonceSpace(st)); p != nil {
		return p
	}
	if t.count(countJoins) >= maxPendingJoins || t.count(countOperatorJoins(body.Operator)) >= maxOperatorJoins {
		return refuse(TooManyJoins, "", fmt.Sprintf("at most %d joins wait, %d of one operator", maxPendingJoins, maxOperatorJoins))
	}

	seq := t.append(ledger.KindStatement, st.Envelope)
	t.useNonce(st, a.nonceSpace(st), seq)
	t.put(joinOf(st.ID), &JoinRecord{Expires: st.Payload.Expires, ID: st.ID, Join: body, Seq: seq})
	return nil
}

// admitNodes is node.admit: all the joins, or none.
func (t *transition) admitNodes(args admitArgs, _ occasion) *problem {
	if len(args.Joins) < 1 || len(args.Joins) > ledger.MaxJoins {
		return refuse(BadField, "body.args.joins", fmt.Sprintf("want 1 to %d joins", ledger.MaxJoins))
	}
	if t.count(countNodes)+uint64(len(args.Joins)) > maxNodes {
		return refuse(TooManySeats, "body.args.joins", fmt.Sprintf("at most %d nodes", maxNodes))
	}
	if t.protects() && t.protection().Ordinals+uint64(len(args.Joins)) > maxOrdinal {
		return refuse(TooManySeats, "body.args.joins", fmt.Sprintf("at most %d admissions", maxOrdinal))
	}
	governed := t.councilOperators()
	joins := make([]*JoinRecord, len(args.Joins))
	names, ids := map[string]bool{}, map[ledger.Hash]bool{}
	for i, id := range args.Joins {
		path := fmt.Sprintf("body.args.joins[%d]", i)
		join, p := t.waitingJoin(path, id)
		if p != nil {
			return p
		}
		j := join.Join
		if names[j.Name] || t.named(j.Name) {
			return refuse(NameTaken, path, fmt.Sprintf("%s is in use", j.Name))
		}
		if key := keyIDOf(j); ids[key] {
			return refuse(KeyTaken, path, "the key appears twice")
		} else if _, taken := t.Key(key); taken {
			return refuse(KeyTaken, path, "the key has or had a role")
		}
		if p := t.checkOperator(path, j.Operator); p != nil {
			return p
		}
		if t.consenter(j.Operator, governed) == "" {
			return refuse(OperatorWithoutConsent, path, fmt.Sprintf("%s has neither a governor nor a sponsor with one", j.Operator))
		}
		names[j.Name], ids[keyIDOf(j)] = true, true
		joins[i] = join
	}
	for _, join := range joins {
		t.seatNode(join)
		t.enrolNode(join.Join.Name)
	}
	if t.protects() && t.meta.Epoch == 0 {
		t.elect() // founders begin at once
	}
	return nil
}

func (v *view) waitingJoin(path string, id ledger.Hash) (*JoinRecord, *problem) {
	join, ok := lookup[JoinRecord](v, joinOf(id))
	if !ok {
		return nil, refuse(UnknownJoin, path, fmt.Sprintf("no join %s waits", id))
	}
	return join, nil
}

func (t *transition) seatNode(join *JoinRecord) {
	j := join.Join
	t.put(tableNode+j.Name, &NodeRecord{
		Admitted:  t.meta.Epoch,
		Key:       keyIDOf(j),
		Name:      j.Name,
		Operator:  j.Operator,
		Peer:      j.Peer,
		Public:    j.Public,
		Since:     t.next,
		Standing:  NodeActive,
		ValidFrom: t.meta.Epoch,
		ValidTo:   t.meta.Epoch + t.policy.KeyEpochs,
		Version:   t.next,
	})
	t.seatKey(j.Public, j.Name, RoleNode, KeyAdmitted)
	t.remove(joinOf(join.ID))
}

// enrolNode gives a node that was admitted its ordinal and reputation.
func (t *transition) enrolNode(name string) {
	if !t.protects() {
		return
	}
	n, ok := lookup[NodeRecord](&t.view, tableNode+name)
	invariant(ok, "a node that was seated is there")
	next := *n
	t.enrol(&next, t.meta.Epoch == 0)
	t.put(tableNode+name, &next)
}

// rekeyedNode is the tables of node.rekey: the node that the join names.
func (v *view) rekeyedNode(raw canon.Raw) ([]string, *problem) {
	args, p := decodeArgs[nodeRekeyArgs](raw)
	if p != nil {
		return nil, p
	}
	join, p := v.waitingJoin("body.args.join", args.Join)
	if p != nil {
		return nil, p
	}
	return []string{tableNode + join.Join.Name}, nil
}

// rekeyNode is node.rekey: a node of the ledger gets the key of its join. Its
// standing stays: another key does not end a quarantine.
func (t *transition) rekeyNode(args nodeRekeyArgs, _ occasion) *problem {
	join, p := t.waitingJoin("body.args.join", args.Join)
	if p != nil {
		return p
	}
	j := join.Join
	old, ok := lookup[NodeRecord](&t.view, tableNode+j.Name)
	if !ok {
		return refuse(UnknownNode, "body.args.join", fmt.Sprintf("there is no node %q", j.Name))
	}
	if old.Operator != j.Operator {
		return refuse(WrongOperator, "body.args.join", fmt.Sprintf("%s belongs to %s", j.Name, old.Operator))
	}
	if _, taken := t.Key(keyIDOf(j)); taken {
		return refuse(KeyTaken, "body.args.join", "the key has or had a role")
	}
	if t.consenter(j.Operator, t.councilOperators()) == "" {
		return refuse(OperatorWithoutConsent, "body.args.join", fmt.Sprintf("%s has neither a governor nor a sponsor with one", j.Operator))
	}
	from, p := t.revokedFrom(args.From, old.ValidFrom)
	if p != nil {
		return p
	}
	t.dropKeys(old, KeyRekeyed, from)
	t.seatNode(join)
	t.follow(old.Key, keyIDOf(j))
	fresh, ok := lookup[NodeRecord](&t.view, tableNode+j.Name)
	invariant(ok, "a node that was seated is there")
	next := *fresh
	next.Admitted, next.Standing, next.Reason, next.Ordinal = old.Admitted, old.Standing, old.Reason, old.Ordinal
	next.Elector = old.Elector
	t.put(tableNode+j.Name, &next)
	return nil
}

// keyIDOf is the id of the key that a join asks for.
func keyIDOf(j ledger.Join) ledger.Hash { return sha256.Sum256(j.Public) }

// removeNode is node.remove.
func (t *transition) removeNode(args nodeArgs, _ occasion) *problem {
	old, p := t.namedNode(args.Name)
	if p != nil {
		return p
	}
	from, p := t.revokedFrom(args.From, old.ValidFrom)
	if p != nil {
		return p
	}
	t.dropKeys(old, KeyRemoved, from)
	t.dismiss(old)
	t.remove(tableNode + old.Name)
	return nil
}

// quarantineNode is node.quarantine.
func (t *transition) quarantineNode(args nodeReasonArgs, _ occasion) *problem {
	old, p := t.namedNode(args.Name)
	if p != nil {
		return p
	}
	if p := checkReason(args.Reason); p != nil {
		return p
	}
	switch old.Standing {
	case NodeExcluded:
		return refuse(NodeIsExcluded, "body.args.name", fmt.Sprintf("%s is excluded: %s", old.Name, old.Reason))
	case NodeQuarantined:
		// One that the rules hold may be held by decision, so that they do not
		// release it.
		if r, ok := lookup[ReputationRecord](&t.view, tableReputation+old.Name); !ok || r.Decided {
			return refuse(AlreadyQuarantined, "body.args.name", fmt.Sprintf("%s is quarantined: %s", old.Name, old.Reason))
		}
	}
	t.restand(old, NodeQuarantined, args.Reason)
	t.holdByDecision(old.Name, true)
	return nil
}

// releaseNode is node.release. Its reason stays in the history, in the
// proposal.
func (t *transition) releaseNode(args nodeReasonArgs, _ occasion) *problem {
	old, p := t.namedNode(args.Name)
	if p != nil {
		return p
	}
	if p := checkReason(args.Reason); p != nil {
		return p
	}
	if old.Standing == NodeExcluded {
		return refuse(NodeIsExcluded, "body.args.name", fmt.Sprintf("%s is excluded; only its removal and a new admission bring it back", old.Name))
	}
	if old.Standing != NodeQuarantined {
		return refuse(NotQuarantined, "body.args.name", fmt.Sprintf("%s is %s", old.Name, old.Standing))
	}
	t.restand(old, NodeActive, "")
	t.holdByDecision(old.Name, false)
	return nil
}

// holdByDecision takes note that a quarantine, or its end, was decided: the rules leave
// it alone, and who is released starts where a new node starts, at least.
func (t *transition) holdByDecision(name string, held bool) {
	if !t.protects() {
		return
	}
	r := t.reputation(name)
	t.holdSubjective(r, false)
	r.Decided, r.Stay = held, 0
	if !held {
		r.Reputation = max(r.Reputation, t.policy.Protects().StartReputation)
	}
	t.put(tableReputation+name, r)
}

func (t *transition) restand(old *NodeRecord, standing, reason string) {
	next := *old
	next.Standing, next.Reason = standing, reason
	next.Since, next.Version = t.next, t.next
	next.Elector = false // at the earliest from the next epoch on
	t.put(tableNode+old.Name, &next)
}

func (t *transition) namedNode(name string) (*NodeRecord, *problem) {
	n, ok := lookup[NodeRecord](&t.view, tableNode+name)
	if !ok {
		return nil, refuse(UnknownNode, "body.args.name", fmt.Sprintf("there is no node %q", name))
	}
	return n, nil
}

func checkReason(reason string) *problem {
	if reason == "" || len(reason) > maxReasonBytes {
		return refuse(BadField, "body.args.reason", fmt.Sprintf("want 1 to %d bytes", maxReasonBytes))
	}
	return nil
}
