package fsm

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// ofKeys are the statements of keys, from format 3 on.
func (t *transition) ofKeys(st *ledger.Statement, _ author) *problem {
	if !t.rotates() {
		return refuse(FormatTooLow, "type", fmt.Sprintf("%s is of format %d", st.Payload.Type, ledger.KeysFormat))
	}
	return refuse(WrongTyp, "type", "this program does not take it yet")
}
