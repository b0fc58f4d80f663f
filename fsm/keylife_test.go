package fsm

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/readertest"
)

// Random histories of everything that begins or ends a key, in which statements
// come under every key that there ever was, of epochs past and future. A naive
// reader of the entries alone (test/readertest) judges each one that the rules
// accept and each that they refuse for its key's sake.
func TestNoStatementUnderAKeyThatIsNotInForce(t *testing.T) {
	start := newKeyStart(t)
	randomHistories(t, wantedOfKeys, func(seed uint64) (*State, []string, map[string]int) {
		h := newKeyHistory(start, seed)
		for range keySteps {
			h.step()
		}
		happened := maps.Clone(h.reader.Judged)
		for what, n := range h.decided {
			happened["decided "+what] += n
		}
		if len(h.reader.Wrong) == 0 {
			h.compare(t, seed)
		}
		return h.state, h.reader.Wrong, happened
	})
}

const keySteps = 36

// wantedOfKeys is what must have been met at least once.
var wantedOfKeys = []string{
	"accepted record", "accepted join", "accepted propose", "accepted recover", "accepted evidence",
	"refused revoked_key", "refused key_expired", "refused unknown_author", "refused wrong_key",
	"decided node.admit", "decided node.rekey", "decided node.remove", "decided node.quarantine", "decided node.release",
	"accepted backup", "accepted restore.test", "accepted key.destroy", "refused backup wrong_role", "refused backup wrong_operator", "refused backup unknown_key", "refused backup revoked_key",
	"refused backup frozen", "refused backup unknown_governor", "refused backup wrong_recipient", "refused backup unfit_shares", "refused restore.test unknown_backup",
	"refused restore.test bad_field", "refused key.destroy key_in_force", "refused key.destroy unknown_backup", "refused key.destroy nothing_changes", "refused key.destroy wrong_operator",
	"accepted key.rotate", "accepted under the key before", "rotation in force", "replica rotated", "decided key.revoke", "successor revoked", "predecessor revoked", "alarm rotation_late", "alarm key_expired", "alarm replica_rotation_late",
	"decided rotation key_expired", "decided rotation rotation_pending", "decided rotation rotation_early", "decided rotation excluded",
	"decided policy.change", "decided council.change", "decided replica.rekey", "decided ledger.freeze", "decided epoch.advance", "decided recover",
}

// keyHistory is one history, and the reader of its entries.
type keyHistory struct {
	model
	r       *rand.Rand
	reader  *readertest.Reader
	pool    []heldKey // every key that was ever made, seated or not
	seat    int       // of the next key
	decided map[string]int
}

type heldKey struct {
	holder string
	id     ledger.Hash
}

const (
	keyOperators = 3
	keyNodes     = 4 // of which the last one is not admitted at first
)

func keyNode(i int) string { return nodeName(i%keyOperators, i/keyOperators) }

// newKeyStart is where histories begin: three nodes, whose keys last four epochs,
// in epoch 1.
func newKeyStart(t testing.TB) *keyHistory {
	t.Helper()
	g := defaultGenesis()
	rules := ledger.DefaultKeys()
	rules.ReplicaKeyEpochs = 4
	g.Format, g.Policy.KeyEpochs, g.Policy.Keys = ledger.Format, 4, &rules
	for i, m := range g.Council {
		g.Council[i].Recipient = recipientNamed(m.Name)
	}
	for i := range keyOperators {
		g.Operators = append(g.Operators, ledger.Operator{Name: operatorName(i), Sponsor: "alpha"})
	}
	entry, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	h := &keyHistory{
		model: model{t: t, now: g.Created, seqs: map[string]uint64{}, ids: map[string]ledger.Hash{}},
		r:     rand.New(rand.NewPCG(0, 0)), decided: map[string]int{},
	}
	if h.state, err = New(entry); err != nil {
		t.Fatal(err)
	}
	if h.reader, err = readertest.New(entry); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", "carol", "r1", "r2", "r3", "r4", "rita"} {
		h.own(name, ledger.Hash(keyNamed(name).ID()))
	}
	for i := range keyNodes - 1 {
		if !h.join(keyNode(i), "node.admit") {
			t.Fatalf("%s is not admitted", keyNode(i))
		}
	}
	h.advance(1)
	if len(h.reader.Wrong) > 0 {
		t.Fatal(h.reader.Wrong)
	}
	return h
}

