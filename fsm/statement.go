package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// author is who says a statement: a principal of the ledger, or, for a join,
// the node that asks to become one.
type author struct {
	name     string
	role     string
	operator string // "" for recovery holders
	public   []byte
	node     *NodeRecord // of a node

	// Of a node: the epochs in which this key speaks, and for how many after them it
	// is heard.
	from, to, grace uint64
	old             bool // the key was rotated out
}

// nonceSpace is whose live nonces a statement's nonce is counted among. A join
// has no author yet whom the ledger knows, so its key's id stands in: 64 hex
// digits, which no name can be.
func (a author) nonceSpace(st *ledger.Statement) string {
	if a.role == "" {
		return st.KeyID.String()
	}
	return a.name
}

// statement applies one statement: it is refused and nothing changed, or it was
// accepted before, or its entry is appended.
func (t *transition) statement(st *ledger.Statement, err error) Verdict {
	if err != nil {
		var id ledger.Hash
		if st != nil {
			id = st.ID
		}
		return fromStatementError(err).verdict(id)
	}
	if p := t.addressed(st); p != nil {
		return p.verdict(st.ID)
	}
	a, p := t.author(st)
	seq, said := t.said(st)
	if p != nil && !said {
		return p.verdict(st.ID)
	}
	// The id leaves the signature out, so a copy must bear a good one too;
	// unless its author has lost the key since, so that nobody can tell.
	if p == nil && !t.verify.Verify(st, a.public) {
		return refuse(BadSignature, "", "the signature does not verify under the author's key").verdict(st.ID)
	}
	if said {
		return Verdict{Seq: seq, ID: st.ID, Duplicate: true}
	}
	seq = t.next
	if p := t.accept(st, a); p != nil {
		invariant(t.next == seq, "a refused statement appends nothing")
		return p.verdict(st.ID)
	}
	if a.old {
		t.changeKey(st.KeyID, func(k *KeyRecord) { k.Last = seq })
	}
	return Verdict{Seq: seq, ID: st.ID}
}

func (t *transition) parse(envelope []byte) (*ledger.Statement, error) {
	if parser, ok := t.verify.(Parser); ok {
		return parser.Parse(envelope)
	}
	return ledger.ParseStatement(envelope)
}

// accept checks what a type of statement needs and, if it holds, appends the
// statement's entry and what follows from it.
func (t *transition) accept(st *ledger.Statement, a author) *problem {
	switch st.Payload.Type {
	case ledger.TypePropose:
		return t.propose(st, a)
	case ledger.TypeApprove:
		return t.approve(st, a)
	case ledger.TypeReject:
		return t.reject(st, a)
	case ledger.TypeWithdraw:
		return t.withdraw(st, a)
	case ledger.TypeVeto:
		return t.veto(st, a)
	case ledger.TypeRecord:
		return t.record(st, a)
	case ledger.TypeJoin:
		return t.join(st, a)
	case ledger.TypeReady:
		return t.ready(st, a)
	case ledger.TypeRecover:
		return t.recover(st, a)
	case ledger.TypeObserve:
		return t.observe(st, a)
	case ledger.TypeAttest:
		return t.attest(st, a)
	case ledger.TypeEvidence:
		return t.evidence(st, a)
	case ledger.TypeRotate, ledger.TypeBackup, ledger.TypeRestoreTest, ledger.TypeDestroy:
		return t.ofKeys(st, a)
	case ledger.TypeProbe, ledger.TypeAck:
		return refuse(WrongTyp, "type", "probes and acks are no entries")
	}
	return refuse(WrongTyp, "type", "unknown statement type")
}

// addressed checks that the statement is for this ledger and generation.
func (v *view) addressed(st *ledger.Statement) *problem {
	if st.Payload.Ledger != v.meta.Ledger {
		return refuse(WrongLedger, "ledger", fmt.Sprintf("this ledger is %s", v.meta.Ledger))
	}
	if st.Payload.Generation != v.meta.Generation {
		return refuse(WrongGeneration, "generation", fmt.Sprintf("this ledger is at generation %d", v.meta.Generation))
	}
	return nil
}

