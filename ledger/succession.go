package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger/keys"
)

// Which statements can change an authority, and into what. The new record is
// computed from the old one and the signed statements, and compared with the
// record that the link shows, so that a link can change nothing else.

// successor checks that statements, which stand at causes, make a change under
// prev, and gives the record that follows.
func (prev Authority) successor(genesis Hash, statements []*Statement, causes []uint64) (Authority, error) {
	for i, s := range statements {
		if s.Payload.Ledger != genesis {
			return Authority{}, fmt.Errorf("statement %d: it names ledger %s, not %s", causes[i], s.Payload.Ledger, genesis)
		}
		if s.Payload.Generation != prev.Generation {
			return Authority{}, fmt.Errorf("statement %d: it names generation %d, not %d", causes[i], s.Payload.Generation, prev.Generation)
		}
	}
	next := prev.Clone()
	next.Causes = slices.Clone(causes)
	next.Index = prev.Index + 1
	var err error
	switch statements[0].Payload.Type {
	case TypeReady:
		err = named(causes[0], next.applyReady(prev, statements))
	case TypeRotate:
		err = named(causes[0], next.applyRotate(prev, statements))
	case TypeRecover:
		err = next.applyRecover(prev, statements, causes)
	default:
		err = next.applyProposal(prev, statements, causes)
	}
	if err != nil {
		return Authority{}, err
	}
	next.CosignThreshold = uint64(CosignThreshold(len(next.Active())))
	if err := next.validate(); err != nil {
		return Authority{}, fmt.Errorf("the authority that follows: %w", err)
	}
	return next, nil
}

// named says by which entry's statement something is wrong.
func named(seq uint64, err error) error {
	if err != nil {
		return fmt.Errorf("statement %d: %w", seq, err)
	}
	return nil
}

// applyReady makes a joining replica active by its own word.
func (next *Authority) applyReady(prev Authority, statements []*Statement) error {
	if len(statements) != 1 {
		return fmt.Errorf("a ready stands alone, not among %d statements", len(statements))
	}
	s := statements[0]
	if _, err := DecodeBody[Ready](s); err != nil {
		return fmt.Errorf("ready of %s: %w", s.Payload.Author, err)
	}
	at := slices.IndexFunc(prev.Replicas, func(r AuthorityReplica) bool { return r.Name == s.Payload.Author })
	if at < 0 || !prev.Replicas[at].Joining {
		return fmt.Errorf("ready of %s: no replica of this name is joining", s.Payload.Author)
	}
	if err := verifyBy(s, prev.Replicas[at].Public); err != nil {
		return fmt.Errorf("ready of %s: %w", s.Payload.Author, err)
	}
	next.Replicas[at].Joining = false
	return nil
}

// applyRotate gives an active replica the keys that it rotated to by its own word,
// of which the new one signed the proof.
func (next *Authority) applyRotate(prev Authority, statements []*Statement) error {
	if len(statements) != 1 {
		return fmt.Errorf("a key.rotate stands alone, not among %d statements", len(statements))
	}
	s := statements[0]
	name := s.Payload.Author
	if prev.Format < KeysFormat {
		return fmt.Errorf("key.rotate of %s: the ledger is of format %d, below %d", name, prev.Format, KeysFormat)
	}
	body, err := DecodeBody[Rotate](s)
	if err == nil {
		err = body.Check(true)
	}
	if err != nil {
		return fmt.Errorf("key.rotate of %s: %w", name, err)
	}
	at := slices.IndexFunc(prev.Replicas, func(r AuthorityReplica) bool { return r.Name == name && !r.Joining })
	if at < 0 || prev.Replicas[at].KeyID() != s.KeyID {
		return fmt.Errorf("key.rotate of %s: no active replica of this name has key %s", name, s.KeyID)
	}
	if err := verifyBy(s, prev.Replicas[at].Public); err != nil {
		return fmt.Errorf("key.rotate of %s: %w", name, err)
	}
	key, err := keys.ParsePublicKey(body.Public)
	if err != nil {
		return fmt.Errorf("key.rotate of %s: %w", name, err)
	}
	if !key.Verify(RotationMessage(prev.Branch(), s.KeyID, name, body), body.Proof) {
		return fmt.Errorf("key.rotate of %s: the new key's proof does not verify", name)
	}
	next.Replicas[at].Public, next.Replicas[at].Cosigner = body.Public, body.Cosigner
	return nil
}

