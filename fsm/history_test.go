package fsm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// The same log gives the same state, however it is come by: applied straight,
// derived again from its entries, or loaded from the snapshot at any seal and
// gone on with the commands, or the entries, since.
func TestHistoriesReplay(t *testing.T) {
	seals, effects := 0, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		g := shortGenesis()
		g.Format = rapid.SampledFrom([]uint64{ledger.Format, 2, 1}).Draw(rt, "format")
		if g.Format >= ledger.KeysFormat {
			rules := ledger.DefaultKeys()
			rules.ReplicaKeyEpochs = 2
			g.Policy.Keys = &rules
		}
		w := newWorld(rt, g)
		w.verify = trusting{}
		d := &drawer{rt: rt, w: w}
		if g.Format >= ledger.KeysFormat {
			d.beginRotating()
		}
		for range 30 { // not drawn: rapid prefers small numbers
			d.command()
		}
		checkState(rt, w.state)
		checkReplays(rt, w)
		checkLightClient(rt, w)
		seals += checkSnapshots(rt, w)
		for _, entry := range w.entries {
			e, err := ledger.ParseEntry(entry)
			switch {
			case err != nil:
				rt.Fatal(err)
			case e.Kind == ledger.KindEffect:
				f, err := e.Effect()
				if err != nil {
					rt.Fatal(err)
				}
				effects[f.Type]++
			case e.Kind == ledger.KindStatement:
				st, err := ledger.ParseStatement(e.Content)
				if err != nil {
					rt.Fatal(err)
				}
				if ledger.IsOfKeys(st.Payload.Type) {
					effects[st.Payload.Type]++
				}
			}
		}
	})
	if seals == 0 {
		t.Fatal("no history had a seal")
	}
	t.Logf("%d seals, %v", seals, effects)
	if testing.Short() {
		return // a fifth of the histories: in one of twenty runs some of it does not happen
	}
	for _, effect := range []string{EffectDecision, EffectExecuted, EffectFailed, EffectExpired, EffectEpoch, EffectTick, EffectActive, EffectRotated, ledger.TypeRotate} {
		if effects[effect] == 0 {
			t.Errorf("no history had %s: %v", effect, effects)
		}
	}
}

// shortGenesis has times so short that everything falls due within a history.
func shortGenesis() *ledger.Genesis {
	g := defaultGenesis()
	g.Policy.EpochMillis = 60_000
	g.Policy.ProposalLifetimeMillis = 120_000
	g.Policy.ClosedRetentionMillis = 60_000
	g.Policy.KeyEpochs = 3
	for action, rule := range g.Policy.Rules {
		switch action {
		case "council.reseat":
			rule.DelayMillis = 90_000
		case "node.quarantine", "replica.remove", "policy.change":
			rule.DelayMillis = 20_000
		case "operator.add":
			rule.Vetoers = []string{"carol"}
		}
		g.Policy.Rules[action] = rule
	}
	return g
}

// checkSnapshots loads the snapshot of every seal and applies the commands
// since. It returns how many there were.
func checkSnapshots(t failer, w *world) int {
	t.Helper()
	seals := 0
	for i, m := range w.history {
		if !m.sealed {
			continue
		}
		seals++
		e, err := ledger.ParseEntry(w.entries[m.after.next-2])
		if err != nil {
			t.Fatal(err)
		}
		s := reload(t, m.after, e)
		for _, later := range w.history[i+1:] {
			s, _ = Apply(s, later.command, w.verify)
			sameState(t, later.after, s)
		}
	}
	return seals
}

// drawer draws commands. Most of what it draws is accepted, some is not.
type drawer struct {
	rt        *rapid.T
	w         *world
	proposals [][]byte
	counter   int
}

func (d *drawer) pick(from ...string) string { return rapid.SampledFrom(from).Draw(d.rt, "pick") }

func (d *drawer) fresh(prefix string) string {
	d.counter++
	return fmt.Sprintf("%s%d", prefix, d.counter)
}

func (d *drawer) governor() string {
	names := []string{}
	for _, g := range d.w.state.Council() {
		names = append(names, g.Name)
	}
	return d.pick(names...)
}

