package fsm

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// A transcript is a story that needs no Go to be read: each line is a command,
// the lines indented below it are what the ledger answered: a verdict, then the
// entries that it appended. testdata/transcripts/README.txt explains the
// commands. Running the test with -update writes the answers anew; read them.
var update = flag.Bool("update", false, "write the answers of transcripts anew")

const leastTranscripts = 30

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Code]string{}
	stories := 0
	for _, file := range files {
		if filepath.Base(file) == "README.txt" {
			continue
		}
		stories++
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			runTranscript(t, file, seen)
		})
	}
	if stories < leastTranscripts {
		t.Fatalf("found %d transcripts, want at least %d", stories, leastTranscripts)
	}
	if t.Failed() || strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // some stories were not told to the end
	}
	for _, c := range Codes() {
		if seen[c] == "" {
			t.Errorf("no transcript shows the code %s", c)
		}
	}
}

func runTranscript(t *testing.T, file string, seen map[Code]string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &storyteller{t: t, genesis: defaultGenesis(), labels: map[ledger.Hash]string{}, ids: map[string]ledger.Hash{}, seen: seen, file: file}
	var out bytes.Buffer
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "  ") {
			continue // an answer, written anew below
		}
		fmt.Fprintln(&out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r.line = i + 1
		for _, answer := range r.run(line) {
			fmt.Fprintln(&out, "  "+answer)
		}
	}
	if r.world == nil {
		t.Fatalf("the story has no command")
	}
	r.checkWhole()
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if out.String() != string(text) {
		t.Errorf("%s: the ledger answers otherwise:\n%s", file, firstDifference(string(text), out.String()))
	}
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := 0; i < max(len(a), len(b)); i++ {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d\n  file:   %s\n  ledger: %s", i+1, x, y)
		}
	}
	return ""
}

// storyteller runs the commands of one transcript.
type storyteller struct {
	t       *testing.T
	file    string
	line    int
	genesis *ledger.Genesis
	world   *world
	labels  map[ledger.Hash]string
	ids     map[string]ledger.Hash
	bundle  [][]byte // while one is being told
	inside  bool
	last    [][]byte // the last bundle submitted
	seen    map[Code]string
}

func (r *storyteller) fatalf(format string, values ...any) {
	r.t.Helper()
	r.t.Fatalf("%s:%d: %s", r.file, r.line, fmt.Sprintf(format, values...))
}

func (r *storyteller) run(line string) []string {
	words := split(line)
	if words[0] == "with" {
		if r.world != nil {
			r.fatalf("with comes before the first command")
		}
		r.with(words[1:])
		return nil
	}
	if r.world == nil {
		r.world = newWorld(r.t, r.genesis)
	}
	w := r.world
	switch words[0] {
	case "after":
		w.now += r.millis(words[1])
		return nil
	case "back":
		w.now -= r.millis(words[1])
		return nil
	case "tick":
		return r.answer(w.apply(ledger.CommandTick))
	case "seal":
		return r.answer(w.apply(ledger.CommandSeal))
	case "bundle":
		r.inside, r.bundle = true, nil
		return nil
	case "end":
		r.inside = false
		return r.submit(r.bundle...)
	case "again":
		return r.submit(r.last...)
	case "show":
		return r.show(words[1:])
	case "simulate":
		return r.simulate(words[1:])
	case "bytes":
		b, err := hex.DecodeString(strings.Join(words[1:], ""))
		if err != nil {
			r.fatalf("%v", err)
		}
		return r.submit(b)
	case "repeat":
		return r.repeat(words[1:])
	}
	return r.say(words)
}

// repeat NUMBER COMMAND | COMMAND... answers for the first command of the last
// round only; # in a command is the number of the round.
func (r *storyteller) repeat(words []string) []string {
	n, err := strconv.Atoi(words[0])
	if err != nil {
		r.fatalf("%v", err)
	}
	var answer []string
	for i := 1; i <= n; i++ {
		round := strings.ReplaceAll(strings.Join(words[1:], "\x00"), "#", strconv.Itoa(i))
		for j, command := range strings.Split(round, "\x00|\x00") {
			switch got := command; {
			case got == "seal":
				r.world.apply(ledger.CommandSeal)
			case got == "tick":
				r.world.apply(ledger.CommandTick)
			case j > 0:
				r.say(strings.Split(got, "\x00"))
			default:
				answer = r.say(strings.Split(got, "\x00"))
			}
		}
		if i < n && len(answer) > 0 && strings.HasPrefix(answer[0], "refused") {
			return append(answer, fmt.Sprintf("(in round %d)", i))
		}
	}
	return answer
}