func newKeyHistory(start *keyHistory, seed uint64) *keyHistory {
	h := *start
	h.r = rand.New(rand.NewPCG(seed, 1))
	h.reader, h.decided, h.pool = start.reader.Clone(), map[string]int{}, slices.Clone(start.pool)
	h.ids, h.seqs = maps.Clone(start.ids), maps.Clone(start.seqs)
	clear(h.reader.Judged)
	return &h
}

func (h *keyHistory) any(from ...string) string { return from[h.r.IntN(len(from))] }

func (h *keyHistory) anyNode() string { return keyNode(h.r.IntN(keyNodes)) }

func (h *keyHistory) step() {
	switch n := h.r.IntN(40); {
	case n < 16:
		h.speak()
	case n >= 36:
		h.ofBackups()
	case n >= 32:
		h.rotate()
	case n < 20:
		h.advance(1)
		h.cross()
	case n == 20:
		h.advance(uint64(1 + h.r.IntN(4)))
	case n == 21:
		h.do(ledger.CommandSeal)
	case n == 22:
		h.haunt(func(name string) { h.join(name, "node.rekey") })
	case n == 23:
		h.revoke()
	case n == 24:
		h.haunt(func(name string) { h.decide("node.remove", nodeArgs{From: h.anyPast(), Name: name}) })
	case n == 25:
		h.join(h.anyNode(), "node.admit")
	case n < 28:
		h.decide(h.any("node.quarantine", "node.release"), nodeReasonArgs{Name: h.anyNode(), Reason: "drawn"})
	case n == 28:
		h.exclude(h.anyNode())
	case n == 29:
		p := h.state.Policy()
		p.KeyEpochs, p.GraceEpochs = uint64(2+h.r.IntN(5)), uint64(h.r.IntN(3))
		if h.r.IntN(8) == 0 { // so many shares a governor's backup needs
			p.Rules = maps.Clone(p.Rules)
			p.Rules["council.change"] = ledger.Rule{Threshold: 3}
		}
		h.decide("policy.change", policyArgs{Policy: p})
	default:
		h.rare()
	}
}

func (h *keyHistory) rare() {
	switch h.r.IntN(7) {
	case 0:
		h.decide("ledger.freeze", freezeArgs{Reason: "drawn"})
	case 1:
		h.decide("epoch.advance", noArgs{})
	case 2:
		h.recover()
	case 3:
		h.others()
	case 4:
		h.rotateReplica(h.any("r2", "r3", "r4"))
	}
	if h.state.Meta().Frozen != "" && h.r.IntN(2) == 0 {
		h.decide("ledger.unfreeze", noArgs{})
	}
}

// others changes the keys of those who are no nodes.
func (h *keyHistory) others() {
	h.seat++
	if h.r.IntN(2) == 0 {
		key := fmt.Sprintf("carol-%d", h.seat)
		carol := memberOf("carol@gamma#" + key)
		carol.Recipient = h.any("", recipientNamed("carol"), recipientNamed("carol2"))
		args := councilArgs{Add: []ledger.Member{carol}, Remove: []string{"carol"}}
		if h.decide("council.change", args) {
			h.own("carol", ledger.Hash(keyNamed(key).ID()))
		}
		return
	}
	h.reseat()
}

// reseat gives r4 a key by decision.
func (h *keyHistory) reseat() {
	h.seat++
	key := fmt.Sprintf("r4-%d", h.seat)
	action := "replica.add"
	if _, ok := h.state.Replica("r4"); ok {
		action = "replica.rekey"
	}
	args := replicaArgs{Replica: replicaOf("r4@alpha#" + key)}
	if action == "replica.rekey" {
		args.From = h.anyPast()
	}
	if h.decide(action, args) {
		h.own("r4", ledger.Hash(keyNamed(key).ID()))
	}
}

func (h *keyHistory) own(name string, id ledger.Hash) {
	h.ids[name] = id
	h.pool = append(h.pool, heldKey{name, id})
}

// join has a node ask for a key, and governors decide. It reports whether the node
// has it.
func (h *keyHistory) join(name, action string) bool {
	h.seat++
	public := filler(fmt.Sprintf("public %s %d", name, h.seat), keys.PublicKeySize)
	body := ledger.Join{Name: name, Operator: operatorName(operatorOf(name)), Peer: filler("peer "+name, 32), Public: public}
	id := keyIDOf(body)
	h.pool = append(h.pool, heldKey{name, id}) // of the future, or never seated
	join := h.said(name, id, ledger.TypeJoin, body, 0, 0)
	if h.do(ledger.CommandStatements, join) != OK {
		return false
	}
	args := any(admitArgs{Joins: []ledger.Hash{idOf(join)}})
	if action == "node.rekey" {
		args = nodeRekeyArgs{From: h.anyPast(), Join: idOf(join)}
	}
	if !h.decide(action, args) {
		return false
	}
	h.ids[name] = id
	return true
}