func (d *drawer) command() {
	w := d.w
	// rapid prefers what stands first.
	switch d.pick("pass", "seal", "time", "join", "ready", "propose", "ballot", "time", "ballot", "bundle", "record", "tick", "rotate", "again") {
	case "time":
		w.now += rapid.SampledFrom([]uint64{30_000, 70_000, 130_000, 1, 100_000}).Draw(d.rt, "millis")
	case "seal":
		w.apply(ledger.CommandSeal)
	case "tick":
		w.apply(ledger.CommandTick)
	case "propose":
		if p := d.propose(); p != nil {
			w.apply(ledger.CommandStatements, p)
		}
	case "ballot":
		if len(d.proposals) > 0 {
			w.apply(ledger.CommandStatements, d.ballot(rapid.SampledFrom(d.proposals).Draw(d.rt, "proposal")))
		}
	case "bundle":
		if p := d.propose(); p != nil {
			w.apply(ledger.CommandStatements, p, d.ballot(p), d.ballot(p))
		}
	case "pass":
		d.pass()
	case "record":
		author := d.pick("alice", "bob", "r1", "r2", "edge-a", "edge-b")
		w.apply(ledger.CommandStatements, d.sign(author, ledger.TypeRecord, ledger.Record{Text: d.fresh("note ")}))
	case "join":
		name := d.pick("edge-a", "edge-b", "edge-c")
		key := d.fresh(name + "-")
		body := ledger.Join{Name: name, Operator: d.pick("alpha", "beta"), Peer: filler(key, 32), Public: publicOf(key)}
		w.apply(ledger.CommandStatements, w.sign(saying{author: name, key: key, typ: ledger.TypeJoin, body: body}))
	case "ready":
		name := d.pick("r1", "r2")
		for _, r := range w.state.Replicas() {
			if r.Standing == ReplicaJoining {
				name = r.Name
			}
		}
		w.apply(ledger.CommandStatements, d.sign(name, ledger.TypeReady, ledger.Ready{Format: w.state.Meta().Format, Size: w.state.Next()}))
	case "rotate":
		d.rotate(d.pick("edge-a", "edge-b", "r1", "r2"))
	case "again":
		if len(w.history) > 0 {
			old := rapid.SampledFrom(w.history).Draw(d.rt, "again")
			w.apply(old.command.Kind, old.command.Statements...)
		}
	}
}

// beginRotating has a node of a drawn history rotate, and a replica too.
func (d *drawer) beginRotating() {
	w := d.w
	body := ledger.Join{Name: "edge-a", Operator: "alpha", Peer: filler("edge-a", 32), Public: publicOf("edge-a")}
	join := w.sign(saying{author: "edge-a", typ: ledger.TypeJoin, body: body})
	w.submit(join)
	p := w.propose("alice", "node.admit", admitArgs{Joins: []ledger.Hash{idOf(join)}})
	w.submit(p, w.ballot("bob", ledger.TypeApprove, p))
	w.apply(ledger.CommandSeal)
	for range 2 {
		w.now += w.genesis.Policy.EpochMillis
		w.apply(ledger.CommandTick)
	}
	d.rotate("edge-a")
	d.rotate("r1")
}

// rotate has a node or replica announce a key of its own.
func (d *drawer) rotate(name string) {
	w, key := d.w, d.fresh(name+"-")
	body := ledger.Rotate{Public: publicOf(key)}
	var old ledger.Hash
	peer := ed25519.NewKeyFromSeed(filler("peer "+key, ed25519.SeedSize))
	if r, ok := w.state.Replica(name); ok {
		old = r.KeyID()
		body.Cosigner, body.TLSPin = keyNamed(key).Cosigner44().Public(), sha256.Sum256([]byte("pin "+key))
	} else if n, ok := w.state.Node(name); ok {
		old = n.Key
		body.Peer = peer.Public().(ed25519.PublicKey)
	} else {
		return
	}
	meta := w.state.Meta()
	message := ledger.RotationMessage(ledger.Branch(meta.Ledger, meta.Generation), old, name, body)
	body.Proof = keyNamed(key).Sign(message)
	if body.Peer != nil {
		body.PeerProof = ed25519.Sign(peer, message)
	}
	w.apply(ledger.CommandStatements, d.sign(name, ledger.TypeRotate, body))
}

// pass proposes something, and everyone approves it.
func (d *drawer) pass() {
	p := d.propose()
	if p == nil {
		return
	}
	d.w.apply(ledger.CommandStatements, p)
	for _, g := range d.w.state.Council() {
		d.w.apply(ledger.CommandStatements, d.sign(g.Name, ledger.TypeApprove, ledger.Ballot{Proposal: idOf(p)}))
	}
	for _, h := range d.w.state.Recovery().Holders {
		d.w.apply(ledger.CommandStatements, d.sign(h.Name, ledger.TypeApprove, ledger.Ballot{Proposal: idOf(p)}))
	}
}

// sign signs with the key that the name holds now, as the records have it.
func (d *drawer) sign(author, typ string, body any) []byte {
	key := author
	public := []byte(nil)
	if r, ok := d.w.state.Replica(author); ok {
		public = r.Public
	} else if n, ok := d.w.state.Node(author); ok {
		public = n.Public
	} else if g, ok := d.w.state.Governor(author); ok {
		public = g.Public
	}
	if public != nil {
		for name, k := range keyring {
			if k == owners[string(public)] {
				key = name
			}
		}
	}
	change := func(p *ledger.Payload) {}
	if typ == ledger.TypeReady {
		epoch, seq := d.w.state.Epoch(), d.w.seqs[author]
		d.w.seqs[author]++
		change = func(p *ledger.Payload) { p.Epoch, p.Seq, p.Nonce, p.Expires = &epoch, &seq, nil, 0 }
	}
	return d.w.sign(saying{author: author, typ: typ, body: body, key: key, change: change})
}

