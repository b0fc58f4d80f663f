package fsm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// Codes are append-only: these numbers and names are on ledgers.
func TestCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range Codes() {
		if c.String() == "" || c.Meaning() == "" || names[c.String()] {
			t.Errorf("code %d has no name of its own or no meaning", c)
		}
		names[c.String()] = true
		if (c == OK) != (c.Class() == ClassOK) {
			t.Errorf("code %s has class %d", c, c.Class())
		}
		row := fmt.Sprintf("| %d | `%s` | %s | %s |", c, c, c.Class(), c.Meaning())
		if !strings.Contains(string(doc), row+"\n") {
			t.Errorf("DESIGN.md lacks the row\n%s", row)
		}
		if back, ok := CodeNamed(c.String()); !ok || back != c {
			t.Errorf("the name %s does not lead back", c)
		}
	}
	if beyond := Code(250); beyond.Class() != ClassContent || beyond.String() != "code 250" || beyond.Meaning() == "" {
		t.Error("an unknown code has no answer")
	}
}

// Every code that the rooms below can give is one of ours.
func TestCodesOfTheRoomsBelow(t *testing.T) {
	for _, name := range []string{
		keys.CodeNotCOSE, keys.CodeWrongAlg, keys.CodeWrongTyp, keys.CodeUnprotectedHeader, keys.CodeTrailingBytes, keys.CodeTooLarge, keys.CodeNotCanonical,
		canon.CodeNotCanonical, canon.CodeUnknownField, canon.CodeDuplicateField, canon.CodeMissingField, canon.CodeFloat, canon.CodeNull,
		canon.CodeNumberRange, canon.CodeBadString, canon.CodeBadBase64, canon.CodeWrongType, canon.CodeTooDeep, canon.CodeTrailingBytes, canon.CodeNotJSON,
		"bad_field",
	} {
		if _, ok := CodeNamed(name); !ok {
			t.Errorf("no code is named %s", name)
		}
	}
}

// Every action has its rules, its words, and nothing else has.
func TestEveryActionHasRules(t *testing.T) {
	every := ledger.ActionsOf(Format)
	for _, name := range every {
		if _, ok := actions[name]; !ok {
			t.Errorf("%s has no rules", name)
		}
		if _, ok := wordings[name]; !ok {
			t.Errorf("%s has no words", name)
		}
	}
	if len(actions) != len(every) || len(wordings) != len(every) {
		t.Errorf("%d actions have rules, %d words, there are %d", len(actions), len(wordings), len(every))
	}
}
