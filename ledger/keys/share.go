package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/quorate/quorate/ledger/canon"
)

// How a share travels: sealed to its holder inside a backup; then asked for by a
// request that a governor signs, and answered by its holder, sealed to a
// recipient that was made for this one restoring.

// shareBody is what is sealed: canonical JSON.
type shareBody struct {
	Backup  [sha256.Size]byte  `json:"backup"` // Backup.Hash
	Holder  string             `json:"holder"` // whose share it is
	Index   uint64             `json:"index"`
	Key     ID                 `json:"key"` // of which key
	Ledger  [sha256.Size]byte  `json:"ledger"`
	Owner   string             `json:"owner"`             // whose key
	Request *[sha256.Size]byte `json:"request,omitempty"` // of an answer: the id of the request
	Set     [SetSize]byte      `json:"set"`
	Type    string             `json:"type"`
	Value   [ShareSize]byte    `json:"value"`
}

const shareType = "quorate/share.v1"

func (b *Backup) shareBody(s *Share, holder string) *shareBody {
	return &shareBody{Backup: b.Hash(), Holder: holder, Index: uint64(s.Index), Key: b.Key, Ledger: b.Ledger,
		Owner: b.Holder, Set: s.Set, Type: shareType, Value: s.Value}
}

func (s *shareBody) wipe() { WipeBytes(s.Value[:]) }

// share gives what of it is combined.
func (s *shareBody) share() Share { return Share{Set: s.Set, Index: byte(s.Index), Value: s.Value} }

func (s *shareBody) sealTo(recipient string) ([]byte, error) {
	plain, err := secretJSON(s, maxShare+1, "")
	if err != nil {
		return nil, err
	}
	defer plain.Wipe()
	return SealTo([]string{recipient}, plain.Bytes())
}

// parseShare reads what is sealed. Its errors tell nothing of the value.
func parseShare(plain []byte) (*shareBody, error) {
	if len(plain) > maxShare {
		return nil, fmt.Errorf("parse share: %d bytes, at most %d", len(plain), maxShare)
	}
	s := &shareBody{}
	if err := canon.Unmarshal(plain, s); err != nil {
		return nil, errors.New("parse share: it is not of the form of a share")
	}
	switch {
	case s.Type != shareType:
		return nil, fmt.Errorf("parse share: its type is %.40q, not %q", s.Type, shareType)
	case s.Index == 0 || s.Index > MaxShares:
		return nil, fmt.Errorf("parse share: its index is %d, not 1 to %d", s.Index, MaxShares)
	case !isName(s.Holder) || !isName(s.Owner):
		return nil, errors.New("parse share: it does not say whose it is")
	}
	return s, nil
}

// ShareRequestTyp is the "typ" of a request. No ledger takes such a statement.
const ShareRequestTyp = "quorate/share.request.v1"

// What a share is asked for.
const (
	RestorePurpose = "restore" // to have the key again
	TestPurpose    = "test"    // to see that the backup opens, and forget it
)

// ShareRequest is what a governor signs to ask another for its share: the payload
// of an envelope of type ShareRequestTyp. It has all that the holder needs, who
// may be offline.
type ShareRequest struct {
	Author     string            `json:"author"` // who asks
	Backup     [sha256.Size]byte `json:"backup"` // Backup.Hash
	Expires    uint64            `json:"expires"`
	Generation uint64            `json:"generation"`
	Holder     string            `json:"holder"` // who is asked
	Key        ID                `json:"key"`    // the key that is in the backup
	Ledger     [sha256.Size]byte `json:"ledger"`
	Name       string            `json:"name"` // whose key it is
	Purpose    string            `json:"purpose"`
	Recipient  string            `json:"recipient"` // whom to seal the answer to
	Sealed     []byte            `json:"sealed"`    // the holder's share, from the backup
	Share      [sha256.Size]byte `json:"share"`     // Share.Hash, as recorded
	Type       string            `json:"type"`
}

// Request begins the request for a holder's share: the caller says who asks, until
// when, for what, and to which recipient.
func (b *Backup) Request(holder string) (*ShareRequest, error) {
	s := b.ShareOf(holder)
	if s == nil {
		return nil, fmt.Errorf("%s holds no share of this backup", holder)
	}
	return &ShareRequest{Backup: b.Hash(), Holder: holder, Key: b.Key, Ledger: b.Ledger, Name: b.Holder,
		Sealed: s.Sealed, Share: s.Share, Type: ShareRequestTyp}, nil
}

