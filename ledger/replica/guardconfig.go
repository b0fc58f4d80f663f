package replica

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// configures says whether a request brings entries that change the
// configuration.
func configures(command any) bool {
	request, ok := command.(*raft.AppendEntriesRequest)
	if !ok {
		return false
	}
	for _, entry := range request.Entries {
		if entry.Type == raft.LogConfiguration {
			return true
		}
	}
	return false
}

// decodeConfiguration is raft.DecodeConfiguration without its panic, and checks
// what can be without knowing the ledger: servers with distinct ids and
// addresses, each with a vote or without, and one at least with.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decode configuration: %v", p)
		}
	}()
	c = raft.DecodeConfiguration(b)
	ids, addresses, voters := map[raft.ServerID]bool{}, map[raft.ServerAddress]bool{}, 0
	for _, s := range c.Servers {
		if s.ID == "" || s.Address == "" || ids[s.ID] || addresses[s.Address] {
			return c, fmt.Errorf("configuration: server %.64q at %.64q is without name, or twice there", s.ID, s.Address)
		}
		ids[s.ID], addresses[s.Address] = true, true
		switch s.Suffrage {
		case raft.Voter:
			voters++
		case raft.Nonvoter:
		default:
			return c, fmt.Errorf("configuration: suffrage %d", s.Suffrage)
		}
	}
	if voters == 0 {
		return c, errors.New("configuration: nobody has a vote")
	}
	return c, nil
}
