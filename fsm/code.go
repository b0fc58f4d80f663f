package fsm

import "strconv"

// Code says why a statement was accepted or refused. The set is closed and
// append-only: a number, once given, keeps its name and meaning for ever, as
// the reasons of `failed` effects are on the ledger. fsm/DESIGN.md has the
// same table, and a test compares them.
type Code uint8

// Class groups codes by what the one who submitted can do about them, so that
// a shell needs no list of codes.
type Class uint8

// The classes.
const (
	ClassOK        Class = iota
	ClassMalformed       // not a statement at all
	ClassTooLarge        // above a bound of FORMAT.md
	ClassContent         // a statement, but not one that may stand
	ClassAuthor          // its author may not say it, or did not sign it
	ClassUnknown         // it names what is not there
	ClassConflict        // it contradicts what is there, or was said before
	ClassExpired         // too late
	ClassFrozen          // the ledger is frozen
	ClassLimit           // a bound of this ledger is reached; later it may pass
)

// String names the class.
func (c Class) String() string {
	switch c {
	case ClassOK:
		return "ok"
	case ClassMalformed:
		return "malformed"
	case ClassTooLarge:
		return "too large"
	case ClassContent:
		return "content"
	case ClassAuthor:
		return "author"
	case ClassUnknown:
		return "unknown"
	case ClassConflict:
		return "conflict"
	case ClassExpired:
		return "expired"
	case ClassFrozen:
		return "frozen"
	case ClassLimit:
		return "limit"
	}
	return "class " + strconv.Itoa(int(c))
}

// The codes.
const (
	OK Code = iota

	// The envelope.
	NotCOSE
	WrongAlg
	WrongTyp
	UnprotectedHeader
	TrailingBytes
	TooLarge

	// The canonical JSON.
	NotCanonical
	UnknownField
	DuplicateField
	MissingField
	Float
	Null
	NumberRange
	BadString
	BadBase64
	WrongType
	TooDeep
	NotJSON
	BadField

	// The author and the replay protection.
	WrongLedger
	WrongGeneration
	UnknownAuthor
	WrongRole
	WrongKey
	RevokedKey
	KeyExpired
	Quarantined
	BadSignature
	Expired
	ExpiresTooFar
	NonceUsed
	TooManyNonces
	WrongEpoch
	SeqUsed
	SeqTooOld
	QuotaExceeded

	// The ledger's own standing.
	Frozen
	HandoverPending
	BadStamp
	BundleTooLarge
	BundleRejected

	// Proposals.
	UnknownAction
	BadBase
	StaleBase
	UnknownProposal
	ProposalClosed
	AlreadyDecided
	AlreadyVoted
	OperatorVoted
	NotAuthor
	NotVetoer
	TooManyProposals
	AuthorLeft
	ThresholdLost
	ConsentMissing

	// What actions find in the state.
	NameTaken
	KeyTaken
	PeerTaken
	UnknownOperator
	UnknownGovernor
	UnknownReplica
	UnknownNode
	UnknownJoin
	OperatorInUse
	OperatorWithoutConsent
	ThresholdUnreachable
	ThresholdTooLow
	TooManySeats
	LastReplica
	WrongOperator
	NothingChanges
	AlreadyQuarantined
	NotQuarantined
	NotFrozen
	FormatTooLow
	ReplicasNotReady
	HistoryNotWhole
	TooManyJoins

	// What a leader's admission asks for beyond the rules.
	JoinAlone

	// Of a recovery.
	NotAtHead

	// Observation and evidence.
	OutOfWindow
	NotMonitor
	NoElectorate
	Muted
	TooManyLinks
	NodeIsExcluded
	ProvesNothing
	EvidenceTooOld
	OffenceKnown
	AttestedAlready

	// The life of keys.
	RotationPending
	RotationEarly
	BadProof
	UnknownKey
	WrongRecipient
	UnfitShares
	UnknownBackup
	KeyInForce
)

type codeInfo struct {
	name    string
	class   Class
	meaning string
}

