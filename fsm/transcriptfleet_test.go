package fsm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// The commands of stories about a fleet, of format 2.

// withFleet is "with fleet OPERATORS NODES": so many operators, of so many nodes
// each, all admitted before the story begins.
func (r *storyteller) withFleet(words []string) {
	g := r.genesis
	g.Format = max(g.Format, 2)
	r.operators, r.nodes = int(r.number(words[0])), int(r.number(words[1]))
	for i := range r.operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: operatorName(i), Sponsor: "alpha"})
	}
	g.Operators = sortedOperators(g.Operators)
}

func (r *storyteller) found() {
	if r.operators == 0 {
		r.world = newWorld(r.t, r.genesis)
		return
	}
	f := foundFleet(r.t, r.genesis, r.operators, r.nodes)
	r.world = f.world
}

func (r *storyteller) fleet() *fleet {
	p := r.world.state.Policy()
	return &fleet{world: r.world, policy: p.Protects()}
}

// epochs is "epochs N": so many pass, each sealed; what else happened is told.
func (r *storyteller) epochs(words []string) []string {
	seen := len(r.world.entries)
	r.fleet().epochs(int(r.number(words[0])))
	lines := []string{}
	for _, entry := range r.world.entries[seen:] {
		line := r.describe(entry)
		if _, what, _ := strings.Cut(line, " "); !strings.HasPrefix(what, "epoch ") && !strings.HasPrefix(what, "seal") {
			lines = append(lines, line)
		}
	}
	return append(lines, fmt.Sprintf("epoch %d", r.world.state.Epoch()))
}

// monitors is "monitors FROM-TO of SUBJECT observe KIND ...": of those who are
// drawn to watch it, by operator and counted from 1, these speak; the answer is
// that to the last of them.
func (r *storyteller) monitors(words []string) []string {
	first, last, _ := strings.Cut(words[0], "-")
	from, to := int(r.number(first)), int(r.number(first))
	if last != "" {
		to = int(r.number(last))
	}
	drawn := r.fleet().monitors(words[2])
	var answer []string
	for i := from; i <= to; i++ {
		if i > len(drawn) {
			r.fatalf("%s has %d monitors", words[2], len(drawn))
		}
		answer = r.say(append([]string{drawn[i-1].Node, "observes", words[4], words[2]}, words[5:]...))
	}
	return answer
}

// attestors is "attestors attest [without=NODE] [against=NODE]": who is drawn to
// attest the window before says what it watched.
func (r *storyteller) attestors(words []string) []string {
	o := parseOptions(words)
	without, _ := o.take("without")
	against, _ := o.take("against")
	f := r.fleet()
	count := f.attestAllBut(strings.Split(without, ","), strings.Split(against, ","))
	return []string{fmt.Sprintf("%d attest", count)}
}

// windows is "windows N attested [without=NODE]": in each of so many windows all that
// are drawn attest the one before.
func (r *storyteller) windows(words []string) []string {
	o := parseOptions(words[1:])
	without, _ := o.take("without")
	lines := []string{}
	for range r.number(words[0]) {
		r.fleet().attestAll(strings.Split(without, ",")...)
		told := r.epochs([]string{strconv.FormatUint(r.fleet().policy.AttestEpochs, 10)})
		lines = append(lines, told[:len(told)-1]...)
	}
	return append(lines, fmt.Sprintf("epoch %d", r.world.state.Epoch()))
}

func (r *storyteller) observation(o options) ledger.Observe {
	tick := func(name string, otherwise uint64) uint64 {
		v, ok := o.take(name)
		if !ok {
			return otherwise
		}
		offset, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			r.fatalf("%s=%s", name, v)
		}
		return uint64(int64(r.fleet().tick()) + offset)
	}
	r.world.nonces++
	body := ledger.Observe{Counter: r.world.nonces, Kind: o.plain[0], Subject: o.plain[1]}
	body.To = tick("to", r.fleet().tick())
	body.From = tick("from", body.To)
	if v, ok := o.take("counter"); ok {
		body.Counter = r.number(v)
	}
	if body.Kind == ledger.NodeBad {
		body.Cause = ledger.CauseInvalid
	}
	if v, ok := o.take("cause"); ok {
		body.Cause = v
	}
	return body
}

