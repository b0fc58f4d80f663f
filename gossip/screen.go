package gossip

import (
	"crypto/sha256"

	"github.com/quorate/quorate/ledger"
)

// Channel is the way a statement came: each carries its own types.
type Channel uint8

const (
	// Statements is the topic of what is bound for the ledger: observe, attest and
	// evidence, and what nodes say of their keys, so that one that reaches no replica
	// rotates its key through others.
	Statements Channel = iota
	// Probes is the stream that a probe comes on, from its author.
	Probes
	// Acks is the answer on that stream.
	Acks
)

func (c Channel) carries(typ string) bool {
	switch c {
	case Probes:
		return typ == ledger.TypeProbe
	case Acks:
		return typ == ledger.TypeAck
	}
	return typ == ledger.TypeObserve || typ == ledger.TypeAttest || typ == ledger.TypeEvidence || ledger.IsOfKeys(typ)
}

// payloadLimit is the longest payload of a node's statement of a type.
func payloadLimit(typ string) int {
	switch typ {
	case ledger.TypeEvidence:
		return ledger.MaxPayloadBytes
	case ledger.TypeRotate:
		return maxRotationBytes
	}
	return ledger.MaxNodePayloadBytes
}

// Verifier checks a statement's signature under a packed ML-DSA-65 key. It is
// called without any state of this room, so shells do it in parallel, with
// unpacked keys kept.
type Verifier interface {
	Verify(st *ledger.Statement, public []byte) bool
}

// A Case is a statement that came in, on its way to a Ruling: Screen reads it,
// Verify checks its signatures, Judge.Admit compares it with what was seen.
type Case struct {
	Statement *ledger.Statement
	Author    Author

	// The body, of the one type that it is.
	Observe  *ledger.Observe
	Attest   *ledger.Attest
	Evidence *ledger.Evidence
	Probe    *ledger.Probe
	Ack      *ledger.Ack

	// Proof is what an evidence proves; of a flood, what the statement itself
	// proves.
	Proof *Proof

	rules    Rules
	quota    uint64
	exhibits []exhibit
	verified bool
}

type exhibit struct {
	statement *ledger.Statement
	public    []byte
}

// Screen reads an envelope and checks all that needs neither its signature nor
// what was seen before. Whatever it costs is bounded by the envelope's length.
// Without a Case, the reason says why.
func Screen(view View, channel Channel, envelope []byte) (*Case, Reason) {
	limit := MaxStatementBytes
	if channel != Statements {
		limit = MaxProbeBytes
	}
	if len(envelope) > limit {
		return nil, TooLarge
	}
	st, err := ledger.ParseStatement(envelope)
	if err != nil {
		return nil, Malformed
	}
	c := &Case{Statement: st, rules: view.Rules()}
	for _, check := range [...]func(View, Channel) Reason{c.checkForm, c.checkEpoch, c.checkAuthor, c.checkEvidence} {
		if reason := check(view, channel); reason != Good {
			return nil, reason
		}
	}
	return c, Good
}

// checkForm checks what everybody can, whatever it knows of the ledger.
func (c *Case) checkForm(_ View, channel Channel) Reason {
	p := &c.Statement.Payload
	switch {
	case !channel.carries(p.Type) || p.Seq == nil || p.Epoch == nil:
		return WrongChannel
	case p.Ledger != c.rules.Ledger:
		return WrongLedger
	case ledger.IsOfKeys(p.Type) && c.beforeKeys():
		return LaterFormat
	case len(c.Statement.PayloadBytes()) > payloadLimit(p.Type):
		return BadBody
	}
	var err error
	switch p.Type {
	case ledger.TypeObserve:
		if c.Observe, err = bodyOf[ledger.Observe](c.Statement); err == nil {
			err = c.Observe.Check(p.Author)
		}
	case ledger.TypeAttest:
		if c.Attest, err = bodyOf[ledger.Attest](c.Statement); err == nil {
			err = c.Attest.Check()
		}
	case ledger.TypeEvidence:
		if c.Evidence, err = bodyOf[ledger.Evidence](c.Statement); err == nil {
			err = c.Evidence.Check()
		}
	case ledger.TypeProbe:
		if c.Probe, err = bodyOf[ledger.Probe](c.Statement); err == nil {
			err = c.Probe.Check(p.Author)
		}
	case ledger.TypeAck:
		c.Ack, err = bodyOf[ledger.Ack](c.Statement)
		if err == nil && (ledger.ValidName(c.Ack.Prober) != nil || c.Ack.Prober == p.Author) {
			return BadBody
		}
	default:
		err = c.checkKeys()
	}
	if err != nil {
		return BadBody
	}
	if p.Generation != c.rules.Generation {
		return OtherGeneration
	}
	if c.Evidence != nil && len(c.Evidence.Public) > 0 && c.beforeKeys() {
		return LaterFormat
	}
	return Good
}

// beforeKeys reports whether the ledger is of a format that has no statements of
// keys. A program of before rejects them, and whoever brings them: so they are not
// relayed, and whoever brings them may be ahead of this view.
func (c *Case) beforeKeys() bool { return c.rules.Format < ledger.KeysFormat }

