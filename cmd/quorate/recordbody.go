package main

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/ledger"
)

// recordBody makes the body of a record from a file of any size, or a text.
func recordBody(file, text, name, media string) (*ledger.Record, error) {
	if file == "" {
		return &ledger.Record{Text: text, Name: name, Media: media}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, usage("check --file", "read %s: %w", file, causeOf(err))
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, usage("check --file", "read %s: %w", file, causeOf(err))
	}
	return &ledger.Record{Digest: h.Sum(nil), Name: orText(name, filepath.Base(file)), Media: media}, nil
}