// anyPast is an epoch from which something is revoked, mostly none.
func (h *keyHistory) anyPast() *uint64 {
	epoch := h.state.Epoch()
	if h.r.IntN(3) > 0 {
		return nil
	}
	epoch -= min(epoch, uint64(h.r.IntN(3)))
	return &epoch
}

// rotate has a node announce its next key: mostly by the one in force, sometimes by
// any that it had.
func (h *keyHistory) rotate() {
	name := h.anyNode()
	n, ok := h.state.Node(name)
	if !ok {
		return
	}
	old := n.Key
	if h.r.IntN(8) == 0 {
		if k := h.pool[h.r.IntN(len(h.pool))]; k.holder == name {
			old = k.id
		}
	}
	epoch := h.state.Epoch()
	epoch -= min(epoch, []uint64{0, 0, 0, 1}[h.r.IntN(4)])
	h.announce(name, old, h.nextKey(name, old), epoch)
}

// nextKey is what a node announces.
func (h *keyHistory) nextKey(name string, old ledger.Hash) ledger.Rotate {
	h.seat++
	peer := ed25519.NewKeyFromSeed(filler("peer seed "+name, ed25519.SeedSize))
	body := ledger.Rotate{Peer: peer.Public().(ed25519.PublicKey), Public: filler(fmt.Sprintf("rotated %s %d", name, h.seat), keys.PublicKeySize)}
	body.PeerProof = ed25519.Sign(peer, h.message(old, name, body))
	body.Proof = junkSignature // the verifier trusts
	return body
}

func (h *keyHistory) rotateReplica(name string) {
	r, ok := h.state.Replica(name)
	if !ok {
		return
	}
	h.seat++
	what := fmt.Sprintf("rotated %s %d", name, h.seat)
	body := ledger.Rotate{Cosigner: filler(what, keys.Cosigner44PublicKeySize), Proof: junkSignature, Public: filler(what, keys.PublicKeySize), TLSPin: ledger.LeafHash([]byte(what))}
	h.announce(name, r.KeyID(), body, h.state.Epoch())
	if h.r.IntN(2) == 0 {
		h.do(ledger.CommandSeal)
	}
	if name == "r4" && h.r.IntN(2) == 0 {
		h.reseat()
	}
}

func (h *keyHistory) message(old ledger.Hash, name string, body ledger.Rotate) []byte {
	meta := h.state.Meta()
	return ledger.RotationMessage(ledger.Branch(meta.Ledger, meta.Generation), old, name, body)
}

func (h *keyHistory) announce(name string, old ledger.Hash, body ledger.Rotate, epoch uint64) {
	h.pool = append(h.pool, heldKey{name, body.KeyID()})
	h.seqs[name]++
	code := h.do(ledger.CommandStatements, h.said(name, old, ledger.TypeRotate, body, epoch, h.seqs[name]))
	h.decided["rotation "+code.String()]++
}

// revoke has the council revoke a node's key of any time, from an epoch on.
func (h *keyHistory) revoke() {
	k := h.pool[h.r.IntN(len(h.pool))]
	if n, ok := h.state.Node(h.anyNode()); ok && h.r.IntN(2) == 0 {
		k = heldKey{n.Name, n.Key}
	}
	from := h.state.Epoch()
	from -= min(from, uint64(h.r.IntN(4)))
	h.decide(ledger.ActionRevoke, revokeArgs{From: from, Key: k.id, Reason: "drawn"})
}

// speak has a key say something: mostly a node's, mostly of now.
func (h *keyHistory) speak() {
	k := h.pool[h.r.IntN(len(h.pool))]
	author := k.holder
	if h.r.IntN(16) == 0 {
		author = h.any("alice", "r1", "nobody", h.anyNode())
	}
	epoch := h.state.Epoch() + 1
	epoch -= min(epoch, []uint64{1, 1, 1, 1, 2, 2, 3, 0}[h.r.IntN(8)])
	if h.r.IntN(2) == 0 { // of those that are in force
		author = h.anyNode()
		if n, ok := h.state.Node(author); ok {
			k = heldKey{author, n.Key}
			if h.r.IntN(2) == 0 {
				k.id, epoch = h.boundary(&n)
			}
		}
	}
	h.seqs[author]++
	seq := h.seqs[author]
	if h.r.IntN(8) == 0 {
		seq = uint64(h.r.IntN(int(seq)))
	}
	h.do(ledger.CommandStatements, h.said(author, k.id, ledger.TypeRecord, ledger.Record{Text: fmt.Sprint("word ", h.r.Uint32())}, epoch, seq))
}