// applyProposal makes the change of a proposal that enough operators approved.
func (next *Authority) applyProposal(prev Authority, statements []*Statement, causes []uint64) error {
	if statements[0].Payload.Type != TypePropose {
		return fmt.Errorf("statement %d: a %s can't change the authority; want a propose, a ready, a key.rotate or a recover", causes[0], statements[0].Payload.Type)
	}
	p, err := DecodeBody[Propose](statements[0])
	if err != nil {
		return fmt.Errorf("statement %d: %w", causes[0], err)
	}
	if err := next.act(p); err != nil {
		return fmt.Errorf("statement %d: %s: %w", causes[0], p.Action, err)
	}
	have, err := prev.approvals(p.Action, statements, causes)
	if err != nil {
		return err
	}
	if want := prev.Needs(p.Action, *next); uint64(have) < want {
		return fmt.Errorf("statement %d: %s has the approval of %d, needs %d", causes[0], p.Action, have, want)
	}
	return nil
}

// Needs is how many distinct operators (of council.reseat: recovery holders)
// decide an action under prev that makes next. What changes authority is never
// decided by less than the majority of operators, and a policy change needs the
// strictest of the old rule, the new one, and those whose threshold it lowers: one
// that next has not any more counts as 0.
func (prev Authority) Needs(action string, next Authority) uint64 {
	if action == "council.reseat" {
		return prev.Recovery.Threshold
	}
	if action == TypeRecover {
		action = "council.change" // whoever may replace the council may go on without the replicas
	}
	need := max(prev.Thresholds[action], MajorityOfOperators(len(prev.operators())))
	if action == "policy.change" {
		need = max(need, next.Thresholds[action])
		for other, old := range prev.Thresholds {
			if other != "council.reseat" && next.Thresholds[other] < old {
				need = max(need, old)
			}
		}
	}
	return need
}

// operators are those that have a governor.
func (prev Authority) operators() map[string]bool {
	operators := map[string]bool{}
	for _, m := range prev.Council {
		operators[m.Operator] = true
	}
	return operators
}

// approvals counts the distinct voices of the statements: the proposal's own
// author and each approve. Whoever speaks must have a vote under prev and have
// signed: the causes of a record are the votes that counted.
func (prev Authority) approvals(action string, statements []*Statement, causes []uint64) (int, error) {
	proposal := statements[0].ID
	counted := map[string]bool{}
	authors := map[string]bool{}
	for i, s := range statements {
		if i > 0 {
			if s.Payload.Type != TypeApprove {
				return 0, fmt.Errorf("statement %d: a %s is no approval", causes[i], s.Payload.Type)
			}
			ballot, err := DecodeBody[Ballot](s)
			if err != nil {
				return 0, fmt.Errorf("statement %d: %w", causes[i], err)
			}
			if ballot.Proposal != proposal {
				return 0, fmt.Errorf("statement %d: it approves proposal %s, not %s", causes[i], ballot.Proposal, proposal)
			}
		}
		if authors[s.Payload.Author] {
			return 0, fmt.Errorf("statement %d: a second vote by %s", causes[i], s.Payload.Author)
		}
		authors[s.Payload.Author] = true
		voice, public := prev.voter(action, s)
		if public == nil {
			return 0, fmt.Errorf("statement %d: %s has no vote with key %s on %s", causes[i], s.Payload.Author, s.KeyID, action)
		}
		if err := verifyBy(s, public); err != nil {
			return 0, fmt.Errorf("statement %d of %s: %w", causes[i], s.Payload.Author, err)
		}
		counted[voice] = true
	}
	return len(counted), nil
}

// voter gives the key that verifies s, and the voice that counts once: the
// operator of a governor, or a recovery holder. The key is nil if the author
// has no vote on the action.
func (prev Authority) voter(action string, s *Statement) (voice string, public []byte) {
	if action == "council.reseat" {
		if prev.Recovery == nil {
			return "", nil
		}
		for _, h := range prev.Recovery.Holders {
			if h.Name == s.Payload.Author && h.KeyID() == s.KeyID {
				return h.Name, h.Public
			}
		}
		return "", nil
	}
	for _, m := range prev.Council {
		if m.Name == s.Payload.Author && m.KeyID() == s.KeyID {
			return m.Operator, m.Public
		}
	}
	return "", nil
}

func verifyBy(s *Statement, public []byte) error {
	key, err := keys.ParsePublicKey(public)
	if err != nil {
		return err
	}
	if !s.Verify(key) {
		return errors.New("its signature does not verify")
	}
	return nil
}