// author finds who says the statement, by the key that it names.
func (v *view) author(st *ledger.Statement) (author, *problem) {
	if st.Payload.Type == ledger.TypeJoin {
		return joiner(st)
	}
	name := st.Payload.Author
	key, ok := lookup[KeyRecord](v, keyOf(st.KeyID))
	if !ok || key.Holder != name {
		if v.named(name) {
			return author{}, refuse(WrongKey, "author", fmt.Sprintf("%s holds another key", name))
		}
		return author{}, refuse(UnknownAuthor, "author", fmt.Sprintf("the ledger knows no %s", name))
	}
	if key.Revoked {
		return author{}, refuse(RevokedKey, "author", fmt.Sprintf("this key of %s is revoked", name))
	}
	a := author{name: name, role: key.Role}
	switch key.Role {
	case RoleGovernor:
		g, ok := lookup[Governor](v, tableCouncil+name)
		invariant(ok, "a governor's key that is not revoked has its governor")
		a.operator, a.public = g.Operator, g.Public
	case RoleReplica:
		return v.replicaAuthor(st, a, key)
	case RoleNode:
		return v.nodeAuthor(st, a, key)
	case RoleRecovery:
		h := v.holder(name)
		invariant(h != nil, "a recovery holder's key has its holder")
		a.public = h.Public
	}
	return a, nil
}

// nodeAuthor resolves a node's key: the one in force, the next one, or one that was
// rotated out. In each epoch exactly one of them speaks.
func (v *view) nodeAuthor(st *ledger.Statement, a author, key *KeyRecord) (author, *problem) {
	n, ok := lookup[NodeRecord](v, tableNode+a.name)
	if !ok {
		return author{}, rotatedOut(key)
	}
	a.operator, a.node = n.Operator, n
	switch {
	case n.Key == st.KeyID:
		a.public, a.from, a.to, a.grace = n.Public, n.ValidFrom, n.ValidTo, v.policy.GraceEpochs
		return a, nil
	case n.Next != nil && n.Next.Key == st.KeyID:
		a.public, a.from, a.to = n.Next.Public, n.Next.From, n.Next.From+v.policy.KeyEpochs
		return a, nil
	}
	old, ok := lookup[OldKeyRecord](v, oldKeyOf(st.KeyID))
	if !ok {
		return author{}, rotatedOut(key)
	}
	a.public, a.from, a.to, a.old = old.Public, old.From, old.To, true
	return a, nil
}

// replicaAuthor resolves a replica's key: the one in force, or one that was rotated
// out. What it said in the epoch in which it rotated is taken as long as that epoch's
// statements are. In no epoch before it came does a key speak: no revocation would
// reach what a thief said there.
func (v *view) replicaAuthor(st *ledger.Statement, a author, key *KeyRecord) (author, *problem) {
	if epoch := st.Payload.Epoch; epoch != nil && *epoch < key.ValidFrom {
		return author{}, refuse(KeyExpired, "epoch", fmt.Sprintf("this key of %s is valid from epoch %d on", a.name, key.ValidFrom))
	}
	r, ok := lookup[ReplicaRecord](v, tableReplica+a.name)
	if !ok {
		return author{}, rotatedOut(key)
	}
	a.operator = r.Operator
	if r.KeyID() == st.KeyID {
		a.public = r.Public
		return a, nil
	}
	old, ok := lookup[OldKeyRecord](v, oldKeyOf(st.KeyID))
	if !ok || st.Payload.Epoch == nil || *st.Payload.Epoch > old.To {
		return author{}, rotatedOut(key)
	}
	a.public, a.old = old.Public, true
	return a, nil
}

func rotatedOut(key *KeyRecord) *problem {
	invariant(key.Ended == KeyRotated && key.ValidTo != nil, "a key that is not revoked is its holder's, or was rotated out")
	return refuse(KeyExpired, "author", fmt.Sprintf("this key of %s was rotated out, its last epoch was %d", key.Holder, *key.ValidTo))
}

