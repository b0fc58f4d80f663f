package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// describe adds to the OpenAPI document what is served without huma.
func describe(h huma.API, op *huma.Operation) { h.OpenAPI().AddOperation(op) }

func queryParam(name, doc string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: schema}
}

// schemaName names the ledger's own types apart from the answers that hold them.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	if strings.HasSuffix(t.PkgPath(), "/ledger") {
		return "Ledger" + name
	}
	return name
}

// openAPI gives the document, OpenAPI 3.1. It is committed as api/openapi.json,
// and a test compares them.
func openAPI(h huma.API) ([]byte, error) {
	raw, err := json.Marshal(h.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("encode OpenAPI: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