// boundary is a key on one side of the epoch in which a node's key took effect or
// will, and an epoch on one side of it.
func (h *keyHistory) boundary(n *NodeRecord) (key ledger.Hash, epoch uint64) {
	key, other, epoch := n.Key, n.Key, n.ValidFrom
	if record, _ := h.state.Key(n.Key); record.Previous != nil {
		other = *record.Previous
	}
	if n.Next != nil && h.r.IntN(2) == 0 {
		other, epoch = n.Next.Key, n.Next.From
	}
	if h.r.IntN(2) == 0 {
		key = other
	}
	return key, epoch - min(epoch, uint64(h.r.IntN(2)))
}

// cross has nodes whose key took effect in this epoch speak under it and under the
// one before, in this epoch and in the last one.
func (h *keyHistory) cross() {
	epoch := h.state.Epoch()
	for _, n := range h.state.Nodes("", keyNodes) {
		record, _ := h.state.Key(n.Key)
		if n.ValidFrom != epoch || record.Previous == nil {
			continue
		}
		for _, i := range h.r.Perm(4) {
			h.seqs[n.Name]++
			key := []ledger.Hash{n.Key, *record.Previous}[i%2]
			h.do(ledger.CommandStatements, h.said(n.Name, key, ledger.TypeRecord, ledger.Record{Text: fmt.Sprint("word ", i)}, epoch-uint64(i/2), h.seqs[n.Name]))
		}
	}
}

// haunt ends the keys of a node by decision, of one that has just rotated if there is
// one, and has the key before that speak of the epoch that was its last.
func (h *keyHistory) haunt(end func(name string)) {
	name := h.anyNode()
	for _, n := range h.state.Nodes("", keyNodes) {
		if record, _ := h.state.Key(n.Key); n.ValidFrom == h.state.Epoch() && record.How == KeyRotated {
			name = n.Name
		}
	}
	n, _ := h.state.Node(name)
	end(name)
	if record, ok := h.state.Key(n.Key); ok && record.Previous != nil {
		h.seqs[name]++
		h.do(ledger.CommandStatements, h.said(name, *record.Previous, ledger.TypeRecord, ledger.Record{Text: "once more"}, n.ValidFrom-min(n.ValidFrom, 1), h.seqs[name]))
	}
}

// exclude proves that a node equivocated in this epoch.
func (h *keyHistory) exclude(name string) {
	n, ok := h.state.Node(name)
	if !ok || h.r.IntN(3) > 0 {
		return
	}
	seq := h.seqs[name] + 1
	one := h.said(name, n.Key, ledger.TypeRecord, ledger.Record{Text: "to some"}, h.state.Epoch(), seq)
	two := h.said(name, n.Key, ledger.TypeRecord, ledger.Record{Text: "to others"}, h.state.Epoch(), seq)
	h.seqs["r1"]++
	h.do(ledger.CommandStatements, h.said("r1", h.ids["r1"], ledger.TypeEvidence,
		ledger.Evidence{Kind: ledger.EvidenceEquivocation, Exhibits: [][]byte{one, two}}, h.state.Epoch(), h.seqs["r1"]))
}

// recover opens the next generation at the last seal.
func (h *keyHistory) recover() {
	h.do(ledger.CommandSeal)
	body := ledger.Recover{At: h.now, Generation: h.state.Meta().Generation + 1, Keep: []string{"r1", "r2", "r3"},
		Head: ledger.RecoverHead{Last: h.state.Prev(), Root: ledger.LeafHash([]byte("any")), Size: h.state.Next()}}
	if _, ok := h.state.Replica("r4"); ok && h.r.IntN(2) == 0 {
		body.Keep = append(body.Keep, "r4")
	}
	p := h.said("alice", h.ids["alice"], ledger.TypeRecover, body, 0, 0)
	if h.do(ledger.CommandStatements, p, h.said("bob", h.ids["bob"], ledger.TypeApprove, ledger.Ballot{Proposal: idOf(p)}, 0, 0)) == OK {
		h.decided[ledger.TypeRecover]++
	}
}