// act changes next as the proposal's action does. Whatever the action can't
// change stays as it was.
func (next *Authority) act(p Propose) error {
	switch p.Action {
	case "council.change":
		return next.changeCouncil(p)
	case "council.reseat":
		args, err := DecodeArgs[struct {
			Council []Member `json:"council"`
		}](p.Args)
		if err != nil {
			return err
		}
		next.Council = authorityCouncil(args.Council)
		return nil
	case "policy.change":
		args, err := DecodeArgs[struct {
			Policy Policy `json:"policy"`
		}](p.Args)
		if err != nil {
			return err
		}
		next.Thresholds = authorityThresholds(args.Policy)
		return ValidatePolicy(args.Policy, len(next.operators()), next.Format)
	case "replica.add", "replica.rekey", "replica.remove":
		return next.changeReplicas(p)
	case "format.upgrade":
		args, err := DecodeArgs[struct {
			Format uint64 `json:"format"`
		}](p.Args)
		if err != nil {
			return err
		}
		if args.Format <= next.Format {
			return fmt.Errorf("format %d does not follow %d", args.Format, next.Format)
		}
		next.Format = args.Format
		return nil
	case "log.rekey":
		args, err := DecodeArgs[LogKeys](p.Args)
		next.Log = args
		return err
	}
	return errors.New("this action does not change the authority")
}

func (next *Authority) changeCouncil(p Propose) error {
	args, err := DecodeArgs[struct {
		Add    []Member `json:"add,omitempty"`
		Remove []string `json:"remove,omitempty"`
	}](p.Args)
	if err != nil {
		return err
	}
	for _, name := range args.Remove {
		at := slices.IndexFunc(next.Council, func(m AuthorityMember) bool { return m.Name == name })
		if at < 0 {
			return fmt.Errorf("no governor is named %s", name)
		}
		next.Council = slices.Delete(next.Council, at, at+1)
	}
	// Names that now stand twice are found by validate.
	next.Council = append(next.Council, authorityCouncil(args.Add)...)
	slices.SortStableFunc(next.Council, func(a, b AuthorityMember) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// checkFrom checks the epoch from which on a replica's key is revoked: from format
// 3 on there may be one.
func (next *Authority) checkFrom(from *uint64) error {
	if from != nil && next.Format < KeysFormat {
		return fmt.Errorf("from: the ledger is of format %d, below %d", next.Format, KeysFormat)
	}
	return nil
}

func (next *Authority) changeReplicas(p Propose) error {
	named := func(name string) int {
		return slices.IndexFunc(next.Replicas, func(r AuthorityReplica) bool { return r.Name == name })
	}
	if p.Action == "replica.remove" {
		args, err := DecodeArgs[struct {
			Cause bool    `json:"cause,omitempty"`
			From  *uint64 `json:"from,omitempty"`
			Name  string  `json:"name"`
		}](p.Args)
		if err == nil {
			err = next.checkFrom(args.From)
		}
		if err != nil {
			return err
		}
		if args.From != nil && next.Format < KeysFormat {
			return fmt.Errorf("args.from: of format %d", KeysFormat)
		}
		at := named(args.Name)
		if at < 0 {
			return fmt.Errorf("no replica is named %s", args.Name)
		}
		next.Replicas = slices.Delete(next.Replicas, at, at+1)
		return nil
	}
	args, err := DecodeArgs[struct {
		From    *uint64 `json:"from,omitempty"`
		Replica Replica `json:"replica"`
	}](p.Args)
	if err == nil {
		err = next.checkFrom(args.From)
	}
	if err != nil {
		return err
	}
	if args.From != nil && (next.Format < KeysFormat || p.Action == "replica.add") {
		return fmt.Errorf("args.from: of replica.rekey, from format %d on", KeysFormat)
	}
	at := named(args.Replica.Name)
	switch {
	case p.Action == "replica.add" && args.From != nil:
		return errors.New("from: a new replica has no key that ends")
	case p.Action == "replica.add" && at >= 0:
		return fmt.Errorf("there is a replica named %s", args.Replica.Name)
	case p.Action == "replica.rekey" && at < 0:
		return fmt.Errorf("no replica is named %s", args.Replica.Name)
	case at >= 0:
		next.Replicas[at] = authorityReplica(args.Replica, true)
		return nil
	}
	next.Replicas = append(next.Replicas, authorityReplica(args.Replica, true))
	slices.SortStableFunc(next.Replicas, func(a, b AuthorityReplica) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
