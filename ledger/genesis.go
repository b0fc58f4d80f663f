package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// Format is the version of FORMAT.md that this code speaks.
const Format = 3

// Member is a governor: a seat in the council, held by one operator.
type Member struct {
	Name      string `json:"name"`
	Operator  string `json:"operator"`
	Public    []byte `json:"public"`              // ML-DSA-65, 1,952 bytes
	Recipient string `json:"recipient,omitempty"` // age post-quantum recipient
}

// KeyID is the id of the member's key.
func (m Member) KeyID() Hash { return sha256.Sum256(m.Public) }

// Holder is a recovery holder, who can only re-seat a lost council.
type Holder struct {
	Name   string `json:"name"`
	Public []byte `json:"public"` // ML-DSA-65
}

// KeyID is the id of the holder's key.
func (h Holder) KeyID() Hash { return sha256.Sum256(h.Public) }

// Recovery is the recovery set: Threshold of its holders re-seat the council.
type Recovery struct {
	Holders   []Holder `json:"holders"`
	Threshold uint64   `json:"threshold"`
}

// Operator is the unit of independence: votes count once per operator. An
// operator without a governor names a sponsor, whose governors consent for it.
type Operator struct {
	Name    string `json:"name"`
	Sponsor string `json:"sponsor,omitempty"`
}

// Replica is what the ledger records of a replica.
type Replica struct {
	API      string `json:"api,omitempty"` // URL of its REST API
	Cosigner []byte `json:"cosigner"`      // ML-DSA-44, 1,312 bytes
	Name     string `json:"name"`
	Operator string `json:"operator"`
	Peer     string `json:"peer"`    // host:port of its peer listener
	Public   []byte `json:"public"`  // ML-DSA-65, 1,952 bytes
	TLSPin   Hash   `json:"tls_pin"` // SHA-256 of its SubjectPublicKeyInfo
}

// KeyID is the id of the replica's key. Its hex form is the Raft server id, so
// a re-keyed replica is another server.
func (r Replica) KeyID() Hash { return sha256.Sum256(r.Public) }

// LogKeys are the log's own public keys, which carry no authority.
type LogKeys struct {
	Ed25519 []byte `json:"ed25519"` // 32 bytes
	MLDSA44 []byte `json:"mldsa44"` // 1,312 bytes
}

// Witness is a C2SP witness outside the fleet.
type Witness struct {
	Name string `json:"name"`
	VKey string `json:"vkey"` // C2SP signed-note verifier key
}

// Rule says how an action is decided.
type Rule struct {
	DelayMillis uint64   `json:"delay_millis"`      // from decision to execution
	Threshold   uint64   `json:"threshold"`         // distinct operators
	Vetoers     []string `json:"vetoers,omitempty"` // governors, sorted
}

// Policy is every parameter that governance can change.
type Policy struct {
	ClosedRetentionMillis  uint64          `json:"closed_retention_millis"` // closed proposals stay in the state this long
	EpochMillis            uint64          `json:"epoch_millis"`
	GraceEpochs            uint64          `json:"grace_epochs"`
	KeyEpochs              uint64          `json:"key_epochs"`     // validity of a node's key
	Keys                   *Keys           `json:"keys,omitempty"` // from format 3 on; absent: DefaultKeys
	MaxHeadAgeMillis       uint64          `json:"max_head_age_millis"`
	MaxSkewMillis          uint64          `json:"max_skew_millis"`
	ProposalLifetimeMillis uint64          `json:"proposal_lifetime_millis"`
	Protection             *Protection     `json:"protection,omitempty"` // from format 2 on; absent: DefaultProtection
	Quota                  uint64          `json:"quota"`                // statements of one node or replica in one epoch
	Rules                  map[string]Rule `json:"rules"`
	TickMillis             uint64          `json:"tick_millis"`
}

// Genesis is the content of entry 0.
type Genesis struct {
	Council       []Member   `json:"council"`
	Created       uint64     `json:"created"` // milliseconds
	Format        uint64     `json:"format"`
	Log           LogKeys    `json:"log"`
	Operators     []Operator `json:"operators"`
	Origin        string     `json:"origin"`
	Policy        Policy     `json:"policy"`
	Recovery      *Recovery  `json:"recovery,omitempty"`
	Replicas      []Replica  `json:"replicas"`
	WitnessQuorum uint64     `json:"witness_quorum,omitempty"`
	Witnesses     []Witness  `json:"witnesses,omitempty"`
}

