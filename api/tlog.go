package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/archive"
)

// The C2SP log (tlog-tiles, tlog-checkpoint), with the authority chain and the
// keys beside it. Nothing at or above the certified size is served.

// Cache times: tiles and links never change, the others follow the head.
const (
	cacheForEver = "public, max-age=31536000, immutable"
	cacheHead    = "public, max-age=1"
	cacheKeys    = "public, max-age=60"
)

// logFile is one file of the log, and how to serve it.
type logFile struct {
	media, cache string
	body         []byte
}

// LogSource gives the files of a backend's log by path, as the public API
// serves them, without a request: exports are made of it.
type LogSource struct{ Backend Backend }

// Get gives a file of the log: checkpoint, log.vkey, log-mldsa44.vkey, log.vkeys, policy,
// genesis.cbor, tile/… or authority/N. What does not exist, or is not
// certified yet, is fs.ErrNotExist.
func (l LogSource) Get(_ context.Context, path string) ([]byte, error) {
	f, err := logFileOf(l.Backend, path)
	var problem *Problem
	if errors.Is(err, archive.ErrNotFound) || errors.Is(err, ErrNotFound) || errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		return nil, fmt.Errorf("read %s of the log: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of the log: %w", path, err)
	}
	return f.body, nil
}

func logFileOf(b Backend, path string) (*logFile, error) {
	switch {
	case path == "checkpoint":
		note, size := b.Checkpoint()
		if size == 0 {
			return nil, notFound("no head is certified yet")
		}
		return &logFile{"text/plain; charset=utf-8", cacheHead, note}, nil
	case strings.HasPrefix(path, "tile/"):
		return tile(b, path)
	case strings.HasPrefix(path, "authority/"):
		return link(b, strings.TrimPrefix(path, "authority/"))
	case strings.HasPrefix(path, "receipts/"):
		return receipt(b, strings.TrimPrefix(path, "receipts/"))
	case path == "genesis.cbor":
		entry, err := b.Archive().Entry(0)
		return &logFile{"application/octet-stream", cacheForEver, entry}, err
	}
	authority, err := certifiedAuthority(b)
	if err != nil {
		return nil, err
	}
	var body string
	switch path {
	case "log.vkey":
		body = ledger.LogVKey(authority.Origin, authority.Log) + "\n"
	case "log-mldsa44.vkey":
		body = ledger.LogMLDSA44VKey(authority.Origin, authority.Log) + "\n"
	case "log.vkeys":
		body = string(ledger.LogVKeysText(b.LogVKeys()))
	case "policy":
		body = string(ledger.TLogPolicy(authority))
	default:
		return nil, notFound("no such file of the log")
	}
	return &logFile{"text/plain; charset=utf-8", cacheKeys, []byte(body)}, nil
}

// tile serves a tile or bundle that lies wholly within the certified size.
func tile(b Backend, path string) (*logFile, error) {
	level, n, width, err := archive.ParseTilePath(path)
	if err != nil {
		return nil, notFound("not the path of a tile (C2SP tlog-tiles)")
	}
	_, certified := b.Checkpoint()
	if !covered(certified, level, n, width) {
		return nil, notFound("the certified tree of %d entries has no such tile", certified)
	}
	var body []byte
	if level < 0 {
		body, err = b.Archive().Bundle(n, width)
	} else {
		body, err = b.Archive().Tile(level, n, width)
	}
	return &logFile{"application/octet-stream", cacheForEver, body}, err
}

// covered says whether the first width hashes of tile n of a level belong to a
// tree of that size. Entry bundles, of level -1, go with level 0.
func covered(size uint64, level int, n uint64, width int) bool {
	hashes := size >> (8 * max(level, 0)) // complete subtrees of that level; 0 for shifts of 64 and more
	return n <= hashes/archive.TileWidth && n*archive.TileWidth+uint64(width) <= hashes
}