func (v *view) holder(name string) *ledger.Holder {
	if v.recovery == nil {
		return nil
	}
	for i := range v.recovery.Holders {
		if v.recovery.Holders[i].Name == name {
			return &v.recovery.Holders[i]
		}
	}
	return nil
}

// joiner is the author of a join: whoever holds the key in its body.
func joiner(st *ledger.Statement) (author, *problem) {
	body, err := ledger.DecodeBody[ledger.Join](st)
	if err != nil {
		return author{}, fromStatementError(err)
	}
	if body.Name != st.Payload.Author {
		return author{}, refuse(BadField, "body.name", "must be the author")
	}
	if ledger.Hash(sha256.Sum256(body.Public)) != st.KeyID {
		return author{}, refuse(WrongKey, "body.public", "the join is signed by another key than the one in it")
	}
	return author{name: body.Name, operator: body.Operator, public: body.Public}, nil
}

// named reports whether a principal has this name. Names of principals are
// unique across roles.
func (v *view) named(name string) bool {
	for _, table := range [...]string{tableCouncil, tableReplica, tableNode} {
		if _, ok := v.source.Get([]byte(table + name)); ok {
			return true
		}
	}
	return v.holder(name) != nil
}

// PublicKey returns the packed ML-DSA-65 key that verifies st in this state,
// or the verdict that refuses st for its ledger, generation, author or key.
// A statement that follows another in one bundle may find its author only once
// that one is applied.
func (v *view) PublicKey(st *ledger.Statement) (public []byte, verdict Verdict) {
	p := v.addressed(st)
	if p == nil {
		var a author
		if a, p = v.author(st); p == nil {
			return a.public, Verdict{ID: st.ID}
		}
	}
	return nil, p.verdict(st.ID)
}

// Said returns the seq of st if this very statement was accepted before and
// the state still knows it: the answer to an identical resubmission.
func (v *view) Said(st *ledger.Statement) (seq uint64, ok bool) { return v.said(st) }

func (v *view) said(st *ledger.Statement) (uint64, bool) {
	switch st.Payload.Type {
	case ledger.TypeRecover:
		if p, ok := v.Proposal(st.ID); ok {
			return p.Seq, true
		}
		return 0, false
	case ledger.TypePropose:
		if p, ok := v.Proposal(st.ID); ok {
			return p.Seq, true
		}
		return v.saidNonce(st.Payload.Author, st)
	case ledger.TypeJoin:
		return v.saidNonce(st.KeyID.String(), st)
	case ledger.TypeApprove, ledger.TypeReject, ledger.TypeWithdraw, ledger.TypeVeto:
		body, err := ledger.DecodeBody[ledger.Ballot](st)
		if err != nil {
			return 0, false
		}
		p, ok := v.Proposal(body.Proposal)
		if !ok {
			return 0, false
		}
		return p.saidBallot(st.ID)
	}
	if st.Payload.Nonce != nil {
		return v.saidNonce(st.Payload.Author, st)
	}
	w, ok := lookup[WindowRecord](v, tableWindow+st.Payload.Author)
	if ok && w.Count > 0 && w.Last == st.ID {
		return w.LastSeq, true
	}
	return 0, false
}

func (v *view) saidNonce(space string, st *ledger.Statement) (uint64, bool) {
	n, ok := lookup[NonceRecord](v, nonceOf(space, st.Payload.Nonce))
	if ok && n.ID == st.ID {
		return n.Seq, true
	}
	return 0, false
}

func (p *Proposal) saidBallot(id ledger.Hash) (uint64, bool) {
	for _, votes := range [...][]Vote{p.Approvals, p.Rejections, p.Vetoes} {
		for _, vote := range votes {
			if vote.ID == id {
				return vote.Seq, true
			}
		}
	}
	if p.Withdrawn != nil && p.Withdrawn.ID == id {
		return p.Withdrawn.Seq, true
	}
	return 0, false
}

func nonceOf(space string, nonce []byte) string {
	return tableNonce + space + "/" + hex.EncodeToString(nonce)
}