// Actions are the governed actions of FORMAT.md section 4 for each of which a
// policy has a rule, sorted; ActionsOf has those besides whose rule may be absent.
func Actions() []string {
	return []string{
		"council.change", "council.reseat", "epoch.advance", "format.upgrade",
		"ledger.freeze", "ledger.unfreeze", "log.rekey",
		"node.admit", "node.quarantine", "node.rekey", "node.release", "node.remove",
		"operator.add", "operator.remove", "policy.change",
		"replica.add", "replica.rekey", "replica.remove",
	}
}

// ChangesAuthority reports whether action can change who decides or who
// certifies; its threshold is at least MajorityOfOperators.
func ChangesAuthority(action string) bool {
	switch action {
	case "council.change", "council.reseat", "format.upgrade", "ledger.freeze", "ledger.unfreeze", "log.rekey",
		"operator.add", "operator.remove", "policy.change", "replica.add", "replica.rekey", "replica.remove":
		return true
	}
	return false
}

// MajorityOfOperators is floor(operators/2)+1, the least threshold of an
// action that changes authority.
func MajorityOfOperators(operators int) uint64 { return uint64(operators/2 + 1) }

// CouncilOperators counts the distinct operators of a council.
func CouncilOperators(council []Member) int {
	seen := map[string]bool{}
	for _, m := range council {
		seen[m.Operator] = true
	}
	return len(seen)
}

// CosignThreshold is floor((n+f)/2)+1 with f = floor((n-1)/3): how many of n
// active replicas certify a head.
func CosignThreshold(n int) int {
	if n < 1 {
		return 1
	}
	f := (n - 1) / 3
	return (n+f)/2 + 1
}

// Faults is f = floor((n-1)/3), how many of n replicas may lie.
func Faults(n int) int {
	if n < 1 {
		return 0
	}
	return (n - 1) / 3
}

// DefaultPolicy is the policy that init writes for a council of the given
// number of operators: each action at its majority, re-seating after 14 days.
func DefaultPolicy(operators int) Policy {
	majority := MajorityOfOperators(operators)
	rules := make(map[string]Rule)
	for _, action := range Actions() {
		rules[action] = Rule{Threshold: majority}
	}
	rules["council.reseat"] = Rule{Threshold: majority, DelayMillis: 14 * 24 * 3_600_000}
	return Policy{
		ClosedRetentionMillis:  30 * 24 * 3_600_000,
		EpochMillis:            600_000,
		GraceEpochs:            1,
		KeyEpochs:              4_320,
		MaxHeadAgeMillis:       60_000,
		MaxSkewMillis:          5_000,
		ProposalLifetimeMillis: 7 * 24 * 3_600_000,
		Quota:                  65_536,
		Rules:                  rules,
		TickMillis:             10_000,
	}
}

// ValidName checks a principal's or operator's name (FORMAT.md section 2).
func ValidName(name string) error {
	if len(name) == 0 || len(name) > maxNameBytes {
		return fmt.Errorf("name %q: want 1 to 63 characters", name)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (c != '.' && c != '-' || i == 0 || i == len(name)-1) {
			return fmt.Errorf("name %q: want a-z, 0-9, and inside it . or -", name)
		}
	}
	return nil
}

// ValidOrigin checks a checkpoint origin: it is also a signed-note key name.
func ValidOrigin(origin string) error {
	if origin == "" || len(origin) > 128 {
		return fmt.Errorf("origin %q: want 1 to 128 characters", origin)
	}
	for i := 0; i < len(origin); i++ {
		if c := origin[i]; c <= ' ' || c >= 0x7f || c == '+' {
			return fmt.Errorf("origin %q: want printable ASCII without space and +", origin)
		}
	}
	if strings.HasSuffix(origin, "/") || strings.Contains(origin, "://") {
		return fmt.Errorf("origin %q: want a URL prefix without scheme and trailing slash", origin)
	}
	return nil
}

