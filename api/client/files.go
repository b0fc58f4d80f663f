package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/quorate/quorate/ledger"
)

// Get fetches a file of the C2SP log, or one beside it, by its path without a
// leading slash: checkpoint, tile/…, authority/N, log.vkey. It proves nothing
// by itself; exports and audits verify what they get. A file that does not
// exist is fs.ErrNotExist.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	limit := int64(ledger.MaxLinkBytes)
	if strings.HasPrefix(path, "tile/entries/") {
		limit = 256 * (2 + ledger.MaxEntryBytes)
	}
	got, err := c.fetch(ctx, call{method: http.MethodGet, path: "/" + path, limit: limit})
	var problem *Problem
	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
		return nil, fmt.Errorf("fetch %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	return got.body, nil
}

// Export copies the server's export of the whole ledger, a .tar.zst, to w. It
// proves nothing by itself: verify it.
func (c *Client) Export(ctx context.Context, w io.Writer) error {
	response, err := c.open(ctx, c.servers[c.preferred.Load()], call{method: http.MethodGet, path: "/v1/export"})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("read export: %w", err)
	}
	return nil
}
