package api

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// The life of keys, as the state's records tell it.

type idInput struct {
	ReadInput
	ID string `path:"id" pattern:"^[0-9a-f]{64}$" doc:"64 lower-case hex digits"`
}

type prefixInput struct {
	ReadInput
	Prefix string `query:"prefix" required:"true" pattern:"^[0-9a-f]{8,64}$" doc:"The first 8 or more hex digits of key ids"`
}

type backupsInput struct {
	PageInput
	Role     string `query:"role" enum:"governor,node,recovery" doc:"Only of keys of this role"`
	Standing string `query:"standing" enum:"covered,untested,missing" doc:"Only of this standing"`
}

func (s *Server) keyRoutes(h huma.API) {
	registerRead(s, h, "get-key", "/v1/keys/{id}", "A key by its id: who holds it, how it came and ended, in which epochs it speaks, its backup",
		func(_ context.Context, v *View, in *idInput) (*client.Key, error) {
			id, err := ledger.ParseHash(in.ID)
			if err != nil {
				return nil, badParameter("path.id", "%v", err)
			}
			k, ok := presentKey(v.State, id)
			if !ok {
				return nil, notFound("no key with the id %s had a role on this ledger", id)
			}
			return &k, nil
		})
	registerRead(s, h, "list-keys", "/v1/keys", "The keys whose ids begin with some digits, at most 16",
		func(_ context.Context, v *View, in *prefixInput) (*client.KeyList, error) {
			out := &client.KeyList{Keys: []client.Key{}}
			v.State.Walk("key/"+in.Prefix, func(key string, _ []byte) bool {
				id, err := ledger.ParseHash(strings.TrimPrefix(key, "key/"))
				if err != nil {
					return true
				}
				if k, ok := presentKey(v.State, id); ok {
					out.Keys = append(out.Keys, k)
				}
				return len(out.Keys) < maxPrefixKeys
			})
			return out, nil
		})
	registerRead(s, h, "list-holder-keys", "/v1/holders/{name}/keys", "The keys that a name has and had, newest first, as far as each names the one before it",
		func(_ context.Context, v *View, in *nameInput) (*client.KeyList, error) {
			return holderKeys(v.State, in.Name)
		})
	registerRead(s, h, "list-backups", "/v1/backups", "The last backup of each key that has one, by key id",
		func(_ context.Context, v *View, in *backupsInput) (*client.Backups, error) { return s.backups(v, in) })
	registerRead(s, h, "list-alarms", "/v1/alarms", "What the ledger itself warns of, by kind",
		func(_ context.Context, v *View, _ *ReadInput) (*client.Alarms, error) {
			out := &client.Alarms{Alarms: []client.Alarm{}}
			alarms := v.State.Alarms()
			for _, kind := range slices.Sorted(maps.Keys(alarms)) {
				a := alarms[kind]
				out.Alarms = append(out.Alarms, client.Alarm{Kind: kind, Count: a.Count, Names: orEmpty(a.Names), Since: a.Since, Seq: a.Seq})
			}
			return out, nil
		})
}

// presentKey tells a key's life.
func presentKey(state *fsm.State, id ledger.Hash) (client.Key, bool) {
	record, ok := state.Key(id)
	if !ok {
		return client.Key{}, false
	}
	policy := state.Policy()
	facts := &client.KeyFacts{ID: id, Record: &record, Epoch: state.Epoch(), Policy: &policy}
	facts.Operator, facts.Current, facts.Node = keyHolder(state, &record)
	if b, ok := state.Backup(id); ok {
		told := presentBackup(state, &b)
		facts.Backup = &told
	}
	return client.TellKey(facts), true
}

// keyHolder finds the holder of a key on the ledger.
func keyHolder(state *fsm.State, k *fsm.KeyRecord) (operator string, current *ledger.Hash, node *fsm.NodeRecord) {
	switch k.Role {
	case fsm.RoleNode:
		if n, ok := state.Node(k.Holder); ok {
			return n.Operator, &n.Key, &n
		}
	case fsm.RoleGovernor:
		if g, ok := state.Governor(k.Holder); ok {
			id := g.KeyID()
			return g.Operator, &id, nil
		}
	case fsm.RoleReplica:
		if r, ok := state.Replica(k.Holder); ok {
			id := r.KeyID()
			return r.Operator, &id, nil
		}
	case fsm.RoleRecovery:
		if recovery := state.Recovery(); recovery != nil {
			for _, holder := range recovery.Holders {
				if holder.Name == k.Holder {
					id := holder.KeyID()
					return "", &id, nil
				}
			}
		}
	}
	return "", nil, nil
}

// holderKeys walks back from the keys that a name has now.
func holderKeys(state *fsm.State, name string) (*client.KeyList, error) {
	var newest []ledger.Hash
	if n, ok := state.Node(name); ok {
		if n.Next != nil {
			newest = append(newest, n.Next.Key)
		} else {
			newest = append(newest, n.Key)
		}
	}
	for _, role := range []string{fsm.RoleGovernor, fsm.RoleReplica, fsm.RoleRecovery} {
		if _, id, _ := keyHolder(state, &fsm.KeyRecord{Holder: name, Role: role}); id != nil {
			newest = append(newest, *id)
		}
	}
	if len(newest) == 0 {
		return nil, notFound("nobody of that name holds a key now; /v1/keys/{id} tells of a key of the past")
	}
	out := &client.KeyList{Keys: []client.Key{}}
	for _, id := range newest {
		for range maxHolderKeys {
			k, ok := presentKey(state, id)
			if !ok {
				break
			}
			out.Keys = append(out.Keys, k)
			record, _ := state.Key(id)
			if record.Previous == nil {
				break
			}
			id = *record.Previous
		}
	}
	slices.SortStableFunc(out.Keys, func(x, y client.Key) int { return cmp.Compare(y.Since, x.Since) })
	return out, nil
}

func presentBackup(state *fsm.State, b *fsm.BackupRecord) client.Backup {
	policy := state.Policy()
	facts := &client.BackupFacts{Key: b.Key, Record: b, Council: state.Council(), Epoch: state.Epoch(), Policy: &policy}
	facts.Former = func(yield func(*fsm.BackupRecord) bool) {
		id := b.Key
		for range client.MaxFormerBackups {
			k, ok := state.Key(id)
			if !ok || k.Previous == nil {
				return
			}
			id = *k.Previous
			if former, ok := state.Backup(id); ok && !yield(&former) {
				return
			}
		}
	}
	return client.TellBackup(facts)
}

// backups gives a page. A filter looks at a bounded stretch of the table a page,
// so a page can be short and have a next one.
func (s *Server) backups(v *View, in *backupsInput) (*client.Backups, error) {
	after, err := cursorHash("backups", in.Cursor)
	if err != nil {
		return nil, err
	}
	limit := s.page(in.Limit)
	out := &client.Backups{Backups: []client.Backup{}}
	records := v.State.Backups(after, backupScan+1)
	for i := range records {
		b := &records[i]
		if i == backupScan || len(out.Backups) == limit {
			out.Next = encodeCursor("backups", records[i-1].Key.String())
			break
		}
		if in.Role != "" && b.Role != in.Role {
			continue
		}
		if told := presentBackup(v.State, b); in.Standing == "" || told.Standing == in.Standing {
			out.Backups = append(out.Backups, told)
		}
	}
	return out, nil
}