// decide has two governors decide, and reports whether they could.
func (h *keyHistory) decide(action string, args any) bool {
	h.settle()
	raw, err := canon.Marshal(args)
	if err != nil {
		h.t.Fatal(err)
	}
	base, err := h.state.BaseFor(action, raw)
	if err != nil {
		return false
	}
	p := h.said("alice", h.ids["alice"], ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base}, 0, 0)
	if h.do(ledger.CommandStatements, p, h.said("bob", h.ids["bob"], ledger.TypeApprove, ledger.Ballot{Proposal: idOf(p)}, 0, 0)) != OK {
		return false
	}
	decision, ok := h.state.Proposal(idOf(p))
	if !ok || decision.Standing != ProposalExecuted {
		return false
	}
	h.decided[action]++
	return true
}

// advance lets epochs pass, all but the last unused.
func (h *keyHistory) advance(epochs uint64) {
	meta, policy := h.state.Meta(), h.state.Policy()
	h.now = max(h.now, meta.EpochStart+epochs*policy.EpochMillis)
	h.do(ledger.CommandTick)
	h.do(ledger.CommandSeal)
}

// settle lets happen what is due, so that a refusal is one in the state that the
// reader knows.
func (h *keyHistory) settle() {
	if h.state.Due(h.now) {
		h.do(ledger.CommandTick)
	}
}

// do applies a command, shows the reader what the rules made of it, and gives the
// first refusal.
func (h *keyHistory) do(kind ledger.CommandKind, envelopes ...[]byte) Code {
	if kind == ledger.CommandStatements {
		h.settle()
	}
	next, result := Apply(h.state, &ledger.Command{Kind: kind, Stamp: h.now, Statements: envelopes}, trusting{})
	h.state = next
	for _, entry := range result.Entries {
		if err := h.reader.Read(entry); err != nil {
			h.t.Fatal(err)
		}
	}
	refused := OK
	for i, v := range result.Verdicts {
		if v.Code == OK || v.Code == BundleRejected {
			continue
		}
		refused = v.Code
		st, err := ledger.ParseStatement(envelopes[i])
		if err != nil {
			h.t.Fatal(err)
		}
		// A later one of a bundle was judged in a state that never was, and a decision
		// may be about another key.
		if i == 0 && !strings.HasPrefix(v.Path, "body.args") {
			h.reader.Refused(st, v.Code.String(), v.Path)
		}
	}
	return refused
}

// compare looks at the records once, at the end: the reader knows the keys of
// every principal, the ranges of the nodes', and what each key's word is worth.
func (h *keyHistory) compare(t *testing.T, seed uint64) {
	nodes := h.state.Nodes("", 100)
	if len(nodes) != len(h.reader.Nodes) {
		t.Fatalf("seed %d: %d nodes, the reader knows %d", seed, len(nodes), len(h.reader.Nodes))
	}
	for _, n := range nodes {
		seated := h.reader.Nodes[n.Name]
		k := h.reader.Keys[n.Key]
		if seated.Key != n.Key || seated.Standing != n.Standing || k.From != n.ValidFrom || k.Revoked != n.Revoked || k.To != n.ValidTo && !k.Revoked {
			t.Fatalf("seed %d: %s is %s under %s from %d to %d, the reader has %+v %+v", seed, n.Name, n.Standing, n.Key, n.ValidFrom, n.ValidTo, seated, k)
		}
	}
	h.compareBackups(t, seed)
	h.state.Walk(tableKey, func(key string, value []byte) bool {
		var record KeyRecord
		if err := canon.Unmarshal(value, &record); err != nil {
			t.Fatal(err)
		}
		id, err := ledger.ParseHash(key[len(tableKey):])
		if err != nil {
			t.Fatal(err)
		}
		k := h.reader.Keys[id]
		if (record.Destroyed > 0) != h.reader.Destroyed[id] || k.Holder != record.Holder || k.Role != record.Role || k.Revoked != record.Revoked || k.Said != record.Said ||
			k.Succeeded && (*record.Next != k.Next || *record.ValidTo != k.To || k.Role == RoleNode && record.ValidFrom != k.From) {
			t.Fatalf("seed %d: key %s is %+v, the reader has %+v", seed, id, record, k)
		}
		for epoch := uint64(0); epoch <= h.state.Epoch()+1; epoch++ {
			if word, _ := h.state.KeyAt(id, &epoch); string(word) != h.reader.WordAt(id, epoch) {
				t.Fatalf("seed %d: key %s in epoch %d: %s, the reader says %s: %+v", seed, id, epoch, word, h.reader.WordAt(id, epoch), k)
			}
		}
		return true
	})
}