// ValidatePolicy checks p against the council's number of operators and the
// ledger's format.
func ValidatePolicy(p Policy, operators int, format uint64) error {
	rules := 0
	for _, action := range ActionsOf(format) {
		rule, ok := p.Rules[action]
		if !ok && action == ActionRevoke {
			continue
		}
		rules++
		if !ok {
			return fmt.Errorf("rules.%s: missing; a policy has a rule for every action", action)
		}
		if rule.Threshold < 1 {
			return fmt.Errorf("rules.%s.threshold: must be at least 1", action)
		}
		if rule.Threshold > uint64(operators) && action != "council.reseat" {
			return fmt.Errorf("rules.%s.threshold: %d can't be met by %d operators", action, rule.Threshold, operators)
		}
		if ChangesAuthority(action) && action != "council.reseat" && rule.Threshold < MajorityOfOperators(operators) {
			return fmt.Errorf("rules.%s.threshold: %d is below the majority of operators, %d", action, rule.Threshold, MajorityOfOperators(operators))
		}
		if rule.DelayMillis > MaxNonceTTLMillis {
			return fmt.Errorf("rules.%s.delay_millis: at most 30 days", action)
		}
		if !slices.IsSorted(rule.Vetoers) || len(slices.Compact(slices.Clone(rule.Vetoers))) != len(rule.Vetoers) {
			return fmt.Errorf("rules.%s.vetoers: must be sorted, none twice", action)
		}
	}
	if len(p.Rules) != rules {
		return errors.New("rules: names an action that does not exist")
	}
	for _, b := range []struct {
		name          string
		value, lo, hi uint64
	}{
		{"epoch_millis", p.EpochMillis, 100, 24 * 3_600_000},
		{"tick_millis", p.TickMillis, 100, 3_600_000},
		{"max_skew_millis", p.MaxSkewMillis, 100, 3_600_000},
		{"max_head_age_millis", p.MaxHeadAgeMillis, 1_000, 24 * 3_600_000},
		{"proposal_lifetime_millis", p.ProposalLifetimeMillis, 1_000, MaxNonceTTLMillis},
		{"closed_retention_millis", p.ClosedRetentionMillis, 1_000, 365 * 24 * 3_600_000},
		{"key_epochs", p.KeyEpochs, 1, 1 << 32},
		{"grace_epochs", p.GraceEpochs, 0, 1 << 16},
		{"quota", p.Quota, 1, 1 << 32},
	} {
		if b.value < b.lo || b.value > b.hi {
			return fmt.Errorf("%s: %d is outside %d to %d", b.name, b.value, b.lo, b.hi)
		}
	}
	if p.Keys != nil {
		if format < KeysFormat {
			return fmt.Errorf("keys: from format %d on", KeysFormat)
		}
		if err := p.Keys.validate(p.KeyEpochs); err != nil {
			return err
		}
	}
	if p.Protection != nil {
		return p.Protection.validate()
	}
	return nil
}

// Protects returns the protection in force under the policy.
func (p *Policy) Protects() Protection {
	if p.Protection != nil {
		return *p.Protection
	}
	return DefaultProtection()
}

