package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/spacetest"
)

// reach is how the program reaches members.
func reach(members []*member) []string {
	var urls, pins []string
	for _, m := range members {
		urls, pins = append(urls, m.url()), append(pins, m.pin.String())
	}
	return []string{"--server", strings.Join(urls, ","), "--tls-pin", strings.Join(pins, ",")}
}

// as runs a command of the program with a governor's key, against members.
func (c *cluster) as(governor string, members []*member, args ...string) (string, error) {
	args = append(args, "--key", c.path("keys", governor+".key"), "--genesis", c.genesis.String(), "--yes")
	return c.quorate(append(args, reach(members)...)...)
}

// propose gives a proposal's id.
func (c *cluster) propose(governor string, members []*member, args ...string) (string, error) {
	out, err := c.as(governor, members, append(append([]string{"propose"}, args...), "--output", "json")...)
	if err != nil {
		return "", err
	}
	var answer struct {
		ID       string `json:"id"`
		Proposal struct {
			ID string `json:"id"`
		} `json:"proposal"`
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &answer); err != nil {
		return "", fmt.Errorf("read %q: %w", out, err)
	}
	if answer.ID == "" {
		answer.ID = answer.Proposal.ID
	}
	return answer.ID, nil
}

// decide proposes with one governor, approves with another, and waits until it
// is executed.
func (c *cluster) decide(ctx context.Context, members []*member, args ...string) error {
	id, err := c.propose("alice", members, args...)
	if err != nil {
		return err
	}
	if _, err := c.as("carol", members, "approve", id); err != nil {
		return err
	}
	return c.awaitStanding(ctx, members, id, "executed")
}

