package fsm

import (
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/ledger"
)

// recoverBody is what "alice recovers R keep=r1 new=r5@beta" says: at the head
// and time of now, unless an option says otherwise.
func (r *storyteller) recoverBody(o options) ledger.Recover {
	w := r.world
	body := ledger.Recover{At: w.now, Generation: w.state.Meta().Generation + 1,
		Head: ledger.RecoverHead{Last: w.state.Prev(), Root: w.rootAt(w.state.Next()), Size: w.state.Next()}, Keep: []string{}}
	body.Memo, _ = o.take("memo")
	if v, ok := o.take("keep"); ok && v != "" {
		body.Keep = strings.Split(v, ",")
	}
	if v, ok := o.take("new"); ok {
		for _, seat := range strings.Split(v, ",") {
			body.New = append(body.New, replicaOf(seat))
		}
	}
	if v, ok := o.take("opens"); ok {
		body.Generation = r.number(v)
	}
	if v, ok := o.take("at"); ok {
		body.At = r.number(v)
	}
	if v, ok := o.take("until"); ok {
		body.Until = r.number(v)
	}
	if v, ok := o.take("size"); ok {
		body.Head.Size = r.number(v)
	}
	if v, ok := o.take("last"); ok {
		body.Head.Last = ledger.LeafHash([]byte(v))
	}
	return body
}

func (w *world) rootAt(size uint64) ledger.Hash {
	tree := hashes{}
	for i, entry := range append([][]byte{w.entry0}, w.entries...)[:size] {
		more, err := tlog.StoredHashes(int64(i), entry, tree)
		if err != nil {
			w.t.Fatal(err)
		}
		tree = append(tree, more...)
	}
	root, err := tlog.TreeHash(int64(size), tree)
	if err != nil {
		w.t.Fatal(err)
	}
	return ledger.Hash(root)
}

// fork is what a link has that opens a generation: the head that its first
// statement names, as prev certified it, and the proof that the tree of size
// extends it.
func (w *world) fork(tree hashes, prev ledger.Authority, size uint64, statement []byte) *ledger.Fork {
	e, err := ledger.ParseEntry(statement)
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := ledger.ParseStatement(e.Content)
	if err != nil {
		w.t.Fatal(err)
	}
	if st.Payload.Type != ledger.TypeRecover {
		return nil
	}
	body, err := ledger.DecodeBody[ledger.Recover](st)
	if err != nil {
		w.t.Fatal(err)
	}
	checkpoint := ledger.Checkpoint{Head: ledger.Head{Origin: prev.Origin, Size: body.Head.Size, Root: body.Head.Root}}
	for _, r := range prev.Active() {
		k := owners[string(r.Public)]
		checkpoint.Cosignatures = append(checkpoint.Cosignatures, ledger.Cosign(prev.Branch(), k, k.Cosigner44(), r.Name, checkpoint.Head, 1))
	}
	proof, err := tlog.ProveTree(int64(size), int64(body.Head.Size), tree)
	if err != nil {
		w.t.Fatal(err)
	}
	f := &ledger.Fork{Checkpoint: string(checkpoint.Note()), Proof: []ledger.Hash{}}
	for _, h := range proof {
		f.Proof = append(f.Proof, ledger.Hash(h))
	}
	return f
}
