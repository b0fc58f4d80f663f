package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// agentConfig writes an agent's configuration, with a comment for each key, and reads
// it back as the agent would.
func (a *app) agentConfig(name string, genesis ledger.Hash, f *agentInitFlags) ([]byte, error) {
	t := &agentTemplate{name: name, flags: f}
	t.keys()
	t.trust(genesis)
	t.replicas(a.servers(&f.server))
	t.gossip()
	t.outside()
	if t.err != nil {
		return nil, t.err
	}
	data := []byte(t.text.String())
	if _, err := agent.ParseConfig(name+".yaml", data); err != nil {
		var wrong *agent.ConfigError
		if errors.As(err, &wrong) {
			return nil, usage("check the flags", "%s", wrong.Problem)
		}
		return nil, err
	}
	return data, nil
}

// agentTemplate is a configuration that is being written. An option that is not set is
// commented out, with what it would say.
type agentTemplate struct {
	text  strings.Builder
	name  string
	flags *agentInitFlags
	err   error
}

func (t *agentTemplate) line(format string, args ...any) { fmt.Fprintf(&t.text, format+"\n", args...) }

// list writes a list of a section.
func (t *agentTemplate) list(key, what string, values []string) {
	t.line("  # %s", what)
	if len(values) == 0 {
		t.line("  %s: []", key)
		return
	}
	t.line("  %s:", key)
	for _, v := range values {
		t.line("    - %q", v)
	}
}

// absolute is where a file is that a flag names, for an agent that starts elsewhere.
func (t *agentTemplate) absolute(what, path string) string {
	whole, err := filepath.Abs(path)
	if err != nil && t.err == nil {
		t.err = fmt.Errorf("name %s: %w", what, err)
	}
	return whole
}

// state is the path of a file in the agent's own folder.
func (t *agentTemplate) state(file string) string { return filepath.Join(t.name+".state", file) }

// keys writes who the agent is, and what becomes of its key.
func (t *agentTemplate) keys() {
	t.line("# The agent of %s: quorate agent --config THIS FILE. Paths are relative to it; an\n# unknown key is an error.", t.name)
	t.line("name: %s", t.name)
	t.line("dir: %s            # its own state; made if it is missing", t.name+".state")
	t.line("# memory_dir: /run/user/1000/quorate   # in memory, emptied by a boot, kept over restarts; it finds one itself")
	t.line("key_file: %s", t.name+".key")
	if t.flags.passphraseFile == "" {
		t.line("# passphrase_file: %s.pass   # of key_file; without it, it is asked for", t.name)
	} else {
		t.line("passphrase_file: %q   # without it, it is asked for", t.absolute("passphrase file", t.flags.passphraseFile))
	}
	t.line("# key_work_factor: %d   # log2 of scrypt's cost for the key files that it makes: 18 takes 256 MiB and a second", keys.DefaultWorkFactor)
	t.line("# Before its key ends the agent makes another and announces it. off: people do it, by decision (node.rekey).")
	t.line("rotation:\n  off: false")
	t.line("# Each key that it makes is backed up, for governors to open together: quorate key restore.")
	t.line("backup:\n  off: false\n  threshold: 0        # shares that open one; 0: more than half of them")
	t.line("  # copy: /mnt/backups   # a second folder, on another disk: a backup beside the key is lost with it")
}

// trust writes from which ledger, and from which head of it, the agent starts.
func (t *agentTemplate) trust(genesis ledger.Hash) {
	if t.flags.joinPack != "" {
		t.line("# What it trusts: the genesis hash; and a recent head that governors endorsed, which the\n# ledger must contain.")
		t.line("genesis: %s", genesis)
		t.line("join_pack: %q", t.absolute("join pack", t.flags.joinPack))
	} else {
		t.line("# What it trusts: the genesis hash. A join pack holds a recent head too, so that nobody\n# shows a new agent an old ledger.")
		t.line("genesis: %s", genesis)
		t.line("# join_pack: fleet.pack")
	}
	t.line("# max_pack_age: 744h0m0s   # of a join pack's endorsement, at the first start")
	t.line("# max_head_age: 2m0s   # of the newest head, before it says that it is cut off; as the ledger's policy has it")
}

// replicas writes whom the agent follows, and by which certificates it knows them.
func (t *agentTemplate) replicas(servers []string) {
	t.line("api:")
	t.list("servers", "The replicas that it follows. Without one it lives from what its peers pass on.", servers)
	if t.flags.server.caFile != "" {
		t.line("  ca_file: %q", t.absolute("CA file", t.flags.server.caFile))
	} else {
		t.line("  # ca_file: ca.pem   # of the replicas' certificates; the system's, if there are no pins either")
	}
	t.list("pins", "SHA-256 of the replicas' TLS keys, hex, instead of CA certificates.", t.flags.server.pins)
}

// gossip writes whom the agent meets.
func (t *agentTemplate) gossip() {
	t.line("gossip:")
	t.line("  listen: %q        # where other agents reach it", t.flags.listen)
	t.list("peers", "Agents to meet first, name@host:port; it learns of others from them.", t.flags.peers)
	t.list("links", "Nodes at the far end of links that it is to observe.", nil)
}

// outside writes how the agent's machine hears of what it enforces.
func (t *agentTemplate) outside() {
	t.line("# Other programs of this machine ask here: GET /v1/status, /v1/epoch, /v1/keys,\n# /v1/quarantine, /v1/nodes/NAME, /metrics.")
	t.line("local:")
	if t.flags.local != "" {
		t.line("  listen: %q", t.flags.local)
		t.line("  # socket: %s   # a unix socket, instead or too", t.state("agent.sock"))
	} else {
		t.line("  socket: %s", t.state("agent.sock"))
		t.line("  # listen: 127.0.0.1:7600   # on loopback, instead or too")
	}
	t.line("# When what it enforces changes, it replaces this file and runs this command.")
	t.line("publish:")
	t.line("  file: %s", t.state("enforced.json"))
	t.line("  hook: []            # such as [\"/usr/local/bin/reload\"]")
	t.line("  # hook_time: 10s    # that the command may take")
	t.line("log:")
	t.line("  level: info         # debug, info, warn or error")
	t.line("  format: text        # or json")
}
