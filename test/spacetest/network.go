package spacetest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// The network: a bridge in the run's own namespace, and for each place a
// namespace with one end of a veth pair whose other end hangs on the bridge.
// Nothing leads out.

const (
	bridge = "hub"
	// HubAddress is where the run's own namespace is reached.
	HubAddress = "10.77.0.254"
	prefixBits = 16
)

// Tool runs a tool of the system with input.
func Tool(input string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// Hub makes the bridge.
func Hub() error {
	return Tool(strings.Join([]string{
		"link set lo up",
		"link add " + bridge + " type bridge",
		"addr add " + HubAddress + "/" + strconv.Itoa(prefixBits) + " dev " + bridge,
		"link set " + bridge + " up",
	}, "\n"), "ip", "-batch", "-")
}

// Plug makes a namespace with an address of 10.77.0.0/16, and hangs it on the
// bridge.
func Plug(space, address string) error {
	host := hostEnd(space)
	return Tool(strings.Join([]string{
		"netns add " + space,
		"link add " + host + " type veth peer name eth0 netns " + space,
		"link set " + host + " master " + bridge,
		"link set " + host + " up",
		"-n " + space + " addr add " + address + "/" + strconv.Itoa(prefixBits) + " dev eth0",
		"-n " + space + " link set lo up",
		"-n " + space + " link set eth0 up",
	}, "\n")+"\n", "sh", "-c", `while read -r line; do ip $line || exit 1; done`)
}

// Unplug removes it with everything in it.
func Unplug(space string) error {
	return errors.Join(Tool("", "ip", "link", "del", hostEnd(space)), Tool("", "ip", "netns", "del", space))
}

// hostEnd is the end of a place's veth pair that hangs on the bridge.
func hostEnd(space string) string { return "v-" + space }
