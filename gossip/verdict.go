package gossip

// Verdict is what happens to a frame and to the peer that brought it.
type Verdict uint8

const (
	// Accept: use it and relay it.
	Accept Verdict = iota
	// Ignore: neither use nor relay it; the peer may not have known better.
	Ignore
	// Reject: whoever relayed it did not check what everybody can.
	Reject
)

// String names the verdict as metrics do.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Ignore:
		return "ignore"
	}
	return "reject"
}

// Reason is the rule that decided a Verdict: a closed list, for metrics too.
type Reason string

// What every peer can check with the ledger's name and its own eyes. An honest
// relay never lets it pass.
const (
	TooLarge     Reason = "too_large"     // longer than its channel carries
	Malformed    Reason = "malformed"     // not a statement, or not in its one form
	WrongChannel Reason = "wrong_channel" // of a type that this channel does not carry
	WrongLedger  Reason = "wrong_ledger"  // the channel's name has the ledger's
	BadBody      Reason = "bad_body"      // what its type forbids, whatever the state
	BadSignature Reason = "bad_signature" // does not verify under the key that it names
	FalseProof   Reason = "false_proof"   // evidence that proves nothing, or whose exhibits do not verify
	NotItsOwn    Reason = "not_its_own"   // a probe or ack that its author did not bring itself
)

// What a peer cannot know whose certified state is older or newer than ours, or
// that saw other frames than we did.
const (
	OtherGeneration Reason = "other_generation"
	LaterFormat     Reason = "later_format" // of a type or with a field that the ledger's format has not
	UnknownAuthor   Reason = "unknown_author"
	OtherKey        Reason = "other_key" // the key is another's, or of a role that says no such thing
	RevokedKey      Reason = "revoked_key"
	NotValid        Reason = "not_valid"     // the key, in that epoch
	EarlyEpoch      Reason = "early_epoch"   // after ours: we may be behind
	LateEpoch       Reason = "late_epoch"    // before the last one
	AuthorHeld      Reason = "author_held"   // quarantined: no statement of its is used but probes and acks
	AuthorBanned    Reason = "author_banned" // excluded, or proven an offender here
	Replayed        Reason = "replayed"
	Stale           Reason = "stale" // too old for the window to tell
	Equivocated     Reason = "equivocated"
	Flooded         Reason = "flooded"
	KnownProof      Reason = "known_proof" // the offence is known
	OldProof        Reason = "old_proof"   // of an epoch that we cannot judge
	NoRoom          Reason = "no_room"     // a bound of ours
	NotForUs        Reason = "not_for_us"  // a probe or ack meant for another
)

// Good is why a frame is accepted.
const Good Reason = "good"

// Reasons is the closed list.
var Reasons = []Reason{
	Good,
	TooLarge, Malformed, WrongChannel, WrongLedger, BadBody, BadSignature, FalseProof, NotItsOwn,
	OtherGeneration, LaterFormat, UnknownAuthor, OtherKey, RevokedKey, NotValid, EarlyEpoch, LateEpoch, AuthorHeld, AuthorBanned,
	Replayed, Stale, Equivocated, Flooded, KnownProof, OldProof, NoRoom, NotForUs,
}

// Verdict gives what a reason means for the peer that brought the frame.
func (r Reason) Verdict() Verdict {
	switch r {
	case Good:
		return Accept
	case TooLarge, Malformed, WrongChannel, WrongLedger, BadBody, BadSignature, FalseProof, NotItsOwn:
		return Reject
	}
	return Ignore
}