// Validate checks everything that genesis alone can show to be wrong.
func (g *Genesis) Validate() error {
	if g.Format < 1 || g.Format > Format {
		return fmt.Errorf("format: this program speaks formats 1 to %d, genesis has %d", Format, g.Format)
	}
	if g.Format < 2 && g.Policy.Protection != nil {
		return errors.New("policy.protection: from format 2 on")
	}
	if err := ValidOrigin(g.Origin); err != nil {
		return err
	}
	operators := map[string]bool{}
	for i, o := range g.Operators {
		if err := ValidName(o.Name); err != nil {
			return fmt.Errorf("operators[%d]: %w", i, err)
		}
		operators[o.Name] = true
	}
	if err := strictlySorted("operators", g.Operators, func(o Operator) string { return o.Name }); err != nil {
		return err
	}
	for _, o := range g.Operators {
		if o.Sponsor != "" && (!operators[o.Sponsor] || o.Sponsor == o.Name) {
			return fmt.Errorf("operators: %s: sponsor %q is no other operator", o.Name, o.Sponsor)
		}
	}
	if len(g.Council) < 1 || len(g.Council) > MaxCouncil {
		return fmt.Errorf("council: want 1 to %d governors", MaxCouncil)
	}
	if len(g.Replicas) < 1 || len(g.Replicas) > MaxReplicas {
		return fmt.Errorf("replicas: want 1 to %d", MaxReplicas)
	}
	if err := strictlySorted("council", g.Council, func(m Member) string { return m.Name }); err != nil {
		return err
	}
	if err := strictlySorted("replicas", g.Replicas, func(r Replica) string { return r.Name }); err != nil {
		return err
	}
	seats := newSeats(operators)
	for _, m := range g.Council {
		if err := seats.take("council", m.Name, m.Operator, m.Public); err != nil {
			return err
		}
	}
	for _, r := range g.Replicas {
		if err := seats.take("replicas", r.Name, r.Operator, r.Public); err != nil {
			return err
		}
		if err := r.Validate(); err != nil {
			return fmt.Errorf("replicas: %s: %w", r.Name, err)
		}
	}
	if err := distinctPeers(g.Replicas); err != nil {
		return err
	}
	if err := g.validateRecovery(seats); err != nil {
		return err
	}
	if len(g.Log.Ed25519) != 32 || len(g.Log.MLDSA44) != keys.Cosigner44PublicKeySize {
		return errors.New("log: want a 32-byte Ed25519 and a 1,312-byte ML-DSA-44 public key")
	}
	if err := g.validateWitnesses(); err != nil {
		return err
	}
	if err := ValidatePolicy(g.Policy, CouncilOperators(g.Council), g.Format); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return g.validateVetoers()
}

// distinctPeers refuses two replicas at one address, which Raft can't tell
// apart, and two with one TLS key, which no pin can.
func distinctPeers(replicas []Replica) error {
	addresses, pins := map[string]string{}, map[Hash]string{}
	for _, r := range replicas {
		if other, taken := addresses[r.Peer]; taken {
			return fmt.Errorf("replicas: %s: peer %s is also the address of %s", r.Name, r.Peer, other)
		}
		if other, taken := pins[r.TLSPin]; taken {
			return fmt.Errorf("replicas: %s: tls_pin is also that of %s", r.Name, other)
		}
		addresses[r.Peer], pins[r.TLSPin] = r.Name, r.Name
	}
	return nil
}

func (g *Genesis) validateWitnesses() error {
	if err := strictlySorted("witnesses", g.Witnesses, func(w Witness) string { return w.Name }); err != nil {
		return err
	}
	for _, w := range g.Witnesses {
		if err := ValidName(w.Name); err != nil {
			return fmt.Errorf("witnesses: %w", err)
		}
		if strings.Count(w.VKey, "+") < 2 || len(w.VKey) > MaxVKeyBytes {
			return fmt.Errorf("witnesses: %s: vkey: want a C2SP verifier key", w.Name)
		}
	}
	if g.WitnessQuorum > uint64(len(g.Witnesses)) {
		return fmt.Errorf("witness_quorum: %d of %d witnesses", g.WitnessQuorum, len(g.Witnesses))
	}
	return nil
}

// validateVetoers checks that whoever may veto is a governor: a name that
// nobody has would be a veto that nobody can cast.
func (g *Genesis) validateVetoers() error {
	governors := map[string]bool{}
	for _, m := range g.Council {
		governors[m.Name] = true
	}
	for _, action := range ActionsOf(g.Format) {
		for _, name := range g.Policy.Rules[action].Vetoers {
			if !governors[name] {
				return fmt.Errorf("policy: rules.%s.vetoers: no governor is named %q", action, name)
			}
		}
	}
	return nil
}

func (g *Genesis) validateRecovery(seats *seats) error {
	if g.Recovery == nil {
		return nil
	}
	if err := strictlySorted("recovery", g.Recovery.Holders, func(h Holder) string { return h.Name }); err != nil {
		return err
	}
	for _, h := range g.Recovery.Holders {
		if err := seats.take("recovery", h.Name, "", h.Public); err != nil {
			return err
		}
	}
	if g.Recovery.Threshold < 1 || g.Recovery.Threshold > uint64(len(g.Recovery.Holders)) {
		return fmt.Errorf("recovery.threshold: %d of %d holders", g.Recovery.Threshold, len(g.Recovery.Holders))
	}
	return nil
}