// checkKeys checks the body of what a node says of its keys. The proofs of a rotation
// are the ledger's to check: nothing here acts on it.
func (c *Case) checkKeys() error {
	switch c.Statement.Payload.Type {
	case ledger.TypeRotate:
		return checkBody(c.Statement, func(b *ledger.Rotate) error { return b.Check(false) })
	case ledger.TypeBackup:
		return checkBody(c.Statement, (*ledger.Backup).Check)
	case ledger.TypeRestoreTest:
		return checkBody(c.Statement, (*ledger.RestoreTest).Check)
	}
	return checkBody(c.Statement, (*ledger.Destroy).Check)
}

func checkBody[B any](st *ledger.Statement, check func(*B) error) error {
	body, err := bodyOf[B](st)
	if err != nil {
		return err
	}
	return check(body)
}

func bodyOf[B any](st *ledger.Statement) (*B, error) {
	body, err := ledger.DecodeBody[B](st)
	return &body, err
}

// checkAuthor asks the view who holds the key. A statement of the next epoch does not
// come so far: its key may be one that the view does not know yet.
func (c *Case) checkAuthor(view View, channel Channel) Reason {
	a, ok := view.Author(c.Statement.KeyID)
	p := &c.Statement.Payload
	switch {
	case !ok:
		return UnknownAuthor
	case a.Name != p.Author:
		return OtherKey
	case a.Revoked:
		return RevokedKey
	case a.Role != RoleNode && (a.Role != RoleReplica || p.Type != ledger.TypeEvidence):
		return OtherKey
	case a.Standing == Excluded:
		return AuthorBanned
	case a.Standing == Quarantined && channel == Statements:
		return AuthorHeld
	case a.Role == RoleNode && !a.validIn(*p.Epoch):
		return NotValid
	}
	c.Author = a
	return Good
}

// checkEpoch wants this epoch or the one before, as the ledger does. A seq at
// the quota is not refused here: once its signature is verified it proves a
// flood.
func (c *Case) checkEpoch(View, Channel) Reason {
	p := &c.Statement.Payload
	switch {
	case *p.Epoch > c.rules.Epoch:
		return EarlyEpoch
	case *p.Epoch+1 < c.rules.Epoch:
		return LateEpoch
	}
	c.quota = c.rules.QuotaOf(ledger.SeqSpaceOf(p.Type))
	return Good
}

// checkEvidence reads the exhibits and judges them; their signatures come with
// the evidence's own.
func (c *Case) checkEvidence(view View, _ Channel) Reason {
	if c.Evidence == nil {
		return Good
	}
	statements := make([]*ledger.Statement, len(c.Evidence.Exhibits))
	c.exhibits = make([]exhibit, len(statements))
	for i, envelope := range c.Evidence.Exhibits {
		st, err := ledger.ParseStatement(envelope)
		if err != nil || st.Payload.Ledger != c.rules.Ledger || st.Payload.Epoch == nil || st.Payload.Seq == nil {
			return FalseProof
		}
		if ledger.IsOfKeys(st.Payload.Type) && c.beforeKeys() {
			return LaterFormat
		}
		if st.Payload.Generation != c.rules.Generation {
			return OtherGeneration
		}
		statements[i], c.exhibits[i].statement = st, st
	}
	quota := c.rules.QuotaOf(ledger.SeqSpaceOf(statements[0].Payload.Type))
	proof, err := Prove(c.Evidence.Kind, quota, statements...)
	switch {
	case err != nil && c.Evidence.Kind == ledger.EvidenceFlood:
		return OldProof // the quota is policy: it may have changed
	case err != nil:
		return FalseProof
	}
	public, reason := publicOf(view, statements, c.Evidence.Public)
	if reason != Good {
		return reason
	}
	for i := range c.exhibits {
		c.exhibits[i].public = public
	}
	if now := c.rules.Epoch; proof.Offence.Epoch > now+1 || proof.Offence.Epoch+maxProofEpochs < now {
		return OldProof
	}
	c.Proof = proof
	return Good
}

// publicOf is the key that verifies exhibits, which are of one key: the state's, or, of one
// that was rotated out and that the state has no longer, what the evidence brings. Whether
// the state has it a relay cannot know whose view is older or newer; whether it is the
// exhibits' key everybody can check.
func publicOf(view View, exhibits []*ledger.Statement, brought []byte) ([]byte, Reason) {
	x := exhibits[0]
	if len(brought) > 0 && sha256.Sum256(brought) != x.KeyID {
		return nil, FalseProof
	}
	a, ok := view.Author(x.KeyID)
	switch {
	case !ok:
		return nil, UnknownAuthor
	case a.Name != x.Payload.Author:
		return nil, OtherKey
	case a.Revoked && !a.Former, (len(a.Public) == 0) != (len(brought) > 0):
		return nil, RevokedKey
	}
	for _, x := range exhibits {
		if a.Former && *x.Payload.Epoch > a.ValidTo {
			return nil, NotValid
		}
	}
	if len(brought) > 0 {
		return brought, Good
	}
	return a.Public, Good
}

// maxProofEpochs is how old evidence may be: what the rules take.
const maxProofEpochs = 1_008

// Verify checks the case's signatures: the statement's own, and those of the
// exhibits of an evidence. It may run beside other cases' verification.
func (c *Case) Verify(verifier Verifier) Reason {
	if !verifier.Verify(c.Statement, c.Author.Public) {
		return BadSignature
	}
	for _, x := range c.exhibits {
		if !verifier.Verify(x.statement, x.public) {
			return FalseProof
		}
	}
	c.verified = true
	return Good
}
