package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// The network: a bridge in the run's own namespace, and for each replica a
// namespace with one end of a veth pair whose other end hangs on the bridge.
// Clients live at the bridge, so a partition among replicas leaves every
// replica reachable for its clients. Nothing leads out.

const (
	bridge     = "hub"
	hubAddress = "10.77.0.254"
	prefixBits = 16
)

// address is the member's own. Each cluster of a run has addresses of its own:
// the kernel takes a network down in its own time.
func (c *cluster) address(number int) string { return fmt.Sprintf("10.77.%d.%d", c.number, number) }

// tool runs a tool of the system with input.
func tool(input string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// makeHub makes the bridge.
func makeHub() error {
	return tool(strings.Join([]string{
		"link set lo up",
		"link add " + bridge + " type bridge",
		"addr add " + hubAddress + "/" + strconv.Itoa(prefixBits) + " dev " + bridge,
		"link set " + bridge + " up",
	}, "\n"), "ip", "-batch", "-")
}

// plug makes the namespace of a replica and hangs it on the bridge.
func plug(space, address string) error {
	host := hostEnd(space)
	return tool(strings.Join([]string{
		"netns add " + space,
		"link add " + host + " type veth peer name eth0 netns " + space,
		"link set " + host + " master " + bridge,
		"link set " + host + " up",
		"-n " + space + " addr add " + address + "/" + strconv.Itoa(prefixBits) + " dev eth0",
		"-n " + space + " link set lo up",
		"-n " + space + " link set eth0 up",
	}, "\n")+"\n", "sh", "-c", `while read -r line; do ip $line || exit 1; done`)
}

// unplug removes it with everything in it.
func unplug(space string) error {
	return errors.Join(tool("", "ip", "link", "del", hostEnd(space)), tool("", "ip", "netns", "del", space))
}

// hostEnd is the end of a replica's veth pair that hangs on the bridge.
func hostEnd(space string) string { return "v-" + space }

// deaf makes a replica hear nothing from these addresses; nil: it hears all.
func deaf(space string, from []string) error {
	rules := "table inet chaos\ndelete table inet chaos\n"
	if len(from) > 0 {
		rules += "table inet chaos {\n chain in {\n  type filter hook input priority 0; policy accept;\n  ip saddr { " +
			strings.Join(from, ", ") + " } drop\n }\n}\n"
	}
	return tool(rules, "ip", "netns", "exec", space, "nft", "-f", "-")
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
	netem := tool("", "ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem",
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
		if err := tool("", "ip", append([]string{"netns", "exec", space, "tc"}, one...)...); err != nil {
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
	return "htb and nft", tool(rules, "ip", "netns", "exec", space, "nft", "-f", "-")
}

// mend takes the line's ills away.
func mend(space string) error {
	_ = tool("", "ip", "netns", "exec", space, "tc", "qdisc", "del", "dev", "eth0", "root") // none may be there
	return tool("table ip line\ndelete table ip line\n", "ip", "netns", "exec", space, "nft", "-f", "-")
}
