package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"

	"github.com/quorate/quorate/ledger/canon"
)

// Backup is a principal's key file, encrypted, with the shares of its file key,
// each sealed to its holder: FORMAT.md, section 19. Whoever has it and enough
// holders' identities can open it, and nobody else.
type Backup struct {
	Ciphertext []byte              `json:"ciphertext"`           // an age file
	Holder     string              `json:"holder"`               // whose key it is
	Key        ID                  `json:"key"`                  // which key
	Ledger     [sha256.Size]byte   `json:"ledger"`               // genesis hash
	Recipients [][sha256.Size]byte `json:"recipients,omitempty"` // SHA-256 of those who open it alone
	Role       string              `json:"role"`                 // the holder's
	Set        [SetSize]byte       `json:"set"`                  // of the shares
	Shares     []SealedShare       `json:"shares"`               // sorted by holder
	Threshold  uint64              `json:"threshold"`            // how many shares open it
	Type       string              `json:"type"`
}

// SealedShare is a share as a backup carries it.
type SealedShare struct {
	Holder    string            `json:"holder"`    // who can open it
	Recipient [sha256.Size]byte `json:"recipient"` // SHA-256 of the holder's age recipient
	Sealed    []byte            `json:"sealed"`    // an age file to that recipient
	Share     [sha256.Size]byte `json:"share"`     // Share.Hash
}

const backupType = "quorate/backup.v1"

// ShareHolder is who gets a share.
type ShareHolder struct {
	Name      string
	Recipient string // age1pq1…
}

// RecipientHash is what records name a recipient by: SHA-256 of its text.
func RecipientHash(recipient string) [sha256.Size]byte { return sha256.Sum256([]byte(recipient)) }

// NewBackup makes a backup of f for a ledger, which any threshold of the holders
// can open together, and each of also (age recipients of one's own) alone. Before
// it returns it has read back what it made and opened it with the shares.
func NewBackup(f *File, ledger [sha256.Size]byte, threshold int, holders []ShareHolder, also []string) (*Backup, error) {
	holders = slices.Clone(holders)
	slices.SortFunc(holders, func(x, y ShareHolder) int { return strings.Compare(x.Name, y.Name) })
	for i, h := range holders {
		if i > 0 && h.Name == holders[i-1].Name {
			return nil, fmt.Errorf("make backup: %s is to hold two shares", h.Name)
		}
		if err := CheckRecipient(h.Recipient); err != nil {
			return nil, fmt.Errorf("make backup: recipient of %s: %w", h.Name, err)
		}
	}
	b := &Backup{Holder: f.Name, Key: f.Key.ID(), Ledger: ledger, Role: f.Role, Threshold: uint64(threshold), Type: backupType}
	recipients := []age.Recipient{&splitRecipient{k: threshold, n: len(holders)}}
	for i, text := range also {
		recipient, err := age.ParseHybridRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("make backup: further recipient %d: %w", i, err)
		}
		recipients = append(recipients, recipient)
		b.Recipients = append(b.Recipients, RecipientHash(text))
	}
	slices.SortFunc(b.Recipients, func(x, y [sha256.Size]byte) int { return bytes.Compare(x[:], y[:]) })
	split, err := b.encrypt(f, recipients)
	if err != nil {
		return nil, fmt.Errorf("make backup: %w", err)
	}
	defer split.Wipe()
	for i, h := range holders {
		sealed, err := b.seal(&split.Shares[i], h)
		if err != nil {
			return nil, fmt.Errorf("make backup: %w", err)
		}
		b.Shares = append(b.Shares, sealed)
	}
	if err := b.readsBack(split); err != nil {
		return nil, fmt.Errorf("make backup: it does not read back: %w", err)
	}
	return b, nil
}

// encrypt fills in ciphertext and set. The first recipient is the splitter.
func (b *Backup) encrypt(f *File, recipients []age.Recipient) (*Split, error) {
	content, err := f.content()
	if err != nil {
		return nil, err
	}
	defer content.Wipe()
	var out bytes.Buffer
	err = encryptTo(&out, content.Bytes(), recipients...)
	split := recipients[0].(*splitRecipient).made
	if err != nil {
		if split != nil {
			split.Wipe()
		}
		return nil, err
	}
	b.Ciphertext, b.Set = out.Bytes(), split.Set
	return split, nil
}

// seal seals one share to its holder.
func (b *Backup) seal(s *Share, h ShareHolder) (SealedShare, error) {
	body := b.shareBody(s, h.Name)
	defer body.wipe()
	sealed, err := body.sealTo(h.Recipient)
	if err != nil {
		return SealedShare{}, fmt.Errorf("share of %s: %w", h.Name, err)
	}
	return SealedShare{Holder: h.Name, Recipient: RecipientHash(h.Recipient), Sealed: sealed, Share: s.Hash()}, nil
}

// readsBack says whether the bytes of the backup are a backup that the shares
// open: all of them, so that each is on the polynomial.
func (b *Backup) readsBack(split *Split) error {
	content, err := b.Bytes()
	if err != nil {
		return err
	}
	again, err := ParseBackup(content)
	if err != nil {
		return err
	}
	_, err = again.Check(split.Shares)
	return err
}

