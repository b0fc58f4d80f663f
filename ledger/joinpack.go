package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// JoinPackType is the type of a join pack file.
const JoinPackType = "quorate/join-pack.v1"

// JoinPack is what a newcomer starts from (FORMAT.md section 18): the authority
// chain from genesis, which proves who decides, and a head that governors
// endorsed, which shows how far the ledger had come by then. Without
// endorsements, or with too few, it is a draft for governors to sign.
type JoinPack struct {
	Authority    []*Link       `json:"authority"`    // 0 up to the one in force at the head
	Checkpoint   string        `json:"checkpoint"`   // note of the head, certified
	Endorsements []Endorsement `json:"endorsements"` // by name
	Type         string        `json:"type"`
}

// Endorsement is a governor's word that a head was on the ledger at a time.
type Endorsement struct {
	Name      string `json:"name"`      // of the governor
	Signature []byte `json:"signature"` // ML-DSA-65
	Time      uint64 `json:"time"`      // milliseconds
}

// JoinPackReport is what a checked join pack says.
type JoinPackReport struct {
	Genesis   Hash
	Chain     *Chain    // as the pack has it
	Authority Authority // in force at the head: whose council endorses
	Head      Head
	Signed    uint64 // seconds: when the replicas' threshold had signed it
	Endorsers []AuthorityMember
	Operators []string // of the endorsers, each once, sorted
	Threshold uint64   // operators that make an endorsement
	Endorsed  uint64   // milliseconds: when so many had endorsed; 0: too few have
}

// EndorsementError says that an endorsement of a pack counts for nothing, so that
// the pack is not what whoever made it says.
type EndorsementError struct{ Name, Why string }

func (e *EndorsementError) Error() string {
	return fmt.Sprintf("endorsement of %s: %s", e.Name, e.Why)
}

// NotEndorsedError says that too few operators endorse a head.
type NotEndorsedError struct {
	Endorsers  []AuthorityMember
	Have, Want uint64 // operators
}

func (e *NotEndorsedError) Error() string {
	by := []string{"nobody"}
	for i, m := range e.Endorsers {
		if i == 0 {
			by = nil
		}
		by = append(by, m.Name+" of "+m.Operator)
	}
	return fmt.Sprintf("the head is endorsed by %s: %d of %d operators", strings.Join(by, ", "), e.Have, e.Want)
}

// PackAgeError says that a pack's endorsement is not recent. Times are in
// milliseconds.
type PackAgeError struct{ Endorsed, Now, Limit uint64 }

func (e *PackAgeError) Error() string {
	if e.Endorsed > e.Now {
		return "the head's endorsement is of a time to come"
	}
	days := func(millis uint64) float64 { return float64(millis) / 86_400_000 }
	return fmt.Sprintf("the head was endorsed %.1f days ago, at most %.1f", days(e.Now-e.Endorsed), days(e.Limit))
}

// EndorseThreshold is how many distinct operators of a's council make an
// endorsement: as many as change the council.
func (a Authority) EndorseThreshold() uint64 { return a.Needs("council.change", a) }

// endorsement is what a governor signs.
func (h Head) endorsement(branch Hash, millis uint64) []byte {
	b := append(keys.PurposePrefix("endorsement"), branch[:]...)
	b = binary.BigEndian.AppendUint64(b, millis)
	return append(b, h.Body()...)
}

// Endorse makes a governor's endorsement of h, a head of this branch (see
// Branch). The time, in milliseconds, is above 0.
func Endorse(branch Hash, k *keys.PrivateKey, name string, h Head, millis uint64) Endorsement {
	e, err := EndorseWith(branch, name, h, millis, func(message []byte) ([]byte, error) { return k.Sign(message), nil })
	invariant(err == nil, "a key in memory signs")
	return e
}

// EndorseWith is Endorse by a key that may be elsewhere: sign signs the message.
func EndorseWith(branch Hash, name string, h Head, millis uint64, sign func(message []byte) ([]byte, error)) (Endorsement, error) {
	invariant(millis > 0 && millis <= canon.MaxInt, "an endorsement has a time")
	signature, err := sign(h.endorsement(branch, millis))
	if err != nil {
		return Endorsement{}, fmt.Errorf("endorse: %w", err)
	}
	return Endorsement{Name: name, Signature: signature, Time: millis}, nil
}

// Encode gives the file, canonical JSON. It sets the type.
func (p *JoinPack) Encode() ([]byte, error) {
	p.Type = JoinPackType
	if p.Endorsements == nil {
		p.Endorsements = []Endorsement{}
	}
	b, err := canon.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode join pack: %w", err)
	}
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("encode join pack: %d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	return b, nil
}

// ParseJoinPack reads what Encode gives, and nothing else.
func ParseJoinPack(b []byte) (*JoinPack, error) {
	if len(b) > MaxProofFileBytes {
		return nil, fmt.Errorf("parse join pack: %d bytes, at most %d", len(b), MaxProofFileBytes)
	}
	var p JoinPack
	if err := canon.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("parse join pack: %w", err)
	}
	if p.Type != JoinPackType {
		return nil, fmt.Errorf("parse join pack: type %.64q, want %q", p.Type, JoinPackType)
	}
	if len(p.Endorsements) > MaxCouncil {
		return nil, fmt.Errorf("parse join pack: %d endorsements, at most %d", len(p.Endorsements), MaxCouncil)
	}
	if err := strictlySorted("endorsements", p.Endorsements, func(e Endorsement) string { return e.Name }); err != nil {
		return nil, fmt.Errorf("parse join pack: %w", err)
	}
	return &p, nil
}