// split cuts at spaces, but not inside quotes or braces.
func split(line string) []string {
	words, word, quoted, depth := []string{}, "", false, 0
	for _, c := range line {
		switch {
		case c == '"' && depth == 0:
			quoted = !quoted
			continue
		case !quoted && c == '{':
			depth++
		case !quoted && c == '}':
			depth--
		case c == ' ' && !quoted && depth == 0:
			if word != "" {
				words = append(words, word)
			}
			word = ""
			continue
		}
		word += string(c)
	}
	return append(words, word)
}

func (r *storyteller) millis(text string) uint64 {
	days, found := strings.CutSuffix(text, "d")
	if found {
		n, err := strconv.Atoi(days)
		if err != nil {
			r.fatalf("time %q", text)
		}
		return uint64(n) * 24 * 3_600_000
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		r.fatalf("time %q", text)
	}
	return uint64(d.Milliseconds())
}

func (r *storyteller) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		r.fatalf("number %q", text)
	}
	return n
}

// with changes genesis.
func (r *storyteller) with(words []string) {
	g := r.genesis
	rest := words[1:]
	switch words[0] {
	case "council":
		g.Council = nil
		for _, m := range rest {
			g.Council = append(g.Council, memberOf(m))
		}
	case "operators":
		g.Operators = nil
		for _, o := range rest {
			name, sponsor, _ := strings.Cut(o, ":")
			g.Operators = append(g.Operators, ledger.Operator{Name: name, Sponsor: sponsor})
		}
	case "replicas":
		g.Replicas = nil
		for _, m := range rest {
			g.Replicas = append(g.Replicas, replicaOf(m))
		}
	case "policy":
		r.changePolicy(&g.Policy, rest)
	case "no":
		g.Recovery = nil
	default:
		r.fatalf("with what?")
	}
}

func (r *storyteller) changePolicy(p *ledger.Policy, settings []string) {
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		switch name {
		case "quota":
			p.Quota = r.number(value)
		case "epoch":
			p.EpochMillis = r.millis(value)
		case "lifetime":
			p.ProposalLifetimeMillis = r.millis(value)
		case "retention":
			p.ClosedRetentionMillis = r.millis(value)
		case "key_epochs":
			p.KeyEpochs = r.number(value)
		case "grace_epochs":
			p.GraceEpochs = r.number(value)
		default:
			dot := strings.LastIndex(name, ".")
			action, field := name[:dot], name[dot+1:]
			rule := p.Rules[action]
			switch field {
			case "threshold":
				rule.Threshold = r.number(value)
			case "delay":
				rule.DelayMillis = r.millis(value)
			case "vetoers":
				rule.Vetoers = nil
				if value != "" {
					rule.Vetoers = strings.Split(value, ",")
				}
			default:
				r.fatalf("policy setting %q", setting)
			}
			p.Rules[action] = rule
		}
	}
}

// verbs are the third person of statement types.
var verbs = map[string]string{
	"proposes": ledger.TypePropose, "approves": ledger.TypeApprove, "rejects": ledger.TypeReject,
	"withdraws": ledger.TypeWithdraw, "vetoes": ledger.TypeVeto, "records": ledger.TypeRecord,
	"joins": ledger.TypeJoin, "ready": ledger.TypeReady,
}

// say makes a statement: AUTHOR VERB ... and submits it, or puts it into the
// bundle.
func (r *storyteller) say(words []string) []string {
	if len(words) < 2 {
		r.fatalf("what is %q?", words[0])
	}
	author, verb, rest := words[0], words[1], words[2:]
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
	if typ == ledger.TypePropose || typ == ledger.TypeJoin {
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
			a.Add = append(a.Add, memberOf(m))
		}
		args = a
	case "council.reseat":
		a := reseatArgs{Council: []ledger.Member{}}
		for _, m := range list("council") {
			a.Council = append(a.Council, memberOf(m))
		}
		args = a
	case "operator.add":
		args = operatorArgs{Name: take("name"), Sponsor: take("sponsor")}
	case "operator.remove", "node.remove":
		args = nodeArgs{Name: take("name")}
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
		a := replicaArgs{Replica: replicaOf(take("replica"))}
		if peer := take("peer"); peer != "" {
			a.Replica.Peer = peer
		}
		args = a
	case "replica.remove":
		args = replicaRemoveArgs{Cause: take("cause") == "yes", Name: take("name")}
	case "node.admit":
		a := admitArgs{Joins: []ledger.Hash{}}
		for _, label := range list("joins") {
			a.Joins = append(a.Joins, r.id(label))
		}
		args = a
	case "node.rekey":
		args = nodeRekeyArgs{Join: r.id(take("join"))}
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

func (r *storyteller) checkWhole() {
	checkState(r.t, r.world.state)
	checkReplays(r.t, r.world)
	checkLightClient(r.t, r.world)
}

// relative shows a stamp as time since genesis.
func relative(stamp uint64) string {
	text := (time.Duration(stamp-created) * time.Millisecond).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return "+" + text
}
