package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// NewIdentity makes an age key pair that is safe against quantum computers
// (ML-KEM-768 with X25519): the secret AGE-SECRET-KEY-PQ-1… and the public
// age1pq1….
func NewIdentity() (identity, recipient string, err error) {
	pair, err := age.GenerateHybridIdentity()
	if err != nil {
		return "", "", fmt.Errorf("generate age identity: %w", err)
	}
	return pair.String(), pair.Recipient().String(), nil
}

// RecipientOf gives the public half of an age identity that NewIdentity made.
func RecipientOf(identity string) (string, error) {
	pair, err := age.ParseHybridIdentity(identity)
	if err != nil {
		// The library's text may repeat what it read, which is a secret.
		return "", errors.New("parse age identity: it is no AGE-SECRET-KEY-PQ-1…")
	}
	return pair.Recipient().String(), nil
}

// CheckRecipient says whether text is a recipient as NewIdentity gives it.
func CheckRecipient(text string) error {
	if _, err := age.ParseHybridRecipient(text); err != nil {
		return fmt.Errorf("parse age recipient: %w", err)
	}
	return nil
}

// ErrNotForUs says that a ciphertext is not sealed to the identity that tries
// to open it.
var ErrNotForUs = errors.New("the ciphertext is not sealed to this identity")

// SealTo encrypts plaintext so that each of the recipients (1 to 256, as
// NewIdentity gives them) can open it alone. It gives a binary age file. age
// does not authenticate the sender.
func SealTo(recipients []string, plaintext []byte) ([]byte, error) {
	if len(recipients) == 0 || len(recipients) > maxRecipients {
		return nil, fmt.Errorf("seal: there are %d recipients, not 1 to %d", len(recipients), maxRecipients)
	}
	parsed := make([]age.Recipient, len(recipients))
	for i, text := range recipients {
		recipient, err := age.ParseHybridRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("seal: recipient %d: %w", i, err)
		}
		parsed[i] = recipient
	}
	var out bytes.Buffer
	if err := encryptTo(&out, plaintext, parsed...); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return out.Bytes(), nil
}

// OpenWith decrypts what SealTo made. If it was not made for this identity, the
// error wraps ErrNotForUs. The plaintext is shorter than the ciphertext, and no other
// copy of it is left.
func OpenWith(identity string, ciphertext []byte) ([]byte, error) {
	pair, err := age.ParseHybridIdentity(identity)
	if err != nil {
		return nil, errors.New("open: the identity is no AGE-SECRET-KEY-PQ-1…")
	}
	return openAge(ciphertext, pair)
}

func openAge(ciphertext []byte, identity age.Identity) ([]byte, error) {
	plain, err := age.Decrypt(bytes.NewReader(ciphertext), identity)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, fmt.Errorf("open: %w", ErrNotForUs)
	}
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	// Whole at once: growing would leave what was read before behind.
	plaintext := make([]byte, len(ciphertext))
	n, err := readAll(plain, plaintext)
	if err != nil {
		WipeBytes(plaintext)
		return nil, fmt.Errorf("open: %w", err)
	}
	return plaintext[:n], nil
}

func encryptTo(out io.Writer, plaintext []byte, recipients ...age.Recipient) error {
	writer, err := age.Encrypt(out, recipients...)
	if err != nil {
		return err
	}
	if _, err := writer.Write(plaintext); err != nil {
		return err
	}
	return writer.Close()
}