// Validate checks the fields of a replica that it alone can show to be wrong.
func (r Replica) Validate() error {
	if len(r.Cosigner) != keys.Cosigner44PublicKeySize {
		return fmt.Errorf("cosigner: want %d bytes of ML-DSA-44 public key", keys.Cosigner44PublicKeySize)
	}
	if i := strings.LastIndexByte(r.Peer, ':'); i < 1 || i == len(r.Peer)-1 || len(r.Peer) > 255 {
		return fmt.Errorf("peer %q: want host:port", r.Peer)
	}
	if r.API != "" && (len(r.API) > 255 || !strings.HasPrefix(r.API, "https://") && !strings.HasPrefix(r.API, "http://")) {
		return fmt.Errorf("api %q: want an http(s) URL", r.API)
	}
	if r.TLSPin.IsZero() {
		return errors.New("tls_pin: want the SHA-256 of the replica's SubjectPublicKeyInfo")
	}
	return nil
}

// seats collects the names and key ids of genesis: each appears once, in one
// role.
type seats struct {
	operators, names map[string]bool
	ids              map[Hash]bool
}

func newSeats(operators map[string]bool) *seats {
	return &seats{operators: operators, names: map[string]bool{}, ids: map[Hash]bool{}}
}

func (s *seats) take(list, name, operator string, public []byte) error {
	if err := ValidName(name); err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	if operator != "" && !s.operators[operator] {
		return fmt.Errorf("%s: %s: operator %q is not among the operators", list, name, operator)
	}
	if operator == "" && list != "recovery" {
		return fmt.Errorf("%s: %s: operator is missing", list, name)
	}
	if len(public) != keys.PublicKeySize {
		return fmt.Errorf("%s: %s: public: want %d bytes of ML-DSA-65 public key, got %d", list, name, keys.PublicKeySize, len(public))
	}
	id := Hash(sha256.Sum256(public))
	if s.names[name] || s.ids[id] {
		return fmt.Errorf("%s: %s: name or key appears twice; a key has one role for ever", list, name)
	}
	s.names[name], s.ids[id] = true, true
	return nil
}

func strictlySorted[T any](list string, items []T, name func(T) string) error {
	if !sort.SliceIsSorted(items, func(i, j int) bool { return name(items[i]) < name(items[j]) }) {
		return fmt.Errorf("%s: must be sorted by name", list)
	}
	for i := 1; i < len(items); i++ {
		if name(items[i-1]) == name(items[i]) {
			return fmt.Errorf("%s: %s appears twice", list, name(items[i]))
		}
	}
	return nil
}

// Entry returns entry 0 of the ledger that g founds. Its leaf hash is the
// genesis hash.
func (g *Genesis) Entry() ([]byte, error) {
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("check genesis: %w", err)
	}
	content, err := canon.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encode genesis: %w", err)
	}
	e := Entry{Seq: 0, Stamp: g.Created, Kind: KindGenesis, Content: content}
	return e.Encode()
}

// ParseGenesis reads and checks entry 0.
func ParseGenesis(entry []byte) (*Genesis, Hash, error) {
	e, err := ParseEntry(entry)
	if err != nil {
		return nil, Hash{}, err
	}
	if e.Kind != KindGenesis || e.Seq != 0 || !e.Prev.IsZero() {
		return nil, Hash{}, errors.New("parse genesis: not an entry 0 of kind genesis")
	}
	var g Genesis
	if err := canon.Unmarshal(e.Content, &g); err != nil {
		return nil, Hash{}, fmt.Errorf("parse genesis: %w", err)
	}
	if e.Stamp != g.Created {
		return nil, Hash{}, errors.New("parse genesis: stamp differs from created")
	}
	if err := g.Validate(); err != nil {
		return nil, Hash{}, fmt.Errorf("parse genesis: %w", err)
	}
	return &g, LeafHash(entry), nil
}