func (d *drawer) ballot(proposal []byte) []byte {
	typ := d.pick(ledger.TypeApprove, ledger.TypeApprove, ledger.TypeApprove, ledger.TypeReject, ledger.TypeWithdraw, ledger.TypeVeto)
	author := d.governor()
	st, err := ledger.ParseStatement(proposal)
	if err != nil {
		d.rt.Fatal(err)
	}
	if body, err := ledger.DecodeBody[ledger.Propose](st); err == nil && body.Action == "council.reseat" && typ != ledger.TypeVeto {
		author = d.pick("rita", "rosa", "ruth")
	}
	if typ == ledger.TypeWithdraw {
		author = st.Payload.Author
	}
	return d.sign(author, typ, ledger.Ballot{Proposal: idOf(proposal)})
}

// propose draws a proposal, or nil when the state has nothing to propose on.
func (d *drawer) propose() []byte {
	w := d.w
	author := d.governor()
	var args any
	action := d.pick(append([]string{"replica.add", "node.admit", "policy.change", "operator.add", "node.quarantine"}, ledger.Actions()...)...)
	switch action {
	case "council.change":
		name := d.pick("alice", "bob", "carol", "dave")
		key := d.fresh(name + "-")
		a := councilArgs{Add: []ledger.Member{{Name: name, Operator: d.pick("alpha", "beta", "gamma"), Public: publicOf(key)}}}
		if _, seated := w.state.Governor(name); seated {
			a.Remove = []string{name}
		}
		args = a
	case "council.reseat":
		author = d.pick("rita", "rosa", "ruth")
		args = reseatArgs{Council: []ledger.Member{memberOf("alice@alpha#" + d.fresh("alice-")), memberOf("bob@beta#" + d.fresh("bob-")), memberOf("carol@gamma#" + d.fresh("carol-"))}}
	case "operator.add":
		args = operatorArgs{Name: d.pick("delta", "eta"), Sponsor: d.pick("", "alpha")}
	case "operator.remove":
		args = operatorRemoveArgs{Name: d.pick("delta", "eta", "alpha")}
	case "policy.change":
		p := w.state.Policy()
		p.Quota = rapid.Uint64Range(1, 1000).Draw(d.rt, "quota")
		rules := map[string]ledger.Rule{}
		for name, rule := range p.Rules {
			rules[name] = rule
		}
		rules["node.admit"] = ledger.Rule{Threshold: rapid.Uint64Range(1, 3).Draw(d.rt, "threshold")}
		p.Rules = rules
		args = policyArgs{Policy: p}
	case "replica.add":
		args = replicaArgs{Replica: replicaOf("r5@beta#" + d.fresh("r5-"))}
	case "replica.rekey":
		args = replicaArgs{Replica: replicaOf("r1@alpha#" + d.fresh("r1-"))}
	case "replica.remove":
		args = replicaRemoveArgs{Name: d.pick("r3", "r4", "r5")}
	case "node.admit":
		joins := w.state.Joins(ledger.Hash{}, 3)
		if len(joins) == 0 {
			return nil
		}
		args = admitArgs{Joins: []ledger.Hash{joins[0].ID}}
	case "node.rekey":
		joins := w.state.Joins(ledger.Hash{}, 3)
		if len(joins) == 0 {
			return nil
		}
		args = nodeRekeyArgs{Join: joins[len(joins)-1].ID}
	case "node.quarantine", "node.release":
		args = nodeReasonArgs{Name: d.pick("edge-a", "edge-b"), Reason: "drawn"}
	case "node.remove":
		args = nodeArgs{Name: d.pick("edge-a", "edge-b")}
	case "ledger.freeze":
		args = freezeArgs{Reason: "drawn"}
	case "format.upgrade":
		args = formatArgs{Format: w.state.Meta().Format + 1}
	case "log.rekey":
		key := d.fresh("log")
		args = ledger.LogKeys{Ed25519: filler(key, 32), MLDSA44: filler(key, 1312)}
	default:
		args = noArgs{}
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		d.rt.Fatal(err)
	}
	base, err := w.state.BaseFor(action, raw)
	if err != nil {
		return nil
	}
	p := d.sign(author, ledger.TypePropose, ledger.Propose{Action: action, Args: raw, Base: base})
	d.proposals = append(d.proposals, p)
	return p
}
