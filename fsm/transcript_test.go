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
)

// A transcript is a story that needs no Go to be read: each line is a command,
// the lines indented below it are what the ledger answered: a verdict, then the
// entries that it appended. testdata/transcripts/README.txt explains the
// commands. Running the test with -update writes the answers anew; read them.
var update = flag.Bool("update", false, "write the answers of transcripts anew")

const (
	leastTranscripts = 30
	manyEntries      = 600 // of a story that is not replayed from each of its seals
)

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
		if seen[c] == "" && c != JoinAlone { // a leader's admission gives it, the rules do not
			t.Errorf("no transcript shows the code %s", c)
		}
	}
}

func runTranscript(t *testing.T, file string, seen map[Code]string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &storyteller{t: t, genesis: defaultGenesis(), papers: map[string][]byte{}, labels: map[ledger.Hash]string{}, ids: map[string]ledger.Hash{}, seen: seen, file: file}
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

	operators, nodes int               // of a fleet
	recipients       bool              // governors have age recipients
	papers           map[string][]byte // written and not submitted
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
		r.found()
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
	case "epochs":
		return r.epochs(words[1:])
	case "monitors":
		return r.monitors(words[1:])
	case "windows":
		return r.windows(words[1:])
	case "attestors":
		return r.attestors(words[2:])
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
			g.Council = append(g.Council, r.seated(m))
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
	case "format=2":
		g.Format = 2
	case "format=3":
		g.Format = 3
	case "recipients":
		r.recipients = true
		for i, m := range g.Council {
			g.Council[i].Recipient = recipientNamed(m.Name)
		}
	case "fleet":
		r.withFleet(rest)
	case "protection":
		p := g.Policy.Protects()
		r.changeProtection(&p, rest)
		g.Policy.Protection = &p
	default:
		r.fatalf("with what?")
	}
}

func (r *storyteller) changeProtection(p *ledger.Protection, settings []string) {
	for _, setting := range settings {
		name, value, _ := strings.Cut(strings.ReplaceAll(setting, ":", "="), "=")
		r.setNumber(name, value, map[string]*uint64{
			"attest_epochs": &p.AttestEpochs, "attestors": &p.Attestors, "age_epochs": &p.AgeEpochs, "clean_points": &p.CleanPoints,
			"down_points": &p.DownPoints, "exclude_strikes": &p.ExcludeStrikes, "stay_epochs": &p.StayEpochs, "monitors": &p.Monitors,
			"bad_points": &p.BadPoints, "probe_quota": &p.ProbeQuota, "forget_epochs": &p.ForgetEpochs,
		})
	}
}

// setNumber sets the one of some settings that is named.
func (r *storyteller) setNumber(name, value string, fields map[string]*uint64) {
	field := fields[name]
	if field == nil {
		r.fatalf("setting %q", name)
	}
	*field = r.number(value)
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
		case "tick":
			p.TickMillis = r.millis(value)
		case "protection":
			next := p.Protects()
			r.changeProtection(&next, strings.Split(value, ";"))
			p.Protection = &next
		case "drop": // the rule of an action
			delete(p.Rules, value)
		case "authority.threshold": // of all that changes the authority
			for _, action := range ledger.Actions() {
				if rule := p.Rules[action]; ledger.ChangesAuthority(action) {
					rule.Threshold = r.number(value)
					p.Rules[action] = rule
				}
			}
		default:
			if strings.HasPrefix(name, "keys.") {
				r.changeKeys(p, name, value)
				continue
			}
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

func (r *storyteller) checkWhole() {
	if len(r.world.entries) > manyEntries {
		r.fleet().whole(r.t)
		return
	}
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
