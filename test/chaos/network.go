package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/test/spacetest"
)

// Each replica has a place on the network of package spacetest. Clients live at
// the bridge, so a partition among replicas leaves every replica reachable for
// its clients.

// address is the member's own. Each cluster of a run has addresses of its own:
// the kernel takes a network down in its own time.
func (c *cluster) address(number int) string { return fmt.Sprintf("10.77.%d.%d", c.number, number) }

// deaf makes a replica hear nothing from these addresses; nil: it hears all.
func deaf(space string, from []string) error {
	rules := "table inet chaos\ndelete table inet chaos\n"
	if len(from) > 0 {
		rules += "table inet chaos {\n chain in {\n  type filter hook input priority 0; policy accept;\n  ip saddr { " +
			strings.Join(from, ", ") + " } drop\n }\n}\n"
	}
	return spacetest.Tool(rules, "ip", "netns", "exec", space, "nft", "-f", "-")
}

// cut is one direction of a link that is broken: to does not hear from.
type cut struct{ from, to int }

// both are the cuts that separate two groups.
func both(left, right []int) []cut {
	var list []cut
	for _, a := range left {
		for _, b := range right {
			list = append(list, cut{a, b}, cut{b, a})
		}
	}
	return list
}

// partition makes the members' links broken as said, and no others.
func (c *cluster) partition(cuts []cut) error {
	for _, m := range c.members {
		var from []string
		for _, one := range cuts {
			if one.to == m.number {
				from = append(from, c.address(one.from))
			}
		}
		slices.Sort(from)
		from = slices.Compact(from)
		if slices.Equal(from, m.deafTo) {
			continue
		}
		if err := deaf(m.space, from); err != nil {
			return err
		}
		m.deafTo = from
	}
	return nil
}

// worsen makes a replica's line delay, lose, reorder and duplicate what it
// sends; how says by which means, because not every kernel has netem.
func worsen(space string) (how string, err error) {
	netem := spacetest.Tool("", "ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem",
		"delay", "60ms", "40ms", "loss", "5%", "reorder", "20%", "duplicate", "3%")
	if netem == nil {
		return "netem", nil
	}
	// A slow class beside a fast one, and chance between them, delays and
	// reorders; chance drops; the duplicates go out on the same device.
	shape := [][]string{
		{"qdisc", "replace", "dev", "eth0", "root", "handle", "1:", "htb", "default", "1"},
		{"class", "replace", "dev", "eth0", "parent", "1:", "classid", "1:1", "htb", "rate", "200mbit"},
		{"class", "replace", "dev", "eth0", "parent", "1:", "classid", "1:2", "htb", "rate", "1mbit", "ceil", "1mbit"},
		{"qdisc", "replace", "dev", "eth0", "parent", "1:2", "handle", "2:", "pfifo", "limit", "200"},
	}
	for _, one := range shape {
		if err := spacetest.Tool("", "ip", append([]string{"netns", "exec", space, "tc"}, one...)...); err != nil {
			return "", err
		}
	}
	rules := `table ip line
delete table ip line
table ip line {
 chain out {
  type filter hook postrouting priority 0; policy accept;
  oifname != "eth0" accept
  numgen random mod 100 < 5 drop
  numgen random mod 100 < 20 meta priority set 1:2
 }
 chain twice {
  type filter hook output priority 0; policy accept;
  oifname "eth0" numgen random mod 100 < 3 dup to ip daddr device "eth0"
 }
}
`
	return "htb and nft", spacetest.Tool(rules, "ip", "netns", "exec", space, "nft", "-f", "-")
}

// mend takes the line's ills away.
func mend(space string) error {
	_ = spacetest.Tool("", "ip", "netns", "exec", space, "tc", "qdisc", "del", "dev", "eth0", "root") // none may be there
	return spacetest.Tool("table ip line\ndelete table ip line\n", "ip", "netns", "exec", space, "nft", "-f", "-")
}
