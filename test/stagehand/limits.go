package stagehand

import "time"

// Bounds of a scene.
const (
	// Patience is for what must happen.
	Patience = 30 * time.Second

	pollPace     = 50 * time.Millisecond
	requestLimit = 10 * time.Second
	lookLimit    = 5 * time.Second // at a process's own word
	commandLimit = 90 * time.Second
	maxAnswer    = 16 << 20
)
