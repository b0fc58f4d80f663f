package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/quorate/quorate/ledger/canon"
)

// File is what a key file holds.
type File struct {
	Name     string // the principal's name
	Role     string // governor, recovery, replica, node, …
	Operator string // empty for recovery holders
	Created  int64  // milliseconds since 1970 UTC
	Key      *PrivateKey
	Identity string `json:"-"` // age AGE-SECRET-KEY-PQ-1…, or empty
}

// Format prints no secret, whatever the verb.
func (f File) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "key file of %s %q: %v", f.Role, f.Name, f.Key)
}

// Wipe wipes the key, and forgets the identity, which as a string cannot be
// wiped. It may be called of nil.
func (f *File) Wipe() {
	if f == nil {
		return
	}
	f.Key.Wipe()
	f.Identity = ""
}

// fileBody is a key file's content: canonical JSON on one line, encrypted or
// not. key_id is redundant, and detects damage.
type fileBody struct {
	Created  int64          `json:"created"`
	Identity string         `json:"identity,omitempty"`
	KeyID    string         `json:"key_id"`
	Name     string         `json:"name"`
	Operator string         `json:"operator,omitempty"`
	Role     string         `json:"role"`
	Seed     [SeedSize]byte `json:"seed"`
	Type     string         `json:"type"`
}

const fileType = "quorate/key-file.v1"

// insecureMark begins an unencrypted key file. Its text is what a person who
// opens the file, or a scanner for secrets, sees first.
const insecureMark = "# UNENCRYPTED PRIVATE KEY - FOR DEVELOPMENT ONLY\n"

const insecureWarning = insecureMark +
	"# Whoever reads this file can sign as its owner. Never put it on a ledger that\n" +
	"# matters, never copy it, never commit it.\n"

// ErrPassphrase says that a passphrase does not open the file.
var ErrPassphrase = errors.New("the passphrase is wrong")

// FileError says what is wrong with a key file and what to do about it.
type FileError struct {
	What    string // the kind of file; "" is a key file
	Path    string
	Problem string
	Remedy  string
	Err     error // the cause, such as ErrPassphrase or fs.ErrNotExist, or nil
}

