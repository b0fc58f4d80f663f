package fsm

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// rekeyLog is log.rekey: the log's own keys, which carry no authority.
func (t *transition) rekeyLog(args ledger.LogKeys, _ occasion) *problem {
	if len(args.Ed25519) != ed25519.PublicKeySize {
		return refuse(BadField, "body.args.ed25519", fmt.Sprintf("want %d bytes", ed25519.PublicKeySize))
	}
	if len(args.MLDSA44) != keys.Cosigner44PublicKeySize {
		return refuse(BadField, "body.args.mldsa44", fmt.Sprintf("want %d bytes", keys.Cosigner44PublicKeySize))
	}
	if bytes.Equal(args.Ed25519, t.log.Ed25519) || bytes.Equal(args.MLDSA44, t.log.MLDSA44) {
		return refuse(NothingChanges, "body.args", "both keys must be new")
	}
	t.put(keyLog, &args)
	t.changeMeta(func(m *Meta) { m.Exposed = nil })
	t.touch("log")
	return nil
}
