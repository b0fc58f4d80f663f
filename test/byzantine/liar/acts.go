package main

import (
	"context"
	"net/url"
)

// acts are done once.
var acts = map[string]func(ctx context.Context, l *liar, q url.Values) (string, error){
	"leap":          leap,
	"overwrite":     overwrite,
	"keep-snapshot": keepSnapshot,
	"snapshot":      sendSnapshot,
}
