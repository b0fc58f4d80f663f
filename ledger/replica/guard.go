package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// guard stands between the network and Raft: what a leader sends is refused
// here before Raft sees it, on the heartbeat's fast path too. A refusal is an
// error answer, so Raft neither votes nor appends.
//
// It is a raft.Transport, with pre-votes and Close from the one inside.
type guard struct {
	*raft.NetworkTransport
	rules   []guardRule
	refused func(rule string)
	out     chan raft.RPC
	done    chan struct{}
}

// guardRule looks at one request and says why it is refused, or nil.
type guardRule struct {
	name  string
	check func(rpc *raft.RPC) error
}

func newGuard(inner *raft.NetworkTransport, refused func(rule string), rules ...guardRule) *guard {
	return &guard{NetworkTransport: inner, rules: rules, refused: refused,
		out: make(chan raft.RPC), done: make(chan struct{})}
}

// Consumer gives the requests that passed.
func (g *guard) Consumer() <-chan raft.RPC { return g.out }

// run passes requests on until stop is closed.
func (g *guard) run(stop <-chan struct{}) {
	for {
		select {
		case rpc := <-g.NetworkTransport.Consumer():
			if err := g.check(&rpc); err != nil {
				rpc.Respond(nil, err)
				continue
			}
			select {
			case g.out <- rpc:
			case <-stop:
				return
			}
		case <-stop:
			return
		}
	}
}

// SetHeartbeatHandler puts the guard before the fast path.
func (g *guard) SetHeartbeatHandler(handler func(rpc raft.RPC)) {
	if handler == nil {
		g.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	g.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if err := g.check(&rpc); err != nil {
			rpc.Respond(nil, err)
			return
		}
		handler(rpc)
	})
}

func (g *guard) check(rpc *raft.RPC) error {
	for _, rule := range g.rules {
		if err := rule.check(rpc); err != nil {
			g.refused(rule.name)
			return fmt.Errorf("refused by %s: %w", rule.name, err)
		}
	}
	return nil
}

// refuseWhen refuses everything while reason gives an error: a replica that
// halted, or has not asked its peers yet whether its data is old.
func refuseWhen(name string, reason func() error) guardRule {
	return guardRule{name, func(*raft.RPC) error { return reason() }}
}

// refuseStampsAhead refuses commands stamped further ahead of now than
// maxSkew allows, both in milliseconds.
func refuseStampsAhead(now, maxSkew func() uint64) guardRule {
	return guardRule{"stamp_ahead", func(rpc *raft.RPC) error {
		request, ok := rpc.Command.(*raft.AppendEntriesRequest)
		if !ok || len(request.Entries) == 0 {
			return nil
		}
		limit := now() + maxSkew()
		for _, entry := range request.Entries {
			if entry.Type != raft.LogCommand {
				continue
			}
			stamp, err := commandStamp(entry.Data)
			if err != nil {
				return fmt.Errorf("entry %d: %w", entry.Index, err)
			}
			if stamp > limit {
				return fmt.Errorf("entry %d is stamped %s ahead of our clock", entry.Index,
					time.Duration(stamp-now())*time.Millisecond)
			}
		}
		return nil
	}}
}

var errCommand = errors.New("not a command")

// commandStamp reads the stamp of an encoded command (FORMAT.md section 13)
// without reading its statements: `84 01 kind stamp …`.
func commandStamp(b []byte) (uint64, error) {
	if len(b) < 4 || b[0] != 0x84 || b[1] != 0x01 || b[2] > 23 {
		return 0, errCommand
	}
	head, rest := b[3], b[4:]
	if head < 24 {
		return uint64(head), nil
	}
	if head < 24 || head > 27 {
		return 0, errCommand
	}
	width := 1 << (head - 24)
	if len(rest) < width {
		return 0, errCommand
	}
	var wide [8]byte
	copy(wide[8-width:], rest[:width])
	return binary.BigEndian.Uint64(wide[:]), nil
}
