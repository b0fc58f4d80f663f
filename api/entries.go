package api

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

type entriesInput struct {
	ReadInput
	From  uint64 `query:"from" doc:"First seq"`
	Limit int    `query:"limit" minimum:"1" maximum:"256" doc:"Entries of a page"`
	Kinds string `query:"kinds" maxLength:"64" doc:"Only these kinds, comma-separated: genesis, statement, effect, seal"`
	Types string `query:"types" maxLength:"256" doc:"Only statements and effects of these types, comma-separated"`
}

type seqInput struct {
	ReadInput
	Seq  uint64 `path:"seq"`
	Size uint64 `query:"size" doc:"Of the tree that the proof is for; 0: the newest certified one"`
}

func (s *Server) entryRoutes(h huma.API) {
	registerRead(s, h, "list-entries", "/v1/entries", "The ledger's entries, by seq",
		func(_ context.Context, v *View, in *entriesInput) (*client.Entries, error) { return s.entries(v, in) })
	registerRead(s, h, "get-entry", "/v1/entries/{seq}", "One entry with its inclusion proof under a certified head",
		func(_ context.Context, v *View, in *seqInput) (*client.Entry, error) {
			if in.Seq >= v.Size {
				return nil, notFound("entry %d is not on the ledger yet, which has %d entries at this consistency", in.Seq, v.Size)
			}
			raw, err := s.backend.Archive().Entry(in.Seq)
			if err != nil {
				return nil, err
			}
			e, err := client.DecodeEntry(raw)
			if err != nil {
				return nil, err
			}
			if _, certified := s.backend.Checkpoint(); in.Seq < certified {
				if e.Proof, err = s.inclusion(in.Seq, in.Size); err != nil {
					return nil, err
				}
			}
			return &e, nil
		})
	registerRead(s, h, "list-epochs", "/v1/epochs", "Past epochs, newest first, from the history",
		func(_ context.Context, v *View, in *PageInput) (*client.Epochs, error) { return s.epochs(v, in) })
}

// filter says which entries a reader wants.
type filter struct{ kinds, types []string }

var entryKinds = []string{"genesis", "statement", "effect", "seal"}

func newFilter(kinds, types string) (filter, error) {
	f := filter{kinds: splitList(kinds), types: splitList(types)}
	for _, k := range f.kinds {
		if !slices.Contains(entryKinds, k) {
			return f, badParameter("query.kinds", "want some of %s", strings.Join(entryKinds, ", "))
		}
	}
	if len(f.types) > maxFilterTypes {
		return f, badParameter("query.types", "at most %d types", maxFilterTypes)
	}
	for _, typ := range f.types {
		// A watch for a type that does not exist would wait for ever.
		if _, statement := ledger.ReplayForm(typ); !statement && !fsm.KnownEffect(typ) {
			return f, badParameter("query.types", "no statement or effect is of type %q", typ)
		}
	}
	return f, nil
}

func splitList(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func (f filter) takes(kind, typ string) bool {
	return (len(f.kinds) == 0 || slices.Contains(f.kinds, kind)) &&
		(len(f.types) == 0 || slices.Contains(f.types, typ))
}

// errEnough ends a walk over the archive.
var errEnough = errors.New("enough")

// entries gives a page. It looks at no more than entryScan entries and no more
// than pageBytes of them, so a page can be short, even empty, and still have a
// next one.
func (s *Server) entries(v *View, in *entriesInput) (*client.Entries, error) {
	f, err := newFilter(in.Kinds, in.Types)
	if err != nil {
		return nil, err
	}
	limit := in.Limit
	if limit == 0 {
		limit = s.page(0)
	}
	out := &client.Entries{Entries: []client.Entry{}}
	if in.From >= v.Size {
		return out, nil
	}
	next, bytes := in.From, 0
	to := min(v.Size, in.From+entryScan)
	err = s.backend.Archive().Entries(in.From, to, func(seq uint64, raw []byte) error {
		if len(out.Entries) == limit || bytes > pageBytes {
			return errEnough
		}
		e, err := client.DecodeEntry(slices.Clone(raw))
		if err != nil {
			return err
		}
		next = seq + 1
		if f.takes(e.Kind, e.Type) {
			out.Entries = append(out.Entries, e)
			bytes += len(raw)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if next < v.Size {
		out.Next = &next
	}
	return out, nil
}

// epochs walks the history backwards, at most epochScan entries a page.
func (s *Server) epochs(v *View, in *PageInput) (*client.Epochs, error) {
	before, err := cursorSeq("epochs", in.Cursor, v.Size)
	if err != nil {
		return nil, err
	}
	limit := s.page(in.Limit)
	out := &client.Epochs{Epochs: []client.Epoch{}}
	least := before - min(before, epochScan)
	for before > least && len(out.Epochs) < limit {
		before--
		raw, err := s.backend.Archive().Entry(before)
		if err != nil {
			return nil, err
		}
		epoch, ok, err := epochOf(raw)
		if err != nil {
			return nil, err
		}
		if ok {
			out.Epochs = append(out.Epochs, epoch)
		}
	}
	if before > 0 {
		out.Next = encodeCursor("epochs", uitoa(before))
	}
	return out, nil
}

func epochOf(raw []byte) (client.Epoch, bool, error) {
	e, err := ledger.ParseEntry(raw)
	if err != nil || e.Kind != ledger.KindEffect {
		return client.Epoch{}, false, err
	}
	effect, err := e.Effect()
	if err != nil || effect.Type != fsm.EffectEpoch {
		return client.Epoch{}, false, err
	}
	body, err := decodeEffect[fsm.EpochEffect](effect)
	if err != nil {
		return client.Epoch{}, false, err
	}
	out := client.Epoch{Epoch: body.Epoch, Start: body.Start, Seq: e.Seq, Keys: body.Keys.String()}
	if body.Count > 0 { // before format 3 nothing is counted, and there is never no key
		out.Count, out.Rotated = &body.Count, &body.Rotated
	}
	return out, true, nil
}