func link(b Backend, name string) (*logFile, error) {
	n, err := strconv.ParseUint(name, 10, 53)
	if err != nil || strconv.FormatUint(n, 10) != name {
		return nil, notFound("want /authority/N, N from 0 to the newest index")
	}
	if newest := b.AuthorityIndex(); n > newest {
		return nil, notFound("there is no authority %d; the newest is %d", n, newest)
	}
	body, err := b.AuthorityLink(n)
	return &logFile{"application/json", cacheForEver, body}, err
}

// Receipts is a Backend that signs receipts of entries.
type Receipts interface {
	// EntryReceipt gives the replica's COSE Receipt of a certified entry.
	EntryReceipt(seq uint64) ([]byte, error)
}

// receipt is what one replica states of one entry, signed on request.
func receipt(b Backend, name string) (*logFile, error) {
	seq, err := strconv.ParseUint(name, 10, 53)
	if err != nil || strconv.FormatUint(seq, 10) != name {
		return nil, notFound("want /receipts/SEQ, SEQ of a certified entry")
	}
	signer, ok := b.(Receipts)
	if !ok {
		return nil, notFound("this server signs no receipts")
	}
	body, err := signer.EntryReceipt(seq)
	return &logFile{"application/cose", "no-store", body}, err
}

// certifiedAuthority is the authority that certifies the newest head.
func certifiedAuthority(b Backend) (ledger.Authority, error) {
	ctx, cancel := context.WithTimeout(context.Background(), DefaultLimits().ViewTimeout)
	defer cancel()
	v, err := b.View(ctx, client.Certified)
	if err != nil {
		return ledger.Authority{}, err
	}
	return v.State.Authority(), nil
}

func (s *Server) logRoutes(h huma.API, router chi.Router) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		f, err := logFileOf(s.backend, strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			writeProblem(w, s.fail(r.URL.Path, err))
			return
		}
		w.Header().Set("Content-Type", f.media)
		w.Header().Set("Cache-Control", f.cache)
		w.Header().Set("Content-Length", strconv.Itoa(len(f.body)))
		_, _ = w.Write(f.body)
	}
	for _, file := range []struct{ path, id, summary, media string }{
		{"/checkpoint", "get-checkpoint", "The newest certified checkpoint (C2SP tlog-checkpoint) with every line", "text/plain"},
		{"/tile/*", "get-tile", "A tile or entry bundle (C2SP tlog-tiles) within the certified size", "application/octet-stream"},
		{"/authority/{n}", "get-authority", "Link n of the authority chain (FORMAT.md section 10)", "application/json"},
		{"/receipts/{seq}", "get-receipt", "This replica's COSE Receipt (RFC 9942) of a certified entry (FORMAT.md section 14)", "application/cose"},
		{"/genesis.cbor", "get-genesis-entry", "Entry 0", "application/octet-stream"},
		{"/log.vkey", "get-log-vkey", "The log's Ed25519 key, which carries no authority", "text/plain"},
		{"/log-mldsa44.vkey", "get-log-mldsa44-vkey", "The log's ML-DSA-44 key, which carries no authority", "text/plain"},
		{"/log.vkeys", "get-log-vkeys", "Every key that the log has had: the size from which heads bear its lines, the Ed25519 and the ML-DSA-44 key", "text/plain"},
		{"/policy", "get-log-policy", "The C2SP tlog-policy that counts the replicas' cosignatures", "text/plain"},
	} {
		router.Get(file.path, serve)
		described := strings.Replace(file.path, "*", "{path}", 1)
		op := &huma.Operation{
			OperationID: file.id, Method: http.MethodGet, Path: described, Summary: file.summary, Tags: []string{"log"},
			Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
				file.media: {Schema: &huma.Schema{Type: huma.TypeString}},
			}}, "404": {Description: "Not Found"}},
		}
		if begin := strings.Index(described, "{"); begin >= 0 {
			op.Parameters = []*huma.Param{{Name: described[begin+1 : len(described)-1], In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
		}
		describe(h, op)
	}
	s.genesisRoute(h)
	s.exportRoute(h, router)
}
