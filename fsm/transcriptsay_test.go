package fsm

import (
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// verbs are the third person of statement types.
var verbs = map[string]string{
	"proposes": ledger.TypePropose, "approves": ledger.TypeApprove, "rejects": ledger.TypeReject,
	"withdraws": ledger.TypeWithdraw, "vetoes": ledger.TypeVeto, "records": ledger.TypeRecord,
	"joins": ledger.TypeJoin, "ready": ledger.TypeReady, "recovers": ledger.TypeRecover,
	"observes": ledger.TypeObserve, "attests": ledger.TypeAttest, "brings": ledger.TypeEvidence, "rotates": ledger.TypeRotate,
	"backs-up": ledger.TypeBackup, "tests": ledger.TypeRestoreTest, "destroys": ledger.TypeDestroy, "probes": ledger.TypeProbe, "acks": ledger.TypeAck,
}

// say makes a statement: AUTHOR VERB ... and submits it, or puts it into the
// bundle.
func (r *storyteller) say(words []string) []string {
	if len(words) < 2 {
		r.fatalf("what is %q?", words[0])
	}
	author, verb, rest := words[0], words[1], words[2:]
	paper := ""
	if verb == "writes" { // LABEL VERB ...: a statement that is not submitted
		paper, verb, rest = rest[0], rest[1], rest[2:]
	}
	var envelope []byte
	if verb == "signs" {
		envelope = r.signRaw(author, rest)
	} else {
		typ, ok := verbs[verb]
		if !ok {
			r.fatalf("what is %q?", verb)
		}
		envelope = r.statement(author, typ, rest)
	}
	if paper != "" {
		r.papers[paper] = envelope
		return nil
	}
	if r.inside {
		r.bundle = append(r.bundle, envelope)
		return nil
	}
	return r.submit(envelope)
}

func (r *storyteller) submit(envelopes ...[]byte) []string {
	r.last = envelopes
	return r.answer(r.world.apply(ledger.CommandStatements, envelopes...))
}

// options are the NAME=VALUE words that every statement takes.
type options struct {
	values map[string]string
	plain  []string
}

func parseOptions(words []string) options {
	o := options{values: map[string]string{}}
	for _, word := range words {
		if name, value, found := strings.Cut(word, "="); found && !strings.Contains(name, " ") {
			o.values[name] = value
		} else {
			o.plain = append(o.plain, word)
		}
	}
	return o
}

func (o options) take(name string) (string, bool) {
	value, ok := o.values[name]
	delete(o.values, name)
	return value, ok
}

func (r *storyteller) statement(author, typ string, words []string) []byte {
	o := parseOptions(words)
	s := saying{author: author, typ: typ, key: r.currentKey(author)}
	if key, ok := o.take("key"); ok {
		s.key = key
	}
	s.change = r.payloadChange(o)
	breakage, _ := o.take("broken")
	switch typ {
	case ledger.TypePropose:
		s.body = r.proposal(o)
	case ledger.TypeRecord:
		s.body = r.recordBody(o)
	case ledger.TypeJoin:
		operator, _ := o.take("operator")
		public := s.key
		if body, ok := o.take("public"); ok {
			public = body
		}
		name := author
		if as, ok := o.take("name"); ok {
			name = as
		}
		s.body = ledger.Join{Name: name, Operator: operator, Peer: filler("peer "+author, 32), Public: publicOf(public)}
	case ledger.TypeRecover:
		s.body = r.recoverBody(o)
	case ledger.TypeObserve:
		s.body = r.observation(o)
	case ledger.TypeEvidence:
		s.body = r.evidence(o)
	case ledger.TypeAttest:
		s.body = r.attestation(o)
	case ledger.TypeProbe:
		s.body = ledger.Probe{Nonce: filler(author, 16), Subject: o.plain[0], Tick: r.fleet().tick()}
	case ledger.TypeAck:
		s.body = ledger.Ack{Challenge: ledger.LeafHash([]byte(author)), Prober: o.plain[0], Tick: r.fleet().tick()}
	case ledger.TypeBackup:
		s.body = r.backupBody(o)
	case ledger.TypeRestoreTest:
		s.body = r.testBody(o)
	case ledger.TypeDestroy:
		s.body = r.destroyBody(o)
	case ledger.TypeRotate:
		s.body = r.rotation(author, s.key, o)
	case ledger.TypeReady:
		body := ledger.Ready{Format: 1, Size: r.world.state.Next()}
		if v, ok := o.take("format"); ok {
			body.Format = r.number(v)
		}
		if v, ok := o.take("size"); ok {
			body.Size = r.number(v)
		}
		s.body = body
	default:
		memo, _ := o.take("memo")
		s.body = ledger.Ballot{Memo: memo, Proposal: r.id(o.plain[0])}
	}
	if len(o.values) > 0 {
		r.fatalf("unknown options %v", sortedKeys(o.values))
	}
	envelope := r.world.sign(s)
	if breakage != "" {
		return r.breakEnvelope(envelope, breakage)
	}
	if typ == ledger.TypePropose || typ == ledger.TypeJoin || typ == ledger.TypeRecover {
		if len(o.plain) == 0 {
			r.fatalf("a %s needs a label", typ)
		}
		id := idOf(envelope)
		r.labels[id], r.ids[o.plain[0]] = o.plain[0], id
	}
	return envelope
}

// currentKey is the key under which a name is seated now, else the name itself.
func (r *storyteller) currentKey(name string) string {
	if n, ok := r.world.state.Node(name); ok {
		return r.keyName(n.Key)
	}
	if p, ok := r.world.state.Replica(name); ok {
		return r.keyName(p.KeyID())
	}
	for _, candidate := range []string{name, name + "2", name + "3"} {
		if k, ok := r.world.state.Key(ledger.Hash(keyNamed(candidate).ID())); ok && k.Holder == name && !k.Revoked {
			return candidate
		}
	}
	return name
}

func (r *storyteller) id(label string) ledger.Hash {
	id, ok := r.ids[label]
	if !ok {
		return ledger.LeafHash([]byte(label)) // a proposal that is nowhere
	}
	return id
}

// epochOf reads an option that is an epoch, if it is there.
func (r *storyteller) epochOf(text string) *uint64 {
	if text == "" {
		return nil
	}
	n := r.number(text)
	return &n
}

func (r *storyteller) payloadChange(o options) func(*ledger.Payload) {
	changes := []func(*ledger.Payload){}
	if v, ok := o.take("expires"); ok {
		at := r.world.now + r.millis(strings.TrimPrefix(v, "-"))
		if strings.HasPrefix(v, "-") {
			at = r.world.now - r.millis(strings.TrimPrefix(v, "-"))
		}
		changes = append(changes, func(p *ledger.Payload) { p.Expires = at })
	}
	if v, ok := o.take("nonce"); ok {
		changes = append(changes, func(p *ledger.Payload) { p.Nonce = filler(v, 16); p.Epoch, p.Seq = nil, nil })
		if _, set := o.values["expires"]; !set {
			at := r.world.now + 3_600_000
			changes = append(changes, func(p *ledger.Payload) {
				if p.Expires == 0 {
					p.Expires = at
				}
			})
		}
	}
	if v, ok := o.take("seq"); ok {
		n, epoch := r.number(v), r.world.state.Epoch()
		changes = append(changes, func(p *ledger.Payload) {
			p.Seq, p.Nonce, p.Expires = &n, nil, 0
			if p.Epoch == nil {
				p.Epoch = &epoch
			}
		})
	}
	if v, ok := o.take("epoch"); ok {
		n := r.number(v)
		changes = append(changes, func(p *ledger.Payload) { p.Epoch = &n })
	}
	if v, ok := o.take("generation"); ok {
		n := r.number(v)
		changes = append(changes, func(p *ledger.Payload) { p.Generation = n })
	}
	if v, ok := o.take("ledger"); ok {
		changes = append(changes, func(p *ledger.Payload) { p.Ledger = ledger.LeafHash([]byte(v)) })
	}
	return func(p *ledger.Payload) {
		for _, change := range changes {
			change(p)
		}
	}
}

func (r *storyteller) recordBody(o options) ledger.Record {
	body := ledger.Record{}
	body.Text = strings.Join(o.plain, " ")
	if v, ok := o.take("name"); ok {
		body.Name = v
	}
	if v, ok := o.take("media"); ok {
		body.Media = v
	}
	if v, ok := o.take("digest"); ok {
		body.Digest = filler(v, 32)
	}
	if v, ok := o.take("long"); ok {
		body.Text = strings.Repeat("x", int(r.number(v)))
	}
	return body
}

func (r *storyteller) proposal(o options) ledger.Propose {
	if len(o.plain) != 2 {
		r.fatalf("proposes LABEL ACTION, not %v", o.plain)
	}
	body := ledger.Propose{Action: o.plain[1]}
	body.Memo, _ = o.take("memo")
	if v, ok := o.take("longmemo"); ok {
		body.Memo = strings.Repeat("x", int(r.number(v)))
	}
	bases := map[string]string{}
	for _, name := range sortedKeys(o.values) {
		if table, found := strings.CutPrefix(name, "base."); found {
			bases[table], _ = o.take(name)
		}
	}
	body.Args = r.args(body.Action, o)
	base, err := r.world.state.BaseFor(body.Action, body.Args)
	if err != nil {
		base = map[string]uint64{}
	}
	for table, version := range bases {
		if version == "none" {
			delete(base, table)
		} else {
			base[table] = r.number(version)
		}
	}
	body.Base = base
	return body
}

// args makes an action's args of the options left.
func (r *storyteller) args(action string, o options) canon.Raw {
	if raw, ok := o.take("args"); ok {
		return canon.Raw(raw)
	}
	var args any
	take := func(name string) string { v, _ := o.take(name); return v }
	list := func(name string) []string {
		if v := take(name); v != "" {
			return strings.Split(v, ",")
		}
		return nil
	}
	switch action {
	case "council.change":
		a := councilArgs{Remove: list("remove")}
		for _, m := range list("add") {
			a.Add = append(a.Add, r.seated(m))
		}
		args = a
	case "council.reseat":
		a := reseatArgs{Council: []ledger.Member{}}
		for _, m := range list("council") {
			a.Council = append(a.Council, r.seated(m))
		}
		args = a
	case "operator.add":
		args = operatorArgs{Name: take("name"), Sponsor: take("sponsor")}
	case "operator.remove", "node.remove":
		args = nodeArgs{From: r.epochOf(take("from")), Name: take("name")}
	case "policy.change":
		p := r.world.state.Policy()
		rules := map[string]ledger.Rule{}
		for action, rule := range p.Rules {
			rules[action] = rule
		}
		p.Rules = rules
		settings := []string{}
		for _, name := range sortedKeys(o.values) {
			settings = append(settings, name+"="+take(name))
		}
		r.changePolicy(&p, settings)
		args = policyArgs{Policy: p}
	case "replica.add", "replica.rekey":
		a := replicaArgs{From: r.epochOf(take("from")), Replica: replicaOf(take("replica"))}
		if peer := take("peer"); peer != "" {
			a.Replica.Peer = peer
		}
		args = a
	case "replica.remove":
		args = replicaRemoveArgs{Cause: take("cause") == "yes", From: r.epochOf(take("from")), Name: take("name")}
	case "node.admit":
		a := admitArgs{Joins: []ledger.Hash{}}
		for _, label := range list("joins") {
			a.Joins = append(a.Joins, r.id(label))
		}
		args = a
	case "node.rekey":
		args = nodeRekeyArgs{From: r.epochOf(take("from")), Join: r.id(take("join"))}
	case ledger.ActionRevoke:
		a := revokeArgs{Key: ledger.Hash(keyNamed(take("revoked")).ID()), Reason: take("reason")}
		if from := r.epochOf(take("from")); from != nil {
			a.From = *from
		}
		args = a
	case "node.quarantine", "node.release":
		args = nodeReasonArgs{Name: take("name"), Reason: take("reason")}
	case "ledger.freeze":
		args = freezeArgs{Reason: take("reason")}
	case "format.upgrade":
		args = formatArgs{Format: r.number(take("format"))}
	case "log.rekey":
		key := take("logkey")
		args = ledger.LogKeys{Ed25519: filler(key, 32), MLDSA44: filler(key, 1312)}
	default:
		args = noArgs{}
	}
	raw, err := canon.Marshal(args)
	if err != nil {
		r.fatalf("args: %v", err)
	}
	return raw
}