// Hash is what the ledger records of the backup: SHA-256 of the ciphertext.
func (b *Backup) Hash() [sha256.Size]byte { return sha256.Sum256(b.Ciphertext) }

// Bytes gives the file: canonical JSON and a newline.
func (b *Backup) Bytes() ([]byte, error) {
	content, err := canon.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode backup: %w", err)
	}
	if len(content)+1 > MaxBackup {
		return nil, fmt.Errorf("encode backup: %d bytes, at most %d", len(content)+1, MaxBackup)
	}
	return append(content, '\n'), nil
}

// Write writes the backup to a new file at path, mode 0600, with WriteFile's
// guarantees.
func (b *Backup) Write(path string) error {
	content, err := b.Bytes()
	if err != nil {
		return err
	}
	return writeNew("backup", path, content, 0o600)
}

// FileName is how a backup's file is called: NAME-<8 hex of the key id>.backup.
func (b *Backup) FileName() string { return b.Holder + "-" + b.Key.String()[:8] + ".backup" }

// ShareOf gives the sealed share of a holder, or nil.
func (b *Backup) ShareOf(holder string) *SealedShare {
	i := slices.IndexFunc(b.Shares, func(s SealedShare) bool { return s.Holder == holder })
	if i < 0 {
		return nil
	}
	return &b.Shares[i]
}

// ErrBackup says that bytes are no backup, or a damaged one.
var ErrBackup = errors.New("it is no backup file, or a damaged one")

// ParseBackup reads what Bytes gives, and nothing else. What is in it agrees with
// itself; whether it is what the ledger records is for the caller to compare.
// An error wraps ErrBackup.
func ParseBackup(content []byte) (*Backup, error) {
	if len(content) > MaxBackup {
		return nil, fmt.Errorf("parse backup: %d bytes, at most %d: %w", len(content), MaxBackup, ErrBackup)
	}
	line, ok := bytes.CutSuffix(content, []byte("\n"))
	if !ok {
		return nil, fmt.Errorf("parse backup: it ends too early: %w", ErrBackup)
	}
	b := &Backup{}
	if err := canon.Unmarshal(line, b); err != nil {
		return nil, fmt.Errorf("parse backup: %w: %w", err, ErrBackup)
	}
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("parse backup: %w: %w", err, ErrBackup)
	}
	return b, nil
}

// ReadBackup reads a backup's file. Whatever is wrong is a *FileError.
func ReadBackup(path string) (*Backup, error) {
	content, _, err := readBounded("backup", path, MaxBackup)
	if err != nil {
		return nil, err
	}
	b, err := ParseBackup(content)
	if err != nil {
		return nil, &FileError{What: "backup", Path: path, Problem: err.Error(), Remedy: "take another copy of it", Err: err}
	}
	return b, nil
}

func (b *Backup) validate() error {
	if b.Type != backupType {
		return fmt.Errorf("its type is %.40q, not %q", b.Type, backupType)
	}
	if len(b.Shares) > MaxShares || b.Threshold < MinThreshold || b.Threshold > uint64(len(b.Shares)) {
		return fmt.Errorf("%d of %d shares, want %d <= threshold <= shares <= %d", b.Threshold, len(b.Shares), MinThreshold, MaxShares)
	}
	if !isName(b.Holder) || !isName(b.Role) {
		return errors.New("it does not say whose key it is")
	}
	if len(b.Recipients) > maxRecipients {
		return fmt.Errorf("%d further recipients, at most %d", len(b.Recipients), maxRecipients)
	}
	for i, s := range b.Shares {
		if !isName(s.Holder) || len(s.Sealed) > MaxSealedShare {
			return fmt.Errorf("share %d has no holder, or is too large", i)
		}
		if i > 0 && s.Holder <= b.Shares[i-1].Holder {
			return errors.New("the shares are not sorted by holder, one each")
		}
	}
	return b.validateHeader()
}

