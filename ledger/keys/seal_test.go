package keys

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestSealing(t *testing.T) {
	var identities, recipients []string
	for range 3 {
		identity, recipient, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := RecipientOf(identity); err != nil || again != recipient || CheckRecipient(recipient) != nil {
			t.Errorf("the identity's recipient is %s, %v", again, err)
		}
		identities, recipients = append(identities, identity), append(recipients, recipient)
	}
	for _, plaintext := range []string{"", "secret", strings.Repeat("x", 200000)} {
		sealed, err := SealTo(recipients[:2], []byte(plaintext))
		if err != nil {
			t.Fatal(err)
		}
		for _, identity := range identities[:2] {
			if got, err := OpenWith(identity, sealed); err != nil || string(got) != plaintext {
				t.Errorf("%d bytes come back as %d, %v", len(plaintext), len(got), err)
			}
		}
		if _, err := OpenWith(identities[2], sealed); !errors.Is(err, ErrNotForUs) {
			t.Errorf("a stranger gets %v", err)
		}
		for _, damaged := range [][]byte{nil, sealed[:len(sealed)-1], append(bytes.Clone(sealed), 0)} {
			if _, err := OpenWith(identities[0], damaged); err == nil || errors.Is(err, ErrNotForUs) {
				t.Errorf("%d of %d bytes give %v", len(damaged), len(sealed), err)
			}
		}
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]string{nil, {"age1"}, {recipients[0], ""}, {classic.Recipient().String()}, slices.Repeat(recipients[:1], maxRecipients+1)} {
		if _, err := SealTo(wrong, nil); err == nil {
			t.Errorf("%.3q are taken as recipients", wrong)
		}
	}
	if _, err := OpenWith(classic.String(), nil); err == nil || strings.Contains(err.Error(), classic.String()[20:]) {
		t.Errorf("an identity of another kind gives %v", err)
	}
}
