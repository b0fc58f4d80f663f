package main

import (
	"net/url"
	"time"

	"github.com/quorate/quorate/ledger"
)

// lies are told until another one is, or none.
var lies = map[string]makeLie{
	"stamps":      stamps,
	"history":     history,
	"sealless":    sealless,
	"withheld":    withheld,
	"twofaced":    twofaced,
	"fork":        fork,
	"reconfigure": reconfigure,
	"censor":      censor,
	"silent":      silent,
	"endless":     endless,
	"flood":       flood,
	"rollback":    rollback,
	"frozen":      frozen,
	"forged":      forged,
	"tampered":    tampered,
	"watch":       forgedWatch,
	"publicly":    publicly,
	"disrupt":     disrupt,
	"claim":       claim,
}

// stamps moves the time of every command that the liar orders as leader by
// ?by=, a duration that may be negative.
func stamps(l *liar, q url.Values) (*lie, error) {
	by, err := time.ParseDuration(q.Get("by"))
	if err != nil {
		return nil, err
	}
	return &lie{order: func(c *ledger.Command) {
		c.Stamp = uint64(int64(c.Stamp) + by.Milliseconds())
		l.did("stamped a command by %s", by)
	}}, nil
}

// sealless orders no seal, so that nothing is ever certified.
func sealless(l *liar, _ url.Values) (*lie, error) {
	return &lie{order: func(c *ledger.Command) {
		if c.Kind == ledger.CommandSeal {
			c.Kind = ledger.CommandTick
			l.did("ordered a tick in the place of a seal")
		}
	}}, nil
}
