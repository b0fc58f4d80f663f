package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// keyLook is a key with what the present epoch makes of it: what list, explain and
// doctor say of how it stands.
type keyLook struct {
	key       *client.Key
	epoch     uint64 // now
	rules     ledger.Keys
	announced bool              // its holder has announced another, which was not revoked since
	restored  *client.Restoring // nil: not, as far as is known
}

func lookAt(k *client.ProvenKey, restored *client.Restoring) keyLook {
	return keyLook{key: &k.Key, epoch: k.Epoch, rules: k.Rules.KeyRules(), announced: k.Node != nil && k.Node.Next != nil, restored: restored}
}

// late says whether a key is in its last epochs and no other is announced: it should
// have been rotated.
func (k keyLook) late() bool {
	return k.key.Standing == client.KeyInForce && k.key.ValidTo != nil && k.epoch <= *k.key.ValidTo && !k.announced &&
		*k.key.ValidTo-k.epoch < k.rules.LateEpochs
}

// over says whether a key's own epochs are over without another one in its place: what
// bears them may still be heard.
func (k keyLook) over() bool {
	switch k.key.Standing {
	case client.KeyExpired:
		return true
	case client.KeyInForce:
		return k.key.ValidTo != nil && k.epoch > *k.key.ValidTo
	}
	return false
}

// code is how the key stands in one word: as client.Key has it, or late or over.
func (k keyLook) code() string {
	switch {
	case k.late():
		return "late"
	case k.over():
		return "over"
	}
	return k.key.Standing
}

// short says it for a table.
func (k keyLook) short() string {
	text := strings.ReplaceAll(k.key.Standing, "_", " ")
	switch {
	case k.late():
		text = fmt.Sprintf("late: ends with epoch %d", *k.key.ValidTo)
	case k.over():
		text = fmt.Sprintf("over since epoch %d", *k.key.ValidTo+1)
	case k.key.Standing == fsm.KeyRevoked && k.key.RevokedFrom != nil:
		text = fmt.Sprintf("revoked from epoch %d", *k.key.RevokedFrom)
	}
	if k.restored != nil {
		text += fmt.Sprintf(", restored (entry %d)", k.restored.Seq)
	}
	return text
}

// long says it in a sentence, without the entries by which it came to that.
func (k keyLook) long() string {
	switch {
	case k.late():
		return fmt.Sprintf("late: it ends with epoch %d, and no other is announced", *k.key.ValidTo)
	case k.key.Standing == client.KeyExpired:
		return fmt.Sprintf("over: it ended with epoch %d, and no other was announced", *k.key.ValidTo)
	case k.over():
		return fmt.Sprintf("over: it ended with epoch %d, and no other was announced; what bears its epochs is heard for a while", *k.key.ValidTo)
	case k.key.Standing == client.KeyInForce:
		return "in force"
	case k.key.Standing == client.KeyNext:
		return "announced, not in force yet"
	case k.key.Standing == client.KeyEnded:
		return "ended, in a time of which the ledger does not say how"
	case k.key.Standing == fsm.KeyRevoked && k.key.RevokedFrom != nil:
		return fmt.Sprintf("revoked from epoch %d on", *k.key.RevokedFrom)
	case k.key.Standing == fsm.KeyRevoked:
		return "revoked"
	}
	return "ended: " + k.key.Standing
}

// restoringWords say by whom a key was restored: those who gave their shares approved
// it, each on a signed request.
func restoringWords(r *client.Restoring) string {
	return fmt.Sprintf("from its backup, with the shares of %s, says %s (entry %d)", strings.Join(r.Holders, ", "), r.Author, r.Seq)
}

// restoredEvent tells of a node's key that was restored.
func restoredEvent(body json.RawMessage) (text, rule string) {
	var r client.Restoring
	if json.Unmarshal(body, &r) != nil || len(r.Key) < 16 {
		return string(body), ""
	}
	return fmt.Sprintf("its key %s… was restored from its backup, with the shares of %s, says %s", r.Key[:16], strings.Join(r.Holders, ", "), r.Author),
		"whose key was restored keeps silent for two epochs, since it cannot know what it signed before"
}
