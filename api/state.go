package api

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// stateLine is about what one piece of a streamed state holds.
const stateLine = 64 << 10

func (s *Server) stateRoute(h huma.API, router chi.Router) {
	router.Get("/v1/state", s.state)
	describe(h, &huma.Operation{
		OperationID: "get-state", Method: http.MethodGet, Path: "/v1/state", Tags: []string{"read"},
		Summary:     "Every record of the state at the newest certified head",
		Description: "Newline-delimited JSON: first a StateHead, then one array [key, value] for each record, sorted by key, the value in the bytes that the seal's digest covers. Whoever starts from it checks the digest of all records against the seal, and the seal against the certified head.",
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	})
	schemaOf[client.StateHead](h) // of the first line
}

// state streams. Once the first byte is out, an error can only cut the stream,
// and then the records' digest is not the one that was sealed.
func (s *Server) state(w http.ResponseWriter, r *http.Request) {
	v, err := s.view(r.Context(), client.Certified)
	if err == nil {
		err = s.sealedView(v)
	}
	var first *client.StateHead
	if err == nil {
		first, err = s.stateHead(v)
	}
	if err != nil {
		writeProblem(w, s.fail(r.URL.Path, err))
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/x-ndjson")
	header.Set("Cache-Control", "no-store")
	header.Set(client.HeaderSize, strconv.FormatUint(v.Size, 10))
	header.Set(client.HeaderConsistency, client.Certified)
	header.Set(client.HeaderCertified, "true")
	header.Set(client.HeaderSigned, strconv.FormatUint(v.Signed, 10))
	if r.Method == http.MethodHead {
		return
	}
	slow := &slowWriter{w: w, control: http.NewResponseController(w), timeout: s.limits.WriteTimeout, begun: true}
	slow.grace()
	out := bufio.NewWriterSize(slow, stateLine)
	if err := writeState(out, v, first); err != nil {
		if r.Context().Err() == nil {
			s.fail(r.URL.Path, err)
		}
		panic(http.ErrAbortHandler)
	}
}

// sealedView checks that a view is what can be proven: whole in its records.
func (s *Server) sealedView(v *View) error {
	if !v.Certified || v.Size == 0 {
		return ErrNotReady
	}
	if v.State.Next() != v.Size || !v.State.Sealed() {
		return fmt.Errorf("serve state: it is at %d, its certified head at %d", v.State.Next(), v.Size)
	}
	return nil
}

func (s *Server) stateHead(v *View) (*client.StateHead, error) {
	checkpoint, err := ledger.ParseCheckpoint(v.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("read own checkpoint: %w", err)
	}
	if checkpoint.Head.Size != v.Size {
		return nil, fmt.Errorf("serve state: the checkpoint has size %d, the state %d", checkpoint.Head.Size, v.Size)
	}
	seal, err := s.backend.Archive().Entry(v.Size - 1)
	if err != nil {
		return nil, err
	}
	path, err := s.backend.Archive().ProveInclusion(v.Size-1, v.Size)
	if err != nil {
		return nil, err
	}
	return &client.StateHead{Size: v.Size, Checkpoint: string(v.Checkpoint), Seal: seal, SealProof: hexHashes(path)}, nil
}

func writeState(out *bufio.Writer, v *View, first *client.StateHead) error {
	line, err := encodeJSON(first) // ends in a line feed
	if err != nil {
		return fmt.Errorf("encode head of state: %w", err)
	}
	if _, err := out.Write(line); err != nil {
		return err
	}
	err = v.State.Dump(func(key string, value []byte) error {
		name, err := canon.Marshal(key)
		if err != nil {
			return fmt.Errorf("encode key of record: %w", err)
		}
		_, err = fmt.Fprintf(out, "[%s,%s]\n", name, value)
		return err
	})
	return errors.Join(err, out.Flush())
}
