package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// ceremonyFile is what people agree on before a ledger begins. Paths are
// relative to the file. Whatever the policy leaves out has its default.
type ceremonyFile struct {
	Origin        string            `yaml:"origin"`
	Operators     []ceremonyName    `yaml:"operators"`
	Council       []string          `yaml:"council"` // public key files
	Recovery      *ceremonyRecovery `yaml:"recovery"`
	Replicas      []ceremonyReplica `yaml:"replicas"`
	Policy        ceremonyPolicy    `yaml:"policy"`
	Witnesses     []ceremonyWitness `yaml:"witnesses"`
	WitnessQuorum uint64            `yaml:"witness_quorum"`
	Format        uint64            `yaml:"format"` // of the ledger; absent: the highest that this program knows
}

type ceremonyName struct {
	Name    string `yaml:"name"`
	Sponsor string `yaml:"sponsor"`
}

type ceremonyRecovery struct {
	Threshold uint64   `yaml:"threshold"`
	Holders   []string `yaml:"holders"` // public key files
}

// ceremonyReplica may override the addresses of the public key file.
type ceremonyReplica struct {
	Public string `yaml:"public"`
	Peer   string `yaml:"peer"`
	API    string `yaml:"api"`
}

type ceremonyWitness struct {
	Name string `yaml:"name"`
	VKey string `yaml:"vkey"`
}

// ceremonyPolicy overrides the default policy field by field.
type ceremonyPolicy struct {
	ClosedRetentionMillis  *uint64                 `yaml:"closed_retention_millis"`
	EpochMillis            *uint64                 `yaml:"epoch_millis"`
	GraceEpochs            *uint64                 `yaml:"grace_epochs"`
	KeyEpochs              *uint64                 `yaml:"key_epochs"`
	Keys                   *ceremonyKeys           `yaml:"keys"`
	MaxHeadAgeMillis       *uint64                 `yaml:"max_head_age_millis"`
	MaxSkewMillis          *uint64                 `yaml:"max_skew_millis"`
	ProposalLifetimeMillis *uint64                 `yaml:"proposal_lifetime_millis"`
	Protection             *ceremonyProtection     `yaml:"protection"`
	Quota                  *uint64                 `yaml:"quota"`
	TickMillis             *uint64                 `yaml:"tick_millis"`
	Rules                  map[string]ceremonyRule `yaml:"rules"`
}

type ceremonyRule struct {
	DelayMillis *uint64   `yaml:"delay_millis"`
	Threshold   *uint64   `yaml:"threshold"`
	Vetoers     *[]string `yaml:"vetoers"`
}

// readCeremony reads a ceremony file and makes its paths absolute to it.
func readCeremony(path string) (*ceremonyFile, error) {
	var c ceremonyFile
	if err := readYAML(path, &c); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	for i := range c.Council {
		c.Council[i] = relativeTo(dir, c.Council[i])
	}
	for i := range c.Replicas {
		c.Replicas[i].Public = relativeTo(dir, c.Replicas[i].Public)
	}
	if c.Recovery != nil {
		for i := range c.Recovery.Holders {
			c.Recovery.Holders[i] = relativeTo(dir, c.Recovery.Holders[i])
		}
	}
	return &c, nil
}