// isName says whether a name or role may stand in a file name or on a terminal: what
// the ledger takes as a name (FORMAT.md, section 2), on which nothing here depends. A
// backup or a share is foreign, and is read before anything vouches for it.
func isName(text string) bool {
	for i := range len(text) {
		c := text[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (c != '.' && c != '-' || i == 0 || i == len(text)-1) {
			return false
		}
	}
	return text != "" && len(text) <= maxPrincipal
}

// validateHeader compares the ciphertext's header with what stands beside it.
func (b *Backup) validateHeader() error {
	head := &headerReader{}
	_, err := age.Decrypt(bytes.NewReader(b.Ciphertext), head)
	if !head.read {
		return fmt.Errorf("its ciphertext is no age file: %w", err)
	}
	want := stanzaArgs(b.Set, int(b.Threshold), len(b.Shares))
	if head.splits != 1 || !slices.Equal(head.args, want) {
		return errors.New("its ciphertext was split into other shares than it says")
	}
	if head.others != len(b.Recipients) {
		return fmt.Errorf("its ciphertext has %d further recipients, not %d", head.others, len(b.Recipients))
	}
	return nil
}

// ErrMismatch says that shares, as good as each may be, do not open a backup, or
// that it holds another key than it says: whoever made it made it wrong.
var ErrMismatch = errors.New("the shares do not open what they belong to")

// Open gives the key file that the backup holds. It takes Threshold or more
// shares of its set, of different indexes. Fewer wrap ErrTooFewShares, ones that
// do not fit together or do not open it ErrMismatch.
func (b *Backup) Open(shares []Share) (*File, error) {
	for _, s := range shares {
		if s.Set != b.Set {
			return nil, fmt.Errorf("open backup: a share of another set: %w", ErrShares)
		}
	}
	fileKey := NewSecret(fileKeySize)
	defer fileKey.Wipe()
	err := combine(int(b.Threshold), shares, fileKey.Bytes())
	if errors.Is(err, ErrShares) {
		return nil, fmt.Errorf("open backup: %w: %w", err, ErrMismatch)
	}
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	identity := &splitIdentity{backup: b, fileKey: fileKey.Bytes()}
	defer identity.wipe()
	return b.openWith(identity)
}

// OpenAlone gives the key file to one of the further recipients. An error wraps
// ErrNotForUs if the identity is none of theirs.
func (b *Backup) OpenAlone(identity string) (*File, error) {
	pair, err := age.ParseHybridIdentity(identity)
	if err != nil {
		return nil, errors.New("open backup: the identity is no AGE-SECRET-KEY-PQ-1…")
	}
	return b.openWith(pair)
}

func (b *Backup) openWith(identity age.Identity) (*File, error) {
	plain, err := age.Decrypt(bytes.NewReader(b.Ciphertext), identity)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, fmt.Errorf("open backup: %w", ErrNotForUs)
	}
	if err != nil {
		return nil, fmt.Errorf("open backup: %w: %w", err, ErrMismatch)
	}
	content, err := readSecret(plain, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w: %w", err, ErrMismatch)
	}
	defer content.Wipe()
	f, err := parseBody("in the backup", content.Bytes())
	if err != nil {
		return nil, fmt.Errorf("open backup: %w: %w", err, ErrMismatch)
	}
	if f.Key.ID() != b.Key || f.Name != b.Holder || f.Role != b.Role {
		f.Wipe()
		return nil, fmt.Errorf("open backup: it holds key %s of %s, and says %s of %s: %w", f.Key.ID(), f.Name, b.Key, b.Holder, ErrMismatch)
	}
	return f, nil
}

// Check opens the backup in memory as Open does, says which key it holds and
// wipes it.
func (b *Backup) Check(shares []Share) (ID, error) {
	f, err := b.Open(shares)
	if err != nil {
		return ID{}, err
	}
	defer f.Wipe()
	return f.Key.ID(), nil
}

// The stanza of a split file key: -> quorate-shares 1 SET K N, without a body.
const (
	splitStanza  = "quorate-shares"
	splitVersion = "1"
	// splitLabel is that of age's post-quantum recipients: age mixes only those
	// of equal labels, and a split that rests on them is as good as they are.
	splitLabel = "postquantum"
)

func stanzaArgs(set [SetSize]byte, k, n int) []string {
	return []string{splitVersion, base64.RawStdEncoding.EncodeToString(set[:]), strconv.Itoa(k), strconv.Itoa(n)}
}

// splitRecipient splits the file key that age makes.
type splitRecipient struct {
	k, n int
	made *Split
}

func (r *splitRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	split, err := splitFileKey(fileKey, r.k, r.n)
	if err != nil {
		return nil, err
	}
	r.made = split
	return []*age.Stanza{{Type: splitStanza, Args: stanzaArgs(split.Set, r.k, r.n)}}, nil
}

func (r *splitRecipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	stanzas, err := r.Wrap(fileKey)
	return stanzas, []string{splitLabel}, err
}

// splitIdentity gives the combined file key. age then compares the header's MAC
// under it.
type splitIdentity struct {
	backup  *Backup
	fileKey []byte
	given   []byte // the copy that age has: it derives from it before it reads anything
}

// wipe is called when age has read the header.
func (i *splitIdentity) wipe() { WipeBytes(i.given) }

func (i *splitIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	want := stanzaArgs(i.backup.Set, int(i.backup.Threshold), len(i.backup.Shares))
	for _, s := range stanzas {
		if s.Type == splitStanza && slices.Equal(s.Args, want) {
			i.given = slices.Clone(i.fileKey)
			return i.given, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// headerReader looks at a header and opens nothing.
type headerReader struct {
	read           bool
	splits, others int
	args           []string
}

func (h *headerReader) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	h.read = true
	for _, s := range stanzas {
		if s.Type != splitStanza {
			h.others++
			continue
		}
		h.splits++
		h.args = s.Args
	}
	return nil, age.ErrIncorrectIdentity
}
