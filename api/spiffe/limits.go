package spiffe

import "time"

const (
	// ServerWait is how long a server waits for its first SVID: the agent may
	// be starting beside it, and syncs every 5 s.
	ServerWait = 30 * time.Second
	// ClientWait is the same for a command that somebody waits for.
	ClientWait = 5 * time.Second
	// causeWait bounds the question why no SVID came.
	causeWait = time.Second

	maxNameBytes = 2048 // of a SPIFFE id (SPIFFE-ID section 2.3)
)
