package audit

import (
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// possession is a proof that whoever rotates has the new key, verified ahead of the
// replay like a signature: whether it is the one that the rules want, the replay
// decides.
type possession struct {
	public, message, proof []byte
	verified               bool
}

// possessionOf verifies the proof of a key.rotate; nil for other statements.
func possessionOf(st *ledger.Statement) *possession {
	if st.Payload.Type != ledger.TypeRotate {
		return nil
	}
	rotate, err := ledger.DecodeBody[ledger.Rotate](st)
	if err != nil {
		return nil // the replay says what is wrong with it
	}
	message := ledger.RotationMessage(ledger.Branch(st.Payload.Ledger, st.Payload.Generation), st.KeyID, st.Payload.Author, rotate)
	return newPossession(rotate.Public, message, rotate.Proof)
}

func newPossession(public, message, proof []byte) *possession {
	key, err := keys.ParsePublicKey(public)
	return &possession{public: public, message: message, proof: proof, verified: err == nil && key.Verify(message, proof)}
}
