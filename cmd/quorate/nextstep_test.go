package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/ledger"
)

// plain are the codes whose detail says all there is to do: those of a statement
// that is malformed, which no program of ours makes, and those that name a mistake
// by its place.
var plain = []string{
	"ok", "not_cose", "wrong_alg", "wrong_typ", "unprotected_header", "trailing_bytes", "not_canonical", "unknown_field",
	"duplicate_field", "missing_field", "float", "null", "number_range", "bad_string", "bad_base64", "wrong_type", "too_deep", "not_json",
	"bad_field", "bad_stamp", "bundle_too_large", "bundle_rejected", "unknown_action", "history_not_whole",
}

// Every code of the rules has a next step, or is on the list of those that need
// none; and no step is for a code that does not exist.
func TestEveryCodeHasANextStep(t *testing.T) {
	known := map[string]bool{}
	for _, code := range fsm.Codes() {
		name := code.String()
		known[name] = true
		if (nextStep(name) == "") != slices.Contains(plain, name) {
			t.Errorf("%s: the next step is %q, and plain: %v", name, nextStep(name), slices.Contains(plain, name))
		}
	}
	for name := range nextSteps {
		if !known[name] {
			t.Errorf("there is no code %s", name)
		}
	}
}

// A ceremony can say every figure of the protection, by the name that the ledger
// has for it.
func TestCeremonyKnowsEveryFigure(t *testing.T) {
	names := func(of reflect.Type, tag string) (list []string) {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get(tag), ",")
			list = append(list, of.Field(i).Name+" "+name)
		}
		return list
	}
	have, want := names(reflect.TypeFor[ceremonyProtection](), "yaml"), names(reflect.TypeFor[ledger.Protection](), "json")
	if !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}