// Ledger is the genesis hash that the file itself names: to show what it is
// about, not to trust it.
func (p *JoinPack) Ledger() (Hash, error) {
	if len(p.Authority) == 0 {
		return Hash{}, errors.New("read join pack: it has no authority chain")
	}
	_, hash, err := ParseGenesis(p.Authority[0].Genesis)
	return hash, err
}

// Check verifies all of a pack but how many endorse it, from the genesis hash:
// each link, the head's cosignatures, and every endorsement under the council in
// force at the head. One that does not hold makes the pack invalid, as an
// *EndorsementError.
func (p *JoinPack) Check(genesis Hash) (*JoinPackReport, error) {
	report, err := p.check(genesis)
	if err != nil {
		return nil, fmt.Errorf("check join pack: %w", err)
	}
	return report, nil
}

func (p *JoinPack) check(genesis Hash) (*JoinPackReport, error) {
	chain, err := WalkChain(genesis, p.Authority)
	if err != nil {
		return nil, err
	}
	checkpoint, err := chain.VerifyCheckpoint([]byte(p.Checkpoint))
	if err != nil {
		return nil, err
	}
	// Or the council that endorses would be one that the pack itself shows to be
	// replaced.
	if last, ok := chain.HandoverHead(chain.Len() - 1); ok && last.Size > checkpoint.Head.Size {
		return nil, fmt.Errorf("its head is of size %d, and its chain goes on to a handover at size %d", checkpoint.Head.Size, last.Size)
	}
	r := &JoinPackReport{Genesis: genesis, Chain: chain, Authority: chain.Latest, Head: checkpoint.Head,
		Signed: checkpoint.Signed(chain.Latest), Threshold: chain.Latest.EndorseThreshold()}
	newest := map[string]uint64{} // by operator
	for _, e := range p.Endorsements {
		m, err := r.endorser(e)
		if err != nil {
			return nil, err
		}
		r.Endorsers = append(r.Endorsers, m)
		newest[m.Operator] = max(newest[m.Operator], e.Time)
	}
	times := make([]uint64, 0, len(newest))
	for operator, time := range newest {
		r.Operators, times = append(r.Operators, operator), append(times, time)
	}
	slices.Sort(r.Operators)
	slices.Sort(times)
	if n := uint64(len(times)); n >= r.Threshold {
		r.Endorsed = times[n-r.Threshold]
	}
	return r, nil
}

// endorser gives the governor in force that e is of, if its signature verifies.
func (r *JoinPackReport) endorser(e Endorsement) (AuthorityMember, error) {
	at := slices.IndexFunc(r.Authority.Council, func(m AuthorityMember) bool { return m.Name == e.Name })
	if at < 0 {
		return AuthorityMember{}, &EndorsementError{e.Name, fmt.Sprintf("no governor of this name was in the council at size %d", r.Head.Size)}
	}
	m := r.Authority.Council[at]
	if e.Time == 0 {
		return m, &EndorsementError{e.Name, "it has no time"}
	}
	key, err := keys.ParsePublicKey(m.Public)
	if err != nil {
		return m, &EndorsementError{e.Name, err.Error()}
	}
	if !key.Verify(r.Head.endorsement(r.Authority.Branch(), e.Time), e.Signature) {
		return m, &EndorsementError{e.Name, fmt.Sprintf("it is not signed by the key that the council has at size %d", r.Head.Size)}
	}
	return m, nil
}

// Verify is Check, and that the council's threshold endorses: else a
// *NotEndorsedError.
func (p *JoinPack) Verify(genesis Hash) (*JoinPackReport, error) {
	report, err := p.Check(genesis)
	if err != nil {
		return nil, err
	}
	if report.Endorsed == 0 {
		return nil, fmt.Errorf("check join pack: %w",
			&NotEndorsedError{Endorsers: report.Endorsers, Have: uint64(len(report.Operators)), Want: report.Threshold})
	}
	return report, nil
}

// Recent checks that the endorsement is not older than a limit, nor of a time to
// come, by the reader's clock, all in milliseconds. The error is a
// *PackAgeError.
func (r *JoinPackReport) Recent(now, limit uint64) error {
	if r.Endorsed > now+MaxEndorsedAheadMillis || r.Endorsed+limit < now {
		return &PackAgeError{Endorsed: r.Endorsed, Now: now, Limit: limit}
	}
	return nil
}

// Merge takes the endorsements of another pack of the same head. Of one governor
// the newest stays. Neither pack need hold: Check says.
func (p *JoinPack) Merge(other *JoinPack) error {
	ours, err := ParseCheckpoint([]byte(p.Checkpoint))
	if err != nil {
		return fmt.Errorf("merge join packs: %w", err)
	}
	theirs, err := ParseCheckpoint([]byte(other.Checkpoint))
	if err != nil {
		return fmt.Errorf("merge join packs: %w", err)
	}
	if len(p.Authority) == 0 || len(other.Authority) == 0 || !bytes.Equal(p.Authority[0].Genesis, other.Authority[0].Genesis) {
		return errors.New("merge join packs: they are of two ledgers")
	}
	if ours.Head != theirs.Head {
		return fmt.Errorf("merge join packs: they are of two heads, of sizes %d and %d", ours.Head.Size, theirs.Head.Size)
	}
	for _, e := range other.Endorsements {
		p.Add(e)
	}
	return nil
}

// Add puts in an endorsement; of one governor the newest stays.
func (p *JoinPack) Add(e Endorsement) {
	at, found := slices.BinarySearchFunc(p.Endorsements, e.Name, func(have Endorsement, name string) int { return strings.Compare(have.Name, name) })
	switch {
	case !found:
		p.Endorsements = slices.Insert(p.Endorsements, at, e)
	case p.Endorsements[at].Time < e.Time:
		p.Endorsements[at] = e
	}
}
