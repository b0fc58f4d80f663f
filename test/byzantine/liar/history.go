package main

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/ledger"
)

// history gives ?to= a false past: entries that are not the ledger's to whoever
// fills a gap, and authority links without end. With ?starve=1 it also sends that
// replica nothing of Raft's log.
func history(l *liar, q url.Values) (*lie, error) {
	victim, starve := q.Get("to"), q.Get("starve") != ""
	told := &lie{service: func(w http.ResponseWriter, q *http.Request, from string) bool {
		if from != victim && from != "" { // under a new key it has no name here
			return false
		}
		switch q.URL.Path {
		case pathEntries:
			l.did("gave %s entries that are not the ledger's", victim)
			l.falseEntries(w, q)
		case pathAuthority:
			sent := pour(w, q)
			word := "cut off"
			if sent > maxTaken {
				word = "taken"
			}
			l.did("gave %s an authority link without end, which was %s", victim, word)
		default:
			return false
		}
		return true
	}}
	if starve {
		told.starved = victim
	}
	return told, nil
}

// falseEntries answers as an honest replica does, with the time of each entry
// moved.
func (l *liar) falseEntries(w http.ResponseWriter, q *http.Request) {
	from, _ := strconv.ParseUint(q.FormValue("from"), 10, 64)
	count, _ := strconv.ParseUint(q.FormValue("count"), 10, 64)
	a := l.replica.Archive()
	_ = a.Entries(from, min(from+count, a.Size()), func(_ uint64, raw []byte) error {
		e, err := ledger.ParseEntry(raw)
		if err != nil {
			return err
		}
		e.Stamp++
		if raw, err = e.Encode(); err != nil {
			return err
		}
		_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
		return err
	})
}

// starves says whether a replica is sent nothing of Raft's log.
func (t *transport) starves(id raft.ServerID) bool {
	victim := t.liar.lie.Load().starved
	return victim != "" && t.liar.names[string(id)] == victim
}