func (e *FileError) Error() string {
	what := e.What
	if what == "" {
		what = "key file"
	}
	text := what + " " + e.Path + ": " + e.Problem
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

func (e *FileError) Unwrap() error { return e.Err }

// An Option changes how a key file is written.
type Option func(*writeOptions)

type writeOptions struct{ workFactor int }

// WorkFactor sets log2 of scrypt's N, from 1 to 20, instead of 18: half of the time and
// memory, and of what guessing costs, for each that is less.
func WorkFactor(logN int) Option {
	return func(o *writeOptions) { o.workFactor = logN }
}

// WriteFile writes f to a new file at path, mode 0600, encrypted with a
// passphrase: an armored age file with scrypt, which `age -d` opens too. It is
// there whole or not at all, and durable when WriteFile returns. An existing
// file is never touched: the error then wraps fs.ErrExist.
func WriteFile(path string, f *File, passphrase []byte, options ...Option) error {
	chosen := writeOptions{workFactor: DefaultWorkFactor}
	for _, option := range options {
		option(&chosen)
	}
	if chosen.workFactor < 1 || chosen.workFactor > maxWorkFactor {
		return fmt.Errorf("write key file: the work factor %d is not from 1 to %d", chosen.workFactor, maxWorkFactor)
	}
	if len(passphrase) == 0 {
		return &FileError{Path: path, Problem: "the passphrase is empty", Remedy: "choose one"}
	}
	content, err := f.content()
	if err != nil {
		return err
	}
	defer content.Wipe()
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	recipient.SetWorkFactor(chosen.workFactor)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	if err := errors.Join(encryptTo(armored, content.Bytes(), recipient), armored.Close()); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return writeNew("", path, out.Bytes(), 0o600)
}

// WriteInsecureFile writes f as WriteFile does, but unencrypted, under lines
// that say so loudly. It is for development ledgers.
func WriteInsecureFile(path string, f *File) error {
	content, err := f.content()
	if err != nil {
		return err
	}
	defer content.Wipe()
	whole := NewSecret(len(insecureWarning) + len(content.Bytes()))
	defer whole.Wipe()
	copy(whole.Bytes()[copy(whole.Bytes(), insecureWarning):], content.Bytes())
	return writeNew("", path, whole.Bytes(), 0o600)
}

func (f *File) content() (*Secret, error) {
	if f.Key == nil {
		return nil, errors.New("write key file: there is no key")
	}
	if f.Identity != "" {
		if _, err := RecipientOf(f.Identity); err != nil {
			return nil, fmt.Errorf("write key file: %w", err)
		}
	}
	body := fileBody{
		Created:  f.Created,
		Identity: f.Identity,
		KeyID:    f.Key.ID().String(),
		Name:     f.Name,
		Operator: f.Operator,
		Role:     f.Role,
		Seed:     f.Key.Seed(),
		Type:     fileType,
	}
	defer WipeBytes(body.Seed[:])
	content, err := secretJSON(&body, maxKeyFile, "\n")
	if err != nil {
		return nil, fmt.Errorf("write key file: %w", err)
	}
	return content, nil
}

// ReadFile reads a key file of either kind. passphrase is called only for an
// encrypted one, and may be nil if there is none to ask for. Whatever is wrong
// is a *FileError; it wraps ErrPassphrase if the passphrase is wrong, and the
// error of passphrase if that failed.
func ReadFile(path string, passphrase func() ([]byte, error)) (*File, error) {
	content, mode, err := readBounded("", path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	defer WipeBytes(content)
	return parseFile(path, content, mode, passphrase)
}

// parseFile is ReadFile for what was read of path.
func parseFile(path string, content []byte, mode fs.FileMode, passphrase func() ([]byte, error)) (*File, error) {
	switch {
	case bytes.HasPrefix(content, []byte(armor.Header)):
		plain, err := decrypt(path, content, passphrase)
		if err != nil {
			return nil, err
		}
		defer plain.Wipe()
		content = plain.Bytes()
	case bytes.HasPrefix(content, []byte(insecureMark)):
		if mode&0o077 != 0 {
			return nil, &FileError{Path: path,
				Problem: fmt.Sprintf("it is not encrypted and others may read it (mode %04o)", mode),
				Remedy:  "chmod 600 it, and consider the key known to them"}
		}
		for bytes.HasPrefix(content, []byte("#")) {
			_, content, _ = bytes.Cut(content, []byte("\n"))
		}
	case len(content) == 0:
		return nil, &FileError{Path: path, Problem: "it is empty",
			Remedy: "a write was interrupted; delete it and write it again"}
	default:
		return nil, notAKeyFile(path)
	}
	return parseBody(path, content)
}

func decrypt(path string, content []byte, passphrase func() ([]byte, error)) (*Secret, error) {
	if passphrase == nil {
		return nil, &FileError{Path: path, Problem: "it is encrypted", Remedy: "give its passphrase"}
	}
	secret, err := passphrase()
	if err != nil {
		return nil, &FileError{Path: path, Problem: "its passphrase cannot be had: " + err.Error(), Err: err}
	}
	if len(secret) == 0 {
		return nil, &FileError{Path: path, Problem: "the passphrase given is empty", Remedy: "give its passphrase", Err: ErrPassphrase}
	}
	identity, err := age.NewScryptIdentity(string(secret))
	if err != nil {
		return nil, &FileError{Path: path, Problem: err.Error(), Err: err}
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	var plain *Secret
	from, err := age.Decrypt(armor.NewReader(bytes.NewReader(content)), identity)
	if err == nil {
		plain, err = readSecret(from, len(content)) // shorter than what is encrypted
	}
	noMatch := new(age.NoIdentityMatchError)
	switch {
	case err == nil:
		return plain, nil
	case errors.As(err, &noMatch) && len(noMatch.StanzaTypes) == 1 && noMatch.StanzaTypes[0] == "scrypt":
		return nil, &FileError{Path: path, Problem: "the passphrase is wrong", Remedy: "try again", Err: ErrPassphrase}
	case errors.As(err, &noMatch):
		return nil, &FileError{Path: path, Problem: "it is encrypted, but not with a passphrase",
			Remedy: "decrypt it with age and its identity first", Err: err}
	}
	return nil, &FileError{Path: path, Problem: "it is damaged: " + err.Error(), Remedy: "take it from a backup", Err: err}
}

func parseBody(path string, content []byte) (*File, error) {
	var body fileBody
	defer WipeBytes(body.Seed[:])
	if err := canon.Unmarshal(bytes.TrimSuffix(content, []byte("\n")), &body); err != nil {
		return nil, &FileError{Path: path, Problem: "its content is damaged: " + err.Error(), Remedy: "take it from a backup", Err: err}
	}
	if body.Type != fileType {
		return nil, &FileError{Path: path, Problem: fmt.Sprintf("it is of type %.40q, not %q", body.Type, fileType),
			Remedy: "use a newer version of this program"}
	}
	key := FromSeed(body.Seed)
	if key.ID().String() != body.KeyID {
		return nil, &FileError{Path: path, Problem: "its key id is not that of its key", Remedy: "take it from a backup"}
	}
	if body.Identity != "" {
		if _, err := RecipientOf(body.Identity); err != nil {
			return nil, &FileError{Path: path, Problem: err.Error(), Remedy: "take it from a backup", Err: err}
		}
	}
	return &File{
		Name:     body.Name,
		Role:     body.Role,
		Operator: body.Operator,
		Created:  body.Created,
		Key:      key,
		Identity: body.Identity,
	}, nil
}

func notAKeyFile(path string) error {
	return &FileError{Path: path, Problem: "it is no key file",
		Remedy: "give a file that begins with " + strings.Trim(armor.Header, "-") + " or with " + strings.TrimSpace(insecureMark)}
}

// readBounded reads a file of at most limit bytes, and its permissions. It leaves no
// copy of what it read but the one that it gives.
func readBounded(what, path string, limit int) ([]byte, fs.FileMode, error) {
	wrong := func(problem, remedy string, err error) ([]byte, fs.FileMode, error) {
		return nil, 0, &FileError{What: what, Path: path, Problem: problem, Remedy: remedy, Err: err}
	}
	file, err := os.Open(path)
	if err != nil {
		return wrong("it cannot be opened: "+causeOf(err), "", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return wrong("it cannot be read: "+causeOf(err), "", err)
	}
	if info.IsDir() {
		return wrong("it is a directory", "name a file in it", nil)
	}
	room := make([]byte, limit+1)
	n, err := readAll(file, room)
	switch {
	case errors.Is(err, errTooLong):
		WipeBytes(room)
		return wrong(fmt.Sprintf("it is larger than any such file (%d bytes)", limit), "name another", nil)
	case err != nil:
		WipeBytes(room)
		return wrong("it cannot be read: "+causeOf(err), "", err)
	}
	return room[:n], info.Mode().Perm(), nil
}

// causeOf leaves out the operation and path that a *fs.PathError repeats.
func causeOf(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}