var codes = [...]codeInfo{
	OK: {"ok", ClassOK, "accepted; with duplicate set, it was accepted before"},

	NotCOSE:           {"not_cose", ClassMalformed, "the bytes are no COSE_Sign1 statement"},
	WrongAlg:          {"wrong_alg", ClassMalformed, "the algorithm is not ML-DSA-65"},
	WrongTyp:          {"wrong_typ", ClassMalformed, "typ is unknown, or not that of the payload"},
	UnprotectedHeader: {"unprotected_header", ClassMalformed, "the unprotected header is not empty"},
	TrailingBytes:     {"trailing_bytes", ClassMalformed, "bytes follow the statement or its JSON"},
	TooLarge:          {"too_large", ClassTooLarge, "above a bound of FORMAT.md"},

	NotCanonical:   {"not_canonical", ClassContent, "not in the one canonical form"},
	UnknownField:   {"unknown_field", ClassContent, "a field that the schema does not have"},
	DuplicateField: {"duplicate_field", ClassContent, "a field that stands twice"},
	MissingField:   {"missing_field", ClassContent, "a field that must be there is absent"},
	Float:          {"float", ClassContent, "a number with fraction or exponent"},
	Null:           {"null", ClassContent, "null"},
	NumberRange:    {"number_range", ClassContent, "a number below 0, above 2^53-1, or too large for its field"},
	BadString:      {"bad_string", ClassContent, "a string that is not valid UTF-8 or badly escaped"},
	BadBase64:      {"bad_base64", ClassContent, "not unpadded base64url, or of the wrong length"},
	WrongType:      {"wrong_type", ClassContent, "another kind of value than the schema has"},
	TooDeep:        {"too_deep", ClassContent, "nested more than 32 deep"},
	NotJSON:        {"not_json", ClassContent, "no JSON"},
	BadField:       {"bad_field", ClassContent, "a field whose value is outside what it may be"},

	WrongLedger:     {"wrong_ledger", ClassConflict, "the statement names another ledger"},
	WrongGeneration: {"wrong_generation", ClassConflict, "the statement names another generation"},
	UnknownAuthor:   {"unknown_author", ClassAuthor, "nobody of this name holds this key or another"},
	WrongRole:       {"wrong_role", ClassAuthor, "the author's role does not say this"},
	WrongKey:        {"wrong_key", ClassAuthor, "the key is not its author's"},
	RevokedKey:      {"revoked_key", ClassAuthor, "the key was its author's and is revoked"},
	KeyExpired:      {"key_expired", ClassAuthor, "the node's key is not valid in that epoch"},
	Quarantined:     {"quarantined", ClassAuthor, "the node is quarantined"},
	BadSignature:    {"bad_signature", ClassAuthor, "the signature does not verify"},
	Expired:         {"expired", ClassExpired, "expires has passed"},
	ExpiresTooFar:   {"expires_too_far", ClassContent, "expires is more than 30 days ahead"},
	NonceUsed:       {"nonce_used", ClassConflict, "the author said something else under this nonce"},
	TooManyNonces:   {"too_many_nonces", ClassLimit, "the author has 256 live nonces"},
	WrongEpoch:      {"wrong_epoch", ClassConflict, "neither the current nor the previous epoch"},
	SeqUsed:         {"seq_used", ClassConflict, "the author said something under this epoch and seq before"},
	SeqTooOld:       {"seq_too_old", ClassConflict, "the seq is behind the window of 1,024"},
	QuotaExceeded:   {"quota_exceeded", ClassLimit, "the seq is not below the policy's quota of an epoch"},

	Frozen:          {"frozen", ClassFrozen, "the ledger is frozen"},
	HandoverPending: {"handover_pending", ClassLimit, "one authority change a handover: again after the next seal"},
	BadStamp:        {"bad_stamp", ClassContent, "the command's stamp is beyond any date"},
	BundleTooLarge:  {"bundle_too_large", ClassTooLarge, "more statements than a bundle may have"},
	BundleRejected:  {"bundle_rejected", ClassConflict, "another statement of the bundle was refused"},

	UnknownAction:    {"unknown_action", ClassContent, "no such action"},
	BadBase:          {"bad_base", ClassContent, "base does not name exactly the tables of the action"},
	StaleBase:        {"stale_base", ClassConflict, "a table moved since the version that base names"},
	UnknownProposal:  {"unknown_proposal", ClassUnknown, "no such proposal in the state"},
	ProposalClosed:   {"proposal_closed", ClassConflict, "the proposal is closed"},
	AlreadyDecided:   {"already_decided", ClassConflict, "the proposal is decided; only a veto or its author stops it"},
	AlreadyVoted:     {"already_voted", ClassConflict, "the author has voted on this proposal"},
	OperatorVoted:    {"operator_voted", ClassConflict, "a governor of the same operator has voted"},
	NotAuthor:        {"not_author", ClassAuthor, "only the proposal's author withdraws it"},
	NotVetoer:        {"not_vetoer", ClassAuthor, "the rule does not name the author among its vetoers"},
	TooManyProposals: {"too_many_proposals", ClassLimit, "the author has as many open proposals as allowed"},
	AuthorLeft:       {"author_left", ClassConflict, "the proposal's author no longer holds the seat or key"},
	ThresholdLost:    {"threshold_lost", ClassConflict, "the approvals that still count are below the threshold"},
	ConsentMissing:   {"consent_missing", ClassConflict, "an operator that must consent has not"},

	NameTaken:              {"name_taken", ClassConflict, "the name is in use"},
	KeyTaken:               {"key_taken", ClassConflict, "the key has or had a role; a key has one, once"},
	PeerTaken:              {"peer_taken", ClassConflict, "another replica has this peer address or TLS pin"},
	UnknownOperator:        {"unknown_operator", ClassUnknown, "no such operator"},
	UnknownGovernor:        {"unknown_governor", ClassUnknown, "no such governor"},
	UnknownReplica:         {"unknown_replica", ClassUnknown, "no such replica"},
	UnknownNode:            {"unknown_node", ClassUnknown, "no such node"},
	UnknownJoin:            {"unknown_join", ClassUnknown, "no such join, or it has expired"},
	OperatorInUse:          {"operator_in_use", ClassConflict, "the operator has governors, replicas, nodes or operators that it sponsors"},
	OperatorWithoutConsent: {"operator_without_consent", ClassConflict, "the operator has neither a governor nor a sponsor with one"},
	ThresholdUnreachable:   {"threshold_unreachable", ClassConflict, "a threshold could not be met by the council's operators"},
	ThresholdTooLow:        {"threshold_too_low", ClassContent, "a threshold that changes authority is below the majority of operators"},
	TooManySeats:           {"too_many_seats", ClassLimit, "more governors, operators, replicas or nodes than allowed"},
	LastReplica:            {"last_replica", ClassConflict, "no active replica would remain"},
	WrongOperator:          {"wrong_operator", ClassConflict, "the holder belongs to another operator"},
	NothingChanges:         {"nothing_changes", ClassContent, "the action would change nothing"},
	AlreadyQuarantined:     {"already_quarantined", ClassConflict, "the node is quarantined already"},
	NotQuarantined:         {"not_quarantined", ClassConflict, "the node is not quarantined"},
	NotFrozen:              {"not_frozen", ClassConflict, "the ledger is not frozen"},
	FormatTooLow:           {"format_too_low", ClassConflict, "the format is not above the ledger's, or not above what the replica stated"},
	ReplicasNotReady:       {"replicas_not_ready", ClassConflict, "fewer than the cosign threshold of active replicas stated this format"},
	HistoryNotWhole:        {"history_not_whole", ClassConflict, "ready names a size beyond the ledger, or before the replica was added"},
	TooManyJoins:           {"too_many_joins", ClassLimit, "as many joins wait as allowed"},

	JoinAlone: {"join_alone", ClassContent, "a join comes in a bundle with the proposal that names it"},

	NotAtHead: {"not_at_head", ClassConflict, "a recovery, and each approval of it, follows at once what it names"},

	OutOfWindow:     {"out_of_window", ClassExpired, "it speaks of ticks or epochs that are over, or not yet there"},
	NotMonitor:      {"not_monitor", ClassAuthor, "the node is not drawn to watch, or to attest, in that epoch, or its word does not count yet"},
	NoElectorate:    {"no_electorate", ClassConflict, "fewer than three operators have nodes whose word counts"},
	Muted:           {"muted", ClassAuthor, "the accused do not accuse their accusers"},
	TooManyLinks:    {"too_many_links", ClassLimit, "one of its ends has as many links as allowed"},
	NodeIsExcluded:  {"excluded", ClassAuthor, "the node is excluded"},
	ProvesNothing:   {"proves_nothing", ClassContent, "the exhibits do not prove what the evidence says"},
	EvidenceTooOld:  {"evidence_too_old", ClassExpired, "the offence is of an epoch too long ago"},
	OffenceKnown:    {"offence_known", ClassConflict, "this offence was proven before"},
	AttestedAlready: {"attested_already", ClassConflict, "the node has attested this window, or it is settled"},

	RotationPending: {"rotation_pending", ClassConflict, "the next key of the node waits already"},
	RotationEarly:   {"rotation_early", ClassConflict, "the key is too far from its end to be rotated"},
	BadProof:        {"bad_proof", ClassAuthor, "a proof of possession does not verify"},
	UnknownKey:      {"unknown_key", ClassUnknown, "no such key, or none of that role"},
	WrongRecipient:  {"wrong_recipient", ClassConflict, "the governor has no recipient, or another one"},
	UnfitShares:     {"unfit_shares", ClassContent, "shares that such a backup may not have: two of one operator, one of the key's own holder, too low a threshold"},
	UnknownBackup:   {"unknown_backup", ClassUnknown, "no backup of this key with this ciphertext is recorded"},
	KeyInForce:      {"key_in_force", ClassConflict, "the key is in force, or may still be heard"},
}

var codesByName = func() map[string]Code {
	names := make(map[string]Code, len(codes))
	for c := range codes {
		names[codes[c].name] = Code(c)
	}
	return names
}()

// String returns the code's name, such as "stale_base".
func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c].name
	}
	return "code " + strconv.Itoa(int(c))
}

// Class returns what kind of refusal c is.
func (c Code) Class() Class {
	if int(c) < len(codes) {
		return codes[c].class
	}
	return ClassContent
}

// Meaning returns a sentence for people.
func (c Code) Meaning() string {
	if int(c) < len(codes) {
		return codes[c].meaning
	}
	return "a code that this program does not know"
}

// CodeNamed returns the code of a name.
func CodeNamed(name string) (Code, bool) {
	c, ok := codesByName[name]
	return c, ok
}

// Codes returns every code, by number.
func Codes() []Code {
	all := make([]Code, len(codes))
	for i := range all {
		all[i] = Code(i)
	}
	return all
}