// Words are those that asker and holder compare: the first 128 bits of the hash
// of the recipient that the answer is sealed to.
func (r *ShareRequest) Words() string {
	hash := RecipientHash(r.Recipient)
	return Words([16]byte(hash[:16]))
}

// Sign signs the request and gives its envelope.
func (r *ShareRequest) Sign(ctx context.Context, s Signer, show []string) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	payload, err := canon.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("sign request: %d bytes, at most %d", len(payload), MaxPayload)
	}
	return SignEnvelopeWith(ctx, s, PurposeRequest, ShareRequestTyp, payload, show)
}

// SignedRequest is a request as it was received. Its signature is not verified
// yet: see Verify.
type SignedRequest struct {
	ShareRequest
	ID       [sha256.Size]byte // as of a statement
	envelope *Envelope
}

// ParseShareRequest reads what Sign gives, and nothing else.
func ParseShareRequest(b []byte) (*SignedRequest, error) {
	envelope, err := ParseEnvelope(b)
	if err != nil {
		return nil, err
	}
	if envelope.Type != ShareRequestTyp {
		return nil, fmt.Errorf("it is a %.64s, not a %s", envelope.Type, ShareRequestTyp)
	}
	r := &SignedRequest{ID: envelope.ID(), envelope: envelope}
	if err := canon.Unmarshal(envelope.Payload, &r.ShareRequest); err != nil {
		return nil, err
	}
	return r, r.check()
}

// KeyID is the key that the request names as its signer's.
func (r *SignedRequest) KeyID() ID { return r.envelope.KeyID }

// Verify says whether p is the key that the request names, and signed it.
func (r *SignedRequest) Verify(p *PublicKey) bool { return r.envelope.Verify(p) }

func (r *ShareRequest) check() error {
	switch {
	case r.Type != ShareRequestTyp:
		return fmt.Errorf("its type is %.40q, not %q", r.Type, ShareRequestTyp)
	case r.Purpose != RestorePurpose && r.Purpose != TestPurpose:
		return fmt.Errorf("its purpose is %.40q, neither %q nor %q", r.Purpose, RestorePurpose, TestPurpose)
	case len(r.Sealed) == 0 || len(r.Sealed) > MaxSealedShare:
		return fmt.Errorf("the sealed share has %d bytes, want 1 to %d", len(r.Sealed), MaxSealedShare)
	case r.Expires == 0:
		return errors.New("it never expires")
	}
	for _, name := range []string{r.Author, r.Holder, r.Name} {
		if !isName(name) {
			return fmt.Errorf("%.64q is no name", name)
		}
	}
	return CheckRecipient(r.Recipient)
}

// Answer opens the share in the request by its holder's identity, checks that it is
// what the request says, and seals it to the recipient of the request. An error
// tells nothing of the share.
func (r *SignedRequest) Answer(ctx context.Context, holder Unwrapper) ([]byte, error) {
	plain, err := OpenBy(ctx, holder, r.Sealed)
	defer WipeBytes(plain)
	if err != nil {
		return nil, err
	}
	body, err := parseShare(plain)
	if err != nil {
		return nil, err
	}
	defer body.wipe()
	share := body.share()
	defer share.Wipe()
	switch {
	case body.Holder != r.Holder || body.Backup != r.Backup || body.Ledger != r.Ledger:
		return nil, fmt.Errorf("the share in it is of another backup than the request names, or of another holder (%.64s)", body.Holder)
	case body.Key != r.Key || body.Owner != r.Name:
		return nil, fmt.Errorf("the share in it is of key %s of %.64s, not of what the request names", body.Key, body.Owner)
	case share.Hash() != r.Share:
		return nil, errors.New("the share in it is not the one whose hash the request names")
	}
	id := r.ID
	body.Request = &id
	return body.sealTo(r.Recipient)
}

// CheckShare says whether a holder's share in the backup opens by its identity and
// is the recorded one, and shows nothing of it.
func (b *Backup) CheckShare(ctx context.Context, name string, holder Unwrapper) error {
	sealed := b.ShareOf(name)
	if sealed == nil {
		return fmt.Errorf("%s holds no share of this backup", name)
	}
	plain, err := OpenBy(ctx, holder, sealed.Sealed)
	defer WipeBytes(plain)
	if err != nil {
		return err
	}
	body, err := parseShare(plain)
	if err != nil {
		return err
	}
	defer body.wipe()
	share := body.share()
	defer share.Wipe()
	if body.Holder != name || body.Backup != b.Hash() || body.Ledger != b.Ledger || body.Set != b.Set || share.Hash() != sealed.Share {
		return errors.New("it opens, and is not the recorded one")
	}
	return nil
}

