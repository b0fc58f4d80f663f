package nodetest

import (
	"fmt"

	"github.com/quorate/quorate/ledger"
)

// ContentOf is what an observation says, whichever statement carries it: an agent may have
// to sign it anew, under another epoch, seq and counter.
func ContentOf(author string, o ledger.Observe) string {
	return fmt.Sprintf("%s %s %s %d-%d", author, o.Kind, o.Subject, o.From, o.To)
}

// Seen is a line of what an observer saw, in JSON. At is nanoseconds since 1970.
type Seen struct {
	At      int64  `json:"at"`
	Channel string `json:"channel,omitempty"`
	Verdict string `json:"verdict,omitempty"`
	Author  string `json:"author,omitempty"`
	Type    string `json:"type,omitempty"`
	ID      string `json:"id,omitempty"`
	From    string `json:"from,omitempty"` // hex of the hop's peer key
	Dropped string `json:"dropped,omitempty"`
	As      string `json:"as,omitempty"`

	// Of an order that was carried out.
	Published int64   `json:"published,omitempty"` // when it was begun, beside ID
	Epoch     uint64  `json:"epoch,omitempty"`     // of what the agent said itself, beside Published, ID, Author and Seq
	Seq       *uint64 `json:"seq,omitempty"`
	Content   string  `json:"content,omitempty"` // of an observation: ContentOf
	Unsaid    string  `json:"unsaid,omitempty"`  // why it said nothing
	Judged    *Judged `json:"judged,omitempty"`
}

// Judged is how fast an agent judged statements: nothing but its judge ran.
type Judged struct {
	Accepted int   `json:"accepted"`
	Nanos    int64 `json:"nanos"`
	CPUNanos int64 `json:"cpu_nanos"` // of the whole process
}

// Order is a line that an observer takes on its standard input, in JSON.
type Order struct {
	LinkUp  string `json:"link_up,omitempty"` // a node of which the agent is to say, under its own key, that the link to it is up
	Publish []byte `json:"publish,omitempty"` // an envelope to gossip as if the node had signed it
	Judge   string `json:"judge,omitempty"`   // a file with a JSON list of envelopes, to be judged as if they had come by gossip
}
