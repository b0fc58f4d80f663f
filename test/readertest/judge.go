package readertest

import (
	"github.com/quorate/quorate/ledger"
)

// Word is what the reader says of a statement's key.
type Word string

// The words.
const (
	Holds      Word = "holds"
	Unknown    Word = "unknown"      // nobody of its author's name ever had it
	Revoked    Word = "revoked"      // it is not its author's any more
	OutOfRange Word = "out of range" // it is its author's, and not in the epoch that the statement names
)

// Judge says what the reader thinks of a statement's key at this place of the
// history.
func (r *Reader) Judge(st *ledger.Statement) Word {
	if st.Payload.Type == ledger.TypeJoin {
		return Holds // it is signed by the key that it brings
	}
	k, known := r.Keys[st.KeyID]
	switch {
	case !known || k.Holder != st.Payload.Author:
		return Unknown
	case k.Revoked:
		return Revoked
	case st.Payload.Epoch == nil || k.Role != node && k.Role != replica:
		return Holds
	}
	epoch, last := *st.Payload.Epoch, k.To
	switch {
	case k.Succeeded && (k.Gone || r.Epoch > k.To+1):
		return OutOfRange // nothing of its epochs is taken any more
	case st.Payload.Type == ledger.TypeRotate:
		if r.current(k) != st.KeyID {
			return OutOfRange
		}
		epoch = max(epoch, r.Epoch)
	case !k.Succeeded && k.Role == node:
		last += r.grace // of a key that ends without a successor
	}
	if *st.Payload.Epoch < k.From || epoch > last {
		return OutOfRange
	}
	return Holds
}

// current is the key in force of a key's holder.
func (r *Reader) current(k Key) ledger.Hash {
	if k.Role == node {
		return r.Nodes[k.Holder].Key
	}
	return r.names[k.Role][k.Holder]
}

// accepted judges a statement that is on the ledger, and takes note of what it
// says about keys.
func (r *Reader) accepted(st *ledger.Statement) {
	word := r.Judge(st)
	r.Judged["accepted "+st.Payload.Type]++
	if word != Holds {
		r.complain("%s of %s was accepted, its key %s is %s", st.Payload.Type, st.Payload.Author, st.KeyID, word)
	}
	k := r.Keys[st.KeyID]
	if k.Succeeded {
		r.Judged["accepted under the key before"]++
	}
	if st.Payload.Epoch != nil {
		r.once(st, k)
	}
	switch st.Payload.Type {
	case ledger.TypeJoin:
		if body, err := ledger.DecodeBody[ledger.Join](st); err == nil {
			r.joins[st.ID] = body
		}
	case ledger.TypePropose:
		if body, err := ledger.DecodeBody[ledger.Propose](st); err == nil {
			r.proposals[st.ID] = proposal{body.Action, body.Args}
		}
	case ledger.TypeRotate:
		r.rotated(st, k)
	case ledger.TypeBackup, ledger.TypeRestoreTest, ledger.TypeDestroy:
		r.spokeOf(st)
	case ledger.TypeRecover:
		r.proposals[st.ID] = proposal{ledger.TypeRecover, st.Payload.Body}
	}
}

// once checks that nothing was said under one epoch and seq twice, and that a
// node speaks under one key in an epoch.
func (r *Reader) once(st *ledger.Statement, k Key) {
	epoch, seq := *st.Payload.Epoch, *st.Payload.Seq
	at := saying{st.Payload.Author, k.Seat, epoch, seq}
	if earlier, twice := r.said[at]; twice {
		r.complain("%s said something under epoch %d and seq %d in entry %d already", at.author, epoch, seq, earlier)
	}
	r.said[at] = r.next
	if epoch != r.Epoch && epoch+1 != r.Epoch {
		r.complain("%s speaks of epoch %d in epoch %d", at.author, epoch, r.Epoch)
	}
	if k.Role != node {
		return
	}
	who := spoken{at.author, k.Seat, epoch}
	if other, ok := r.spoke[who]; ok && other != st.KeyID {
		r.complain("%s speaks under two keys in epoch %d: %s and %s", at.author, epoch, other, st.KeyID)
	}
	r.spoke[who] = st.KeyID
}

// earlier are the codes of what is looked at before the author.
var earlier = map[string]bool{"wrong_ledger": true, "wrong_generation": true}

// Refused judges the refusal of a statement that came by itself, with the code's
// name, and the field that is to blame: what the key is to blame for it is to blame for,
// and nothing else.
func (r *Reader) Refused(st *ledger.Statement, code, path string) {
	word := r.Judge(st)
	if _, ok := r.about(st); ok && word == Holds && (ofKeys[code] || path == "body.key") {
		r.refusedAbout(st, code)
		return
	}
	want := Word("")
	switch code {
	case "unknown_author", "wrong_key":
		if st.Payload.Type == ledger.TypeJoin {
			return
		}
		want = Unknown
	case "revoked_key":
		want = Revoked
	case "key_expired":
		want = OutOfRange
	default:
		if !earlier[code] && (word == Unknown || word == Revoked) {
			r.complain("%s of %s was refused as %s, its key %s is %s", st.Payload.Type, st.Payload.Author, code, st.KeyID, word)
		}
		return
	}
	r.Judged["refused "+code]++
	if word != want {
		r.complain("%s of %s was refused as %s, its key %s %s", st.Payload.Type, st.Payload.Author, code, st.KeyID, word)
	}
}