// relativeTo reads path as seen from dir.
func relativeTo(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// genesis builds the genesis of the ceremony but for the log keys, and the age
// recipients of the replicas.
func (c *ceremonyFile) genesis(created uint64) (*ledger.Genesis, []string, error) {
	g := &ledger.Genesis{Created: created, Format: c.Format, Origin: c.Origin, WitnessQuorum: c.WitnessQuorum}
	if g.Format == 0 {
		g.Format = ledger.Format
	}
	for _, o := range c.Operators {
		g.Operators = append(g.Operators, ledger.Operator{Name: o.Name, Sponsor: o.Sponsor})
	}
	for _, w := range c.Witnesses {
		g.Witnesses = append(g.Witnesses, ledger.Witness{Name: w.Name, VKey: w.VKey})
	}
	for _, path := range c.Council {
		p, err := readPublic(path, fsm.RoleGovernor)
		if err != nil {
			return nil, nil, err
		}
		g.Council = append(g.Council, memberOf(p))
	}
	if c.Recovery != nil {
		g.Recovery = &ledger.Recovery{Threshold: c.Recovery.Threshold}
		for _, path := range c.Recovery.Holders {
			p, err := readPublic(path, fsm.RoleRecovery)
			if err != nil {
				return nil, nil, err
			}
			g.Recovery.Holders = append(g.Recovery.Holders, ledger.Holder{Name: p.Name, Public: p.PublicKey})
		}
		slices.SortFunc(g.Recovery.Holders, func(x, y ledger.Holder) int { return strings.Compare(x.Name, y.Name) })
	}
	recipients, err := c.replicas(g)
	if err != nil {
		return nil, nil, err
	}
	c.missingOperators(g)
	slices.SortFunc(g.Operators, func(x, y ledger.Operator) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(g.Council, func(x, y ledger.Member) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(g.Replicas, func(x, y ledger.Replica) int { return strings.Compare(x.Name, y.Name) })
	g.Policy = c.Policy.over(ledger.DefaultPolicy(ledger.CouncilOperators(g.Council)))
	return g, recipients, nil
}

// missingOperators adds the operators that keys name when the ceremony lists
// none at all; a list, once given, is taken as meant.
func (c *ceremonyFile) missingOperators(g *ledger.Genesis) {
	if len(c.Operators) > 0 {
		return
	}
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			g.Operators = append(g.Operators, ledger.Operator{Name: name})
		}
	}
	for _, m := range g.Council {
		add(m.Operator)
	}
	for _, r := range g.Replicas {
		add(r.Operator)
	}
}

func (c *ceremonyFile) replicas(g *ledger.Genesis) ([]string, error) {
	var recipients []string
	for _, r := range c.Replicas {
		p, err := readPublic(r.Public, fsm.RoleReplica)
		if err != nil {
			return nil, err
		}
		replica, err := replicaOf(p, r.Peer, r.API)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Public, err)
		}
		g.Replicas = append(g.Replicas, replica)
		recipients = append(recipients, p.Recipient)
	}
	return recipients, nil
}

// readPublic reads a public key file that must be of one role.
func readPublic(path, role string) (*keys.PublicFile, error) {
	p, err := keys.ReadPublicFile(path)
	if err != nil {
		return nil, err
	}
	if p.Role != role {
		return nil, usage(fmt.Sprintf("make one with: quorate keygen %s NAME", role), "%s holds the key of a %s, want a %s", path, p.Role, role)
	}
	return p, nil
}

func memberOf(p *keys.PublicFile) ledger.Member {
	return ledger.Member{Name: p.Name, Operator: p.Operator, Public: p.PublicKey, Recipient: p.Recipient}
}

// replicaOf gives what the ledger records of a replica; peer and api, if they
// are given, stand before those of the file.
func replicaOf(p *keys.PublicFile, peer, api string) (ledger.Replica, error) {
	r := ledger.Replica{API: p.API, Cosigner: p.Cosigner44, Name: p.Name, Operator: p.Operator,
		Peer: p.Address, Public: p.PublicKey, TLSPin: p.TLSPin}
	if peer != "" {
		r.Peer = peer
	}
	if api != "" {
		r.API = api
	}
	if err := r.Validate(); err != nil {
		return r, usage("quorate keygen replica NAME --peer HOST:PORT --api URL writes all of it", "replica %s: %w", p.Name, err)
	}
	return r, nil
}

// over gives the policy with what the ceremony changes.
func (c ceremonyPolicy) over(p ledger.Policy) ledger.Policy {
	set := func(field *uint64, value *uint64) {
		if value != nil {
			*field = *value
		}
	}
	set(&p.ClosedRetentionMillis, c.ClosedRetentionMillis)
	set(&p.EpochMillis, c.EpochMillis)
	set(&p.GraceEpochs, c.GraceEpochs)
	set(&p.KeyEpochs, c.KeyEpochs)
	set(&p.MaxHeadAgeMillis, c.MaxHeadAgeMillis)
	set(&p.MaxSkewMillis, c.MaxSkewMillis)
	set(&p.ProposalLifetimeMillis, c.ProposalLifetimeMillis)
	set(&p.Quota, c.Quota)
	set(&p.TickMillis, c.TickMillis)
	if c.Protection != nil {
		protection := c.Protection.over(p.Protects())
		p.Protection = &protection
	}
	if c.Keys != nil {
		own := ledger.DefaultKeys()
		if p.Keys != nil {
			own = *p.Keys
		}
		own = c.Keys.over(own)
		p.Keys = &own
	}
	for action, change := range c.Rules {
		rule, known := p.Rules[action]
		if !known && action == ledger.ActionRevoke {
			rule = p.Rules["node.remove"]
		}
		set(&rule.DelayMillis, change.DelayMillis)
		set(&rule.Threshold, change.Threshold)
		if change.Vetoers != nil {
			rule.Vetoers = *change.Vetoers
			slices.Sort(rule.Vetoers)
		}
		p.Rules[action] = rule
	}
	return p
}