func (c *cluster) awaitStanding(ctx context.Context, members []*member, id, standing string) error {
	cl, err := c.clientOf(members...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return await(ctx, "proposal "+id[:8]+" to be "+standing, func(ctx context.Context) error {
		p, err := cl.Proposal(ctx, id, client.Read{})
		if err == nil && p.Standing != standing {
			err = fmt.Errorf("it is %s %s", p.Standing, p.Reason)
		}
		return err
	})
}

// membership: while a minority is cut off, a replica is added and becomes
// active, and under the next partition it is removed.
func membership(ctx context.Context, h *harm) error {
	c := h.cluster
	lost := h.chance.IntN(len(c.members))
	var rest []*member
	for i, m := range c.members {
		if i != lost {
			rest = append(rest, m)
		}
	}
	if err := h.partition(both([]int{c.members[lost].number}, h.allBut(c.members[lost]))); err != nil {
		return err
	}
	joined, err := c.prepareMember()
	if err != nil {
		return err
	}
	// The newcomer does not hear the lost one either.
	c.members = append(c.members, joined)
	if err := h.partition(both([]int{c.members[lost].number}, h.allBut(c.members[lost]))); err != nil {
		return err
	}
	if err := errors.Join(
		c.decide(ctx, rest, "replica.add", "replica=@"+c.path("keys", joined.name+".pub")),
		c.rewatch(), c.start(joined), c.awaitStandingOf(ctx, rest, joined.name, "active")); err != nil {
		return err
	}
	if err := h.some(ctx, 10); err != nil {
		return err
	}
	h.note("%s joined while %s was cut off", joined.name, c.members[lost].name)
	if err := errors.Join(h.partition(nil), c.settle(ctx)); err != nil {
		return err
	}
	// And out again, while another one is cut off.
	lost = (lost + 1) % (len(c.members) - 1)
	if err := h.partition(both([]int{c.members[lost].number}, h.allBut(c.members[lost]))); err != nil {
		return err
	}
	var majority []*member
	for i, m := range c.members {
		if i != lost && m != joined {
			majority = append(majority, m)
		}
	}
	if err := errors.Join(
		c.decide(ctx, majority, "replica.remove", "name="+joined.name),
		c.awaitStandingOf(ctx, majority, joined.name, "")); err != nil {
		return err
	}
	h.note("and left while %s was", c.members[lost].name)
	c.members = c.members[:len(c.members)-1]
	return errors.Join(joined.stop(), joined.unmount(), spacetest.Unplug(joined.space), c.rewatch(), h.partition(nil))
}

// awaitStandingOf waits until a replica has a standing on the ledger; "": until
// it is not on it.
func (c *cluster) awaitStandingOf(ctx context.Context, members []*member, name, standing string) error {
	cl, err := c.clientOf(members...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return await(ctx, name+" to be "+standing, func(ctx context.Context) error {
		list, err := cl.Replicas(ctx, client.Read{})
		if err != nil {
			return err
		}
		now := ""
		for _, r := range list.Replicas {
			if r.Name == name {
				now = r.Standing
			}
		}
		if now != standing {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
}

// prepareMember makes the key, the configuration and the place of a replica that
// is not on the ledger yet. Keys and names are never used again.
func (c *cluster) prepareMember() (*member, error) {
	c.newest++
	number := c.newest
	if err := c.replicaKey(number, "keys"); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("r%d", number)
	config := fmt.Sprintf(`name: %[1]s
dir: %[1]s
genesis_file: genesis.cbor
key_file: ../keys/%[1]s.key
tls_cert_file: ../keys/%[1]s.tls.crt
tls_key_file: ../keys/%[1]s.tls.key
listen: %[2]s:%[3]d
api:
  listen: %[2]s:%[4]d
`, name, c.address(number), peerPort, apiPort)
	if err := os.WriteFile(c.path("ledger", name+".yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return c.newMember(number)
}

// governorLoss: an approval counts only while its governor has a seat, a copy of
// it never again, and what was decided is executed once.
func governorLoss(ctx context.Context, h *harm) error {
	c := h.cluster
	c.seats++
	name := fmt.Sprintf("gwen%d", c.seats)
	if _, err := c.quorate("keygen", "governor", name, "--operator", "borealis", "--out", c.path("keys"), "--insecure-plain"); err != nil {
		return err
	}
	if err := c.decide(ctx, c.members, "council.change", "add=@"+c.path("keys", name+".pub")); err != nil {
		return err
	}
	// An action that does not name the council's version, so that the change in
	// between leaves it open.
	id, err := c.propose("alice", c.members, "operator.add", fmt.Sprintf("name=dune%d", c.seats))
	if err != nil {
		return err
	}
	approval := c.path(name + ".cose")
	if _, err := c.as(name, c.members, "approve", id, "--out", approval); err != nil {
		return err
	}
	if err := c.decide(ctx, c.members, "council.change", "remove="+name); err != nil {
		return err
	}
	if out, err := c.quorate(append([]string{"submit", approval, "--genesis", c.genesis.String()}, reach(c.members)...)...); err == nil {
		return fmt.Errorf("the approval of a governor without a seat was taken: %s", out)
	}
	if err := c.awaitStanding(ctx, c.members, id, "open"); err != nil {
		return err
	}
	// In the middle of the decision the leader dies; whoever sent the approval
	// sends it again.
	good := c.path(id[:16] + ".cose")
	if _, err := c.as("bob", c.members, "approve", id, "--out", good); err != nil {
		return err
	}
	leader, _, err := h.leader(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	submit := append([]string{"submit", good, "--genesis", c.genesis.String()}, reach(c.members)...)
	go func() { _, err := c.quorate(submit...); sent <- err }()
	killed := leader.kill()
	if err := errors.Join(<-sent, killed); err != nil {
		return err
	}
	if _, err := c.quorate(submit...); err != nil {
		return fmt.Errorf("the same approval again: %w", err)
	}
	_, _ = c.quorate(append([]string{"submit", approval, "--genesis", c.genesis.String()}, reach(c.members)...)...)
	h.note("%s lost its seat", name)
	h.after = append(h.after, func(ctx context.Context) error { return c.executedOnce(ctx, id) })
	return c.awaitStanding(ctx, c.members, id, "executed")
}

// executedOnce counts a proposal's decision and execution on the ledger.
func (c *cluster) executedOnce(ctx context.Context, id string) error {
	counts := map[string]int{}
	hash, err := ledger.ParseHash(id)
	if err != nil {
		return err
	}
	encoded := base64.RawURLEncoding.EncodeToString(hash[:]) // as statements and effects have it
	cl, err := c.clientOf(c.members...)
	if err != nil {
		return err
	}
	defer cl.Close()
	_, err = readEntries(ctx, cl, 0, c.known.size, func(e *client.Entry) error {
		if e.Kind == "effect" && (strings.Contains(string(e.View), encoded) || strings.Contains(string(e.View), id)) {
			counts[e.Type]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for typ, n := range counts {
		if n > 1 {
			return fmt.Errorf("%d effects of type %s are of proposal %s", n, typ, id)
		}
	}
	if len(counts) == 0 {
		return fmt.Errorf("no effect of proposal %s is on the ledger", id)
	}
	return nil
}
