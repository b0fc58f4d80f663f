package api

import "time"

// Bounds that no configuration changes.
const (
	entryScan        = 4_096   // entries that one page of a filtered list looks at
	epochScan        = 16_384  // entries that one page of past epochs looks at
	historyScan      = 16_384  // entries that one page of a node's history looks at
	backupScan       = 1_024   // backups that one page of a filtered list looks at
	maxHolderKeys    = 256     // of one role that one holder's list has
	maxPrefixKeys    = 16      // that begin alike
	pageBytes        = 4 << 20 // of entries in one page
	watchBatch       = 256     // entries that a watch reads at once
	watchFrames      = 256     // encoded events kept for all watchers
	maxFilterTypes   = 16
	plainBytes       = 64 << 10 // of a submission that is read into one piece
	maxOperatorBytes = 4 << 10  // of a request on the local socket
	maxScrapes       = 4        // of /metrics at once

	scrapeTimeout   = time.Second // of the state behind a metric
	exportGrace     = time.Minute // a long answer may take so long
	exportPerSecond = 64 << 10    // and besides a second for so many bytes
)

// Limits are the bounds of the API. A zero field has its default.
type Limits struct {
	BodyBytes         int64         // of a submission
	SimulateBytes     int64         // of a simulation
	HeaderBytes       int           // of a request's header
	Connections       int           // open at once
	PerAddress        int           // of them, of one address
	InFlight          int           // requests served at once, but those that wait
	Writes            int           // submissions in progress at once
	Waiting           int           // blocking reads and watches at once
	WaitingPerAddress int           // of them, of one address
	Costly            int           // receipts, simulations and walks over the history at once
	Exports           int           // at once; of one address one
	States            int           // whole states sent at once; of one address half of them
	RatePerSecond     float64       // requests of one address
	RateBurst         int           // of one address
	Addresses         int           // remembered for rates
	Wait              time.Duration // the longest blocking read
	Heartbeat         time.Duration // of a watch
	WriteTimeout      time.Duration // of one piece of an answer
	ReadTimeout       time.Duration // of a request with its body
	HeaderTimeout     time.Duration
	IdleTimeout       time.Duration
	SubmitTimeout     time.Duration // the longest that a submission waits
	ViewTimeout       time.Duration // the longest that a read waits for its state
	ShutdownTimeout   time.Duration
	PageDefault, Page int           // of lists
	RetryAfter        time.Duration // what 429 and 503 say, when nobody knows better
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if l.BodyBytes == 0 {
		l.BodyBytes = d.BodyBytes
	}
	if l.SimulateBytes == 0 {
		l.SimulateBytes = d.SimulateBytes
	}
	if l.RatePerSecond == 0 {
		l.RatePerSecond = d.RatePerSecond
	}
	orInt(&l.HeaderBytes, d.HeaderBytes)
	orInt(&l.Connections, d.Connections)
	orInt(&l.PerAddress, d.PerAddress)
	orInt(&l.InFlight, d.InFlight)
	orInt(&l.Writes, d.Writes)
	orInt(&l.Waiting, d.Waiting)
	orInt(&l.WaitingPerAddress, d.WaitingPerAddress)
	orInt(&l.Costly, d.Costly)
	orInt(&l.Exports, d.Exports)
	orInt(&l.States, d.States)
	orInt(&l.RateBurst, d.RateBurst)
	orInt(&l.Addresses, d.Addresses)
	orInt(&l.PageDefault, d.PageDefault)
	orInt(&l.Page, d.Page)
	orTime(&l.Wait, d.Wait)
	orTime(&l.Heartbeat, d.Heartbeat)
	orTime(&l.WriteTimeout, d.WriteTimeout)
	orTime(&l.ReadTimeout, d.ReadTimeout)
	orTime(&l.HeaderTimeout, d.HeaderTimeout)
	orTime(&l.IdleTimeout, d.IdleTimeout)
	orTime(&l.SubmitTimeout, d.SubmitTimeout)
	orTime(&l.ViewTimeout, d.ViewTimeout)
	orTime(&l.ShutdownTimeout, d.ShutdownTimeout)
	orTime(&l.RetryAfter, d.RetryAfter)
	return l
}

// DefaultLimits are the bounds of a replica that serves a fleet of some
// thousand nodes. A bundle of 300 joins and their proposal is about 1.9 MB.
func DefaultLimits() Limits {
	return Limits{
		BodyBytes:         4 << 20,
		SimulateBytes:     64 << 10,
		HeaderBytes:       16 << 10,
		Connections:       4_096,
		PerAddress:        1_024,
		InFlight:          512,
		Writes:            256,
		Waiting:           2_048,
		WaitingPerAddress: 512,
		Costly:            8,
		Exports:           2,
		States:            8,
		RatePerSecond:     500,
		RateBurst:         2_000,
		Addresses:         16_384,
		Wait:              55 * time.Second,
		Heartbeat:         15 * time.Second,
		WriteTimeout:      30 * time.Second,
		ReadTimeout:       30 * time.Second,
		HeaderTimeout:     10 * time.Second,
		IdleTimeout:       120 * time.Second,
		SubmitTimeout:     30 * time.Second,
		ViewTimeout:       5 * time.Second,
		ShutdownTimeout:   10 * time.Second,
		PageDefault:       100,
		Page:              500,
		RetryAfter:        time.Second,
	}
}
