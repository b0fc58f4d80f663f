package readertest

import (
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Backups of keys, their tests, and destroyed keys.

// person is what the reader knows of a principal besides its key. Names are one's
// across all roles.
type person struct{ operator, recipient string }

// ofKeys are the codes for which a statement about a key is refused because of what it
// says, and not because of who says it when.
var ofKeys = map[string]bool{
	"bad_field": true, "frozen": true, "key_in_force": true, "nothing_changes": true, "unfit_shares": true, "unknown_backup": true,
	"unknown_governor": true, "unknown_key": true, "wrong_operator": true, "wrong_recipient": true, "wrong_role": true,
}

// heard stands for key_in_force where the clock decides: after an epoch that was begun
// by decision the statements of a key's last epoch are over, and it is kept until the
// epoch would have begun.
const heard = "key_in_force or none"

// about gives the code for which a statement about somebody's key is to be refused, "" if
// it is to be accepted. ok is false for all other statements.
func (r *Reader) about(st *ledger.Statement) (code string, ok bool) {
	k := r.Keys[st.KeyID]
	by := person{operator: r.people[k.Holder].operator}
	destroys := st.Payload.Type == ledger.TypeDestroy
	switch {
	case st.Payload.Type != ledger.TypeBackup && st.Payload.Type != ledger.TypeRestoreTest && !destroys:
		return "", false
	case k.Role == recovery, k.Role == replica && !destroys:
		return "wrong_role", true
	case (k.Role == governor) != (st.Payload.Nonce != nil):
		return "bad_field", true
	case r.frozen && !destroys:
		return "frozen", true
	}
	switch st.Payload.Type {
	case ledger.TypeBackup:
		body, err := ledger.DecodeBody[ledger.Backup](st)
		return r.refusesBackup(k, by, body, err), true
	case ledger.TypeRestoreTest:
		body, err := ledger.DecodeBody[ledger.RestoreTest](st)
		return r.refusesTest(k, by, body, err), true
	}
	body, err := ledger.DecodeBody[ledger.Destroy](st)
	return r.refusesDestroy(k, by, body, err), true
}

// keyNamed gives the key that a statement is about; err is that of reading the statement.
func (r *Reader) keyNamed(id ledger.Hash, err error) (of Key, code string) {
	of, known := r.Keys[id]
	switch {
	case err != nil:
		return of, "bad_field"
	case !known:
		return of, "unknown_key"
	}
	return of, ""
}

func (r *Reader) refusesBackup(k Key, by person, body ledger.Backup, err error) string {
	of, code := r.keyNamed(body.Key, err)
	switch {
	case code != "":
		return code
	case of.Role == replica:
		return "wrong_role"
	case of.Revoked:
		return "revoked_key"
	case of.Succeeded:
		return "unknown_key"
	}
	if code := r.maySpeak(k, by, of); code != "" {
		return code
	}
	if n := uint64(len(body.Shares)); body.Threshold < 2 || body.Threshold > n {
		return "bad_field"
	}
	share := map[string]bool{} // by operators
	for _, s := range body.Shares {
		p, sits := r.people[s.Holder]
		if _, governs := r.names[governor][s.Holder]; !sits || !governs {
			return "unknown_governor"
		}
		if p.recipient == "" || keys.RecipientHash(p.recipient) != s.Recipient {
			return "wrong_recipient"
		}
		if share[p.operator] || s.Holder == of.Holder {
			return "unfit_shares"
		}
		share[p.operator] = true
	}
	if of.Role != node && body.Threshold < r.councilNeeds() {
		return "unfit_shares"
	}
	return ""
}

// councilNeeds is how many operators change the council.
func (r *Reader) councilNeeds() uint64 {
	operators := map[string]bool{}
	for name := range r.names[governor] {
		operators[r.people[name].operator] = true
	}
	return max(r.councilRule, uint64(len(operators))/2+1)
}

// maySpeak: of a key speaks whoever holds it, a governor of the holder's operator or of
// that one's sponsor, and any governor if it has no operator.
func (r *Reader) maySpeak(k Key, by person, of Key) string {
	if k.Holder == of.Holder && k.Role == of.Role {
		return ""
	}
	if k.Role != governor {
		return "wrong_role"
	}
	_, seated := r.names[of.Role][of.Holder]
	if _, isNode := r.Nodes[of.Holder]; of.Role == node {
		seated = isNode
	}
	operator := r.people[of.Holder].operator
	if !seated || of.Role == recovery || operator == by.operator || r.sponsors[operator] != "" && r.sponsors[operator] == by.operator {
		return ""
	}
	return "wrong_operator"
}

// recorded says whether that is the last backup of a key.
func (r *Reader) recorded(key, ciphertext ledger.Hash) bool {
	backup, there := r.Backups[key]
	return there && backup.Ciphertext == ciphertext
}

func (r *Reader) refusesTest(k Key, by person, body ledger.RestoreTest, err error) string {
	switch {
	case err != nil:
		return "bad_field"
	case !r.recorded(body.Key, body.Ciphertext):
		return "unknown_backup"
	}
	backup := r.Backups[body.Key]
	if code := r.maySpeak(k, by, r.Keys[body.Key]); code != "" {
		return code
	}
	for _, name := range body.Holders {
		holds := false
		for _, s := range backup.Shares {
			holds = holds || s.Holder == name
		}
		if !holds {
			return "bad_field"
		}
	}
	return ""
}

func (r *Reader) refusesDestroy(k Key, by person, body ledger.Destroy, err error) string {
	of, code := r.keyNamed(body.Key, err)
	if code == "" {
		code = r.maySpeak(k, by, of)
	}
	if code != "" {
		return code
	}
	over := of.Role == node && r.Nodes[of.Holder].Key == body.Key && r.Epoch > of.To+r.grace
	later := ""
	switch {
	case of.Revoked, over, of.Succeeded && of.Gone:
	case !of.Succeeded, r.Epoch <= of.To+1:
		return "key_in_force"
	default:
		later = heard
	}
	named := body.Ciphertext != ledger.Hash{}
	switch {
	case later != "":
		return later
	case named && !r.recorded(body.Key, body.Ciphertext):
		return "unknown_backup"
	case r.Destroyed[body.Key] && !named:
		return "nothing_changes"
	}
	return ""
}

// spokeOf takes note of what a statement about a key says, which the rules accepted.
func (r *Reader) spokeOf(st *ledger.Statement) {
	if code, ok := r.about(st); ok && code != "" && code != heard {
		r.complain("%s of %s was accepted, and is %s", st.Payload.Type, st.Payload.Author, code)
	}
	switch st.Payload.Type {
	case ledger.TypeBackup:
		if body, err := ledger.DecodeBody[ledger.Backup](st); err == nil {
			r.Backups[body.Key] = body
		}
	case ledger.TypeDestroy:
		if body, err := ledger.DecodeBody[ledger.Destroy](st); err == nil {
			r.Destroyed[body.Key] = true
			if body.Ciphertext != (ledger.Hash{}) {
				delete(r.Backups, body.Key)
			}
		}
	}
}

// refusedAbout judges the refusal of a statement about a key for what it says.
func (r *Reader) refusedAbout(st *ledger.Statement, code string) {
	want, _ := r.about(st)
	r.Judged["refused "+st.Payload.Type+" "+code]++
	if want != code && want != heard {
		r.complain("%s of %s was refused as %s, and is %q", st.Payload.Type, st.Payload.Author, code, want)
	}
}
