// Package nodetest makes nodes and runs their agents as processes, for the
// programs of tests that stage or measure a fleet: keys, joins, configurations,
// and the lines in which an observer says what its agent saw.
package nodetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// Node is the holder of a node's legitimate keys.
type Node struct {
	Name, Operator string
	Key            *keys.PrivateKey
	Peer           ed25519.PrivateKey
}

// New makes a node with new keys.
func New(name, operator string) (*Node, error) {
	key, err := keys.Generate()
	if err != nil {
		return nil, fmt.Errorf("make keys of %s: %w", name, err)
	}
	return &Node{Name: name, Operator: operator, Key: key, Peer: key.PeerKey()}, nil
}

// Public is its peer key, 32 bytes.
func (n *Node) Public() ed25519.PublicKey { return n.Peer.Public().(ed25519.PublicKey) }

// Join is its request to be admitted, good for an hour.
func (n *Node) Join(genesis ledger.Hash) ([]byte, error) {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	p := ledger.Payload{Author: n.Name, Ledger: genesis, Type: ledger.TypeJoin, Nonce: nonce, Expires: uint64(time.Now().Add(time.Hour).UnixMilli())}
	return ledger.Sign(n.Key, p, ledger.Join{Name: n.Name, Operator: n.Operator, Peer: n.Public(), Public: n.Key.Public().Bytes()})
}

// AgentFiles says what an agent's folder is made of.
type AgentFiles struct {
	Dir     string // of the agent; made
	Genesis ledger.Hash
	Servers []string      // base URLs of replicas
	Pins    []ledger.Hash // of their TLS keys; none: http, or a certificate that the machine trusts
	Listen  string        // host:port of gossip
	Peers   []string      // name@host:port; the node's own is left out

	HeadAge  time.Duration // max_head_age; 0: as the policy has it
	JoinPack string        // a file in Dir; "": none
}

// Write writes the files of a node's agent, whose key has signed nothing yet but
// its join, and gives the configuration's path. The agent's socket is
// DIR/agent.sock.
func (f *AgentFiles) Write(n *Node) (string, error) {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return "", err
	}
	if err := keys.WriteInsecureFile(filepath.Join(f.Dir, "node.key"), &keys.File{
		Name: n.Name, Role: fsm.RoleNode, Operator: n.Operator, Created: time.Now().UnixMilli(), Key: n.Key}); err != nil {
		return "", err
	}
	if err := agent.Prepare(filepath.Join(f.Dir, "state"), filepath.Join(f.Dir, "memory"), n.Key); err != nil {
		return "", err
	}
	return f.Configure(n)
}

// Configure writes the configuration alone, and gives its path.
func (f *AgentFiles) Configure(n *Node) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\ndir: state\nmemory_dir: memory\nkey_file: node.key\ngenesis: %s\n", n.Name, f.Genesis)
	if f.JoinPack != "" {
		fmt.Fprintf(&b, "join_pack: %s\n", f.JoinPack)
	}
	if f.HeadAge > 0 {
		fmt.Fprintf(&b, "max_head_age: %s\n", f.HeadAge)
	}
	fmt.Fprintf(&b, "api:\n  servers:\n")
	for _, url := range f.Servers {
		fmt.Fprintf(&b, "    - %s\n", url)
	}
	if len(f.Pins) > 0 {
		fmt.Fprintf(&b, "  pins:\n")
	}
	for _, pin := range f.Pins {
		fmt.Fprintf(&b, "    - %s\n", pin)
	}
	fmt.Fprintf(&b, "gossip:\n  listen: %s\n  peers:\n", f.Listen)
	for _, p := range f.Peers {
		if !strings.HasPrefix(p, n.Name+"@") {
			fmt.Fprintf(&b, "    - %s\n", p)
		}
	}
	fmt.Fprintf(&b, "local:\n  socket: agent.sock\n")
	path := filepath.Join(f.Dir, "agent.yaml")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}
