package main

import (
	"context"
	"fmt"
	"strings"
)

// withheldByGossip puts nodes into every agent's mesh that pass nothing on.
func withheldByGossip(ctx context.Context, f *fleet) error {
	p, err := f.plot(ctx)
	if err != nil {
		return err
	}
	defer p.quiet()
	p.herald.enter(warming)
	var hosts []*insider
	defer func() {
		for _, i := range hosts {
			i.close()
		}
	}()
	for _, n := range p.coalition {
		i, err := p.insider(n)
		if err != nil {
			return err
		}
		hosts = append(hosts, i)
		for _, a := range f.agents {
			if err := i.enters(ctx, a); err != nil {
				return err
			}
		}
	}
	given := func(a *agentProcess) (by, copies int) {
		for _, i := range hosts {
			if n := i.givenBy(a); n > 0 {
				by, copies = by+1, copies+n
			}
		}
		return by, copies
	}
	if err := f.Await(ctx, "the coalition is in every agent's mesh", func() bool {
		for _, a := range f.agents {
			if by, _ := given(a); by == 0 {
				return false
			}
		}
		return true
	}); err != nil {
		return err
	}
	if err := p.herald.rewarm(ctx); err != nil {
		return err
	}
	p.herald.enter("during")
	p.quiet()
	var list []string
	total := 0
	for _, a := range f.agents {
		by, copies := given(a)
		total += copies
		list = append(list, fmt.Sprintf("%s to %d", a.name, by))
	}
	f.Says("attackers", "%d nodes of %d operators are grafted by %d agents, are given %d copies of statements and pass none on (nodes of theirs that each agent relays to: %s)", len(hosts), colluders, len(f.agents), total, strings.Join(list, ", "))
	f.Says("detected", "nothing: silence proves nothing and is no offence; what they hold back comes by others")
	p.herald.line(ctx)
	return nil
}