// exhibits is what "writes" put aside.
func (r *storyteller) evidence(o options) ledger.Evidence {
	body := ledger.Evidence{Kind: o.plain[0]}
	if v, ok := o.take("public"); ok {
		body.Public = publicOf(v)
	}
	for _, label := range o.plain[1:] {
		paper, ok := r.papers[label]
		if !ok {
			r.fatalf("nobody wrote %s", label)
		}
		body.Exhibits = append(body.Exhibits, paper)
	}
	return body
}

// attestation is one node's word on a window: "attests first=8 clean=NODE,...".
func (r *storyteller) attestation(o options) ledger.Attest {
	first, ok := o.take("first")
	epoch := uint64(0)
	if ok {
		epoch = r.number(first)
	}
	v, _ := o.take("clean")
	ordinals := []uint32{}
	for _, name := range strings.Split(v, ",") {
		if n, ok := r.world.state.Node(name); ok {
			ordinals = append(ordinals, uint32(n.Ordinal))
		}
	}
	return ledger.Attest{Epochs: []ledger.AttestedEpoch{{Clean: ledger.EncodeOrdinals(ordinals), Epoch: epoch}}}
}

func (r *storyteller) showReputation(name string) []string {
	v, ok := r.world.state.Reputation(name)
	if !ok {
		return []string{"no reputation"}
	}
	line := strconv.FormatUint(v.Reputation, 10)
	if heat := v.HeatIn(r.world.state.Epoch()); heat > 0 {
		line += fmt.Sprintf(", heat %d", heat)
	}
	for _, f := range []struct {
		name string
		n    uint64
	}{{"strikes", v.Strikes}, {"clean epochs", v.Clean}, {"misses", v.Misses}, {"stays until epoch", v.Stay}} {
		if f.n > 0 {
			line += fmt.Sprintf(", %s %d", f.name, f.n)
		}
	}
	if v.Down {
		line += ", down"
	}
	n, _ := r.world.state.Node(name)
	line += ", " + n.Standing
	if n.Elector {
		line += ", may be drawn"
	}
	return []string{line}
}

func (r *storyteller) showProtection() []string {
	p, ok := r.world.state.Protection()
	if !ok {
		return []string{"none"}
	}
	line := fmt.Sprintf("%d down, %d held by others' word", p.Down, p.Subjective)
	if p.Breaker {
		line += ", breaker open"
	}
	if p.Partition {
		line += ", partition"
	}
	if r.world.state.Electorate().Bootstrap {
		line += ", too few operators for verdicts"
	}
	return []string{line}
}

// describeProtection tells an effect of format 2, or nothing.
func (r *storyteller) describeProtection(f *ledger.Effect) (string, bool) {
	switch f.Type {
	case EffectVerdict:
		var b VerdictEffect
		r.decode(f.Body, &b)
		return fmt.Sprintf(" %s %s, %d of %d", b.Kind, b.Name, b.Operators, b.Total), true
	case EffectOffence:
		var b OffenceEffect
		r.decode(f.Body, &b)
		return fmt.Sprintf(" %s of %s, takes %d, leaves %d, heat %d", b.Kind, b.Name, b.Taken, b.Reputation, b.Heat), true
	case EffectQuarantined, EffectReleased, EffectExcluded:
		var b StandingEffect
		r.decode(f.Body, &b)
		text := fmt.Sprintf(" %s, %s, at %d", b.Name, b.Reason, b.Reputation)
		if b.Strikes > 0 {
			text += fmt.Sprintf(", strikes %d", b.Strikes)
		}
		if b.Stay > 0 {
			text += fmt.Sprintf(", until epoch %d at least", b.Stay)
		}
		return text, true
	case EffectBreaker:
		var b BreakerEffect
		r.decode(f.Body, &b)
		if b.Closed {
			return fmt.Sprintf(" closed, %d of %d held", b.Held, b.Fleet), true
		}
		return fmt.Sprintf(" open, %d of %d held, spares %s", b.Held, b.Fleet, b.Name), true
	case EffectPartition:
		var b PartitionEffect
		r.decode(f.Body, &b)
		if b.Healed {
			return " healed", true
		}
		return fmt.Sprintf(", %d down and %d cut off of %d", b.Down, b.Cut, b.Fleet), true
	case EffectLink:
		var b LinkEffect
		r.decode(f.Body, &b)
		return fmt.Sprintf(" %s %s", b.Kind, strings.Join(b.Ends, " - ")), true
	}
	return "", false
}
