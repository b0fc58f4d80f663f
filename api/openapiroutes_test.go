package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// The document describes the routes that the router has, and no others.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	s, err := New(newFake(t), Config{Gatherer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(s.openapi, &document); err != nil {
		t.Fatal(err)
	}
	described, served := map[string]bool{}, map[string]bool{}
	for path, methods := range document.Paths {
		for method := range methods {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	err = chi.Walk(s.router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served[method+" "+strings.Replace(route, "*", "{path}", 1)] = true
		return nil
	})
	if err != nil || len(served) < 30 {
		t.Fatalf("the router has %d routes, %v", len(served), err)
	}
	delete(served, "GET /openapi.json") // the document itself
	for _, route := range slices.Sorted(maps.Keys(served)) {
		if !described[route] {
			t.Errorf("openapi.json does not describe %s", route)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(described)) {
		if !served[route] {
			t.Errorf("openapi.json describes %s, which is not served", route)
		}
	}
}