// Answer is a file that came back.
type Answer struct {
	File    string
	Content []byte
}

// ShareError says what is wrong with one answer. It wraps ErrNotForUs where the
// answer is sealed to somebody else.
type ShareError struct {
	File   string
	Holder string // whom it names, if it opens
	Why    string // begins with the file's name
	Err    error
}

func (e *ShareError) Error() string { return e.Why }
func (e *ShareError) Unwrap() error { return e.Err }

// Judged is what became of the answers.
type Judged struct {
	Good    []Share
	Holders []string      // of the good ones, in the same order
	Files   []string      // and their files
	Bad     []*ShareError // in the order of the answers
	Missing []string      // holders of whom no good share is there
}

// Wipe writes zeros over the shares.
func (j *Judged) Wipe() {
	for i := range j.Good {
		j.Good[i].Wipe()
	}
}

// Judge opens each answer with the identity that was made for this restoring and
// judges it by itself. record says where the hashes of the shares are recorded,
// such as "entry 5123"; requests are the ids of the requests that were made.
func (b *Backup) Judge(answers []Answer, identity string, record string, requests map[string][sha256.Size]byte) *Judged {
	// With room for all, since growing would leave copies behind.
	j := &Judged{Good: make([]Share, 0, len(answers))}
	for _, a := range answers {
		share, holder, bad := b.judge(a, identity, record, requests)
		if bad == nil {
			if i := j.indexOf(holder); i >= 0 {
				share.Wipe()
				bad = &ShareError{Why: fmt.Sprintf("%s and %s are the same share: one counts", j.Files[i], a.File)}
			}
		}
		if bad != nil {
			bad.File, bad.Holder = a.File, holder
			j.Bad = append(j.Bad, bad)
			continue
		}
		j.Good, j.Holders, j.Files = append(j.Good, share), append(j.Holders, holder), append(j.Files, a.File)
		share.Wipe()
	}
	for _, s := range b.Shares {
		if j.indexOf(s.Holder) < 0 {
			j.Missing = append(j.Missing, s.Holder)
		}
	}
	return j
}

func (j *Judged) indexOf(holder string) int {
	for i, h := range j.Holders {
		if h == holder {
			return i
		}
	}
	return -1
}

func (b *Backup) judge(a Answer, identity, record string, requests map[string][sha256.Size]byte) (Share, string, *ShareError) {
	bad := func(err error, format string, args ...any) *ShareError {
		return &ShareError{Why: a.File + " " + fmt.Sprintf(format, args...), Err: err}
	}
	plain, err := OpenWith(identity, a.Content)
	defer WipeBytes(plain)
	if errors.Is(err, ErrNotForUs) {
		return Share{}, "", bad(err, "answers another request: it is not sealed to this one's restore.key, or was changed on its way")
	}
	if err != nil {
		return Share{}, "", bad(err, "is damaged (%v): ask whoever sent it again", err)
	}
	body, err := parseShare(plain)
	if err != nil {
		return Share{}, "", bad(err, "holds no share (%v): ask whoever sent it again", err)
	}
	defer body.wipe()
	share := body.share()
	sealed := b.ShareOf(body.Holder)
	var why *ShareError
	switch {
	case body.Backup != b.Hash() || body.Ledger != b.Ledger || body.Set != b.Set:
		why = bad(nil, "is a share of another backup (of key %s… of %.64s)", body.Key.String()[:8], body.Owner)
	case sealed == nil:
		why = bad(nil, "names holder %.64s, who holds no share of this backup", body.Holder)
	case share.Hash() != sealed.Share:
		got := share.Hash()
		why = bad(nil, "claims to be %s's share and is not: its hash is %x…, %s records %x…", body.Holder, got[:4], record, sealed.Share[:4])
	case body.Request == nil || !answers(requests, body.Holder, *body.Request):
		why = bad(nil, "answers another request: not the one that was made to %s here", body.Holder)
	}
	if why != nil {
		share.Wipe()
		return Share{}, body.Holder, why
	}
	return share, body.Holder, nil
}

// answers says whether the id is that of the request made to the holder; if none
// is known it is.
func answers(requests map[string][sha256.Size]byte, holder string, id [sha256.Size]byte) bool {
	want, known := requests[holder]
	return !known || bytes.Equal(want[:], id[:])
}
