package test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What a document names is there: linked files, files of Go, targets of make and
// sections of FORMAT.md. Commands are checked by cmd/quorate.

var (
	linkInDocument    = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	codeInDocument    = regexp.MustCompile("`[^`\n]*`")
	goFileInDocument  = regexp.MustCompile(`(?:[A-Za-z0-9_.-]+/)*[A-Za-z0-9_]+\.go\b`)
	targetInDocument  = regexp.MustCompile("(?m)(?:`|^    )make ([a-z][a-z-]*)")
	sectionInDocument = regexp.MustCompile(`FORMAT\.md,? sections? ([0-9]+)(?: and ([0-9]+))?`)
	targetOfMake      = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	sectionOfFormat   = regexp.MustCompile(`(?m)^## ([0-9]+)\. `)
)

// repository is what documents may name.
type repository struct {
	files             map[string]bool
	names             map[string]bool // of files, without their folders
	targets, sections []string
}

func (r *repository) missing(name, content string) []string {
	var found []string
	for _, m := range linkInDocument.FindAllStringSubmatch(codeInDocument.ReplaceAllString(content, ""), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		to := path.Join(path.Dir(name), m[1])
		if _, err := os.Stat(filepath.Join("..", to)); err != nil {
			found = append(found, "link "+m[1])
		}
	}
	for _, file := range goFileInDocument.FindAllString(content, -1) {
		base := path.Base(file)
		if strings.HasPrefix(base, "_") {
			continue // a suffix, such as _test.go
		}
		whole := strings.Contains(file, "/") && (r.files[path.Join(path.Dir(name), file)] || r.files[file])
		if !whole && (strings.Contains(file, "/") || !r.names[base]) {
			found = append(found, "file "+file)
		}
	}
	for _, m := range targetInDocument.FindAllStringSubmatch(content, -1) {
		if !slices.Contains(r.targets, m[1]) {
			found = append(found, "make "+m[1])
		}
	}
	for _, m := range sectionInDocument.FindAllStringSubmatch(content, -1) {
		for _, section := range m[1:] {
			if section != "" && !slices.Contains(r.sections, section) {
				found = append(found, "FORMAT.md section "+section)
			}
		}
	}
	return found
}

func firsts(matches [][]string) []string {
	var list []string
	for _, m := range matches {
		list = append(list, m[1])
	}
	return list
}

func TestDocumentsNameWhatIsThere(t *testing.T) {
	r := repository{files: map[string]bool{}, names: map[string]bool{},
		targets:  firsts(targetOfMake.FindAllStringSubmatch(string(read(t, "Makefile")), -1)),
		sections: firsts(sectionOfFormat.FindAllStringSubmatch(string(read(t, "ledger/FORMAT.md")), -1)),
	}
	for _, f := range files(t) {
		r.files[f], r.names[path.Base(f)] = true, true
	}
	documents := 0
	for f := range r.files {
		isDocument := path.Ext(f) == ".md"
		if isDocument {
			documents++
		} else if path.Ext(f) != ".go" && path.Ext(f) != ".js" {
			continue
		}
		content := string(read(t, f))
		if !isDocument { // comments name sections; the rest of a program is its own
			content = strings.Join(sectionInDocument.FindAllString(content, -1), "\n")
		}
		for _, what := range r.missing(f, content) {
			t.Errorf("%s names what is not there: %s", f, what)
		}
	}
	if documents < 20 || len(r.targets) < 20 || len(r.sections) < 19 {
		t.Fatalf("%d documents, %d targets, %d sections: too little was looked at", documents, len(r.targets), len(r.sections))
	}
	sample := "[x](nowhere.md) `fsm/nowhere.go` nowhere.go `make nowhere` FORMAT.md sec" + "tion 99 [y](https://example.com/nowhere) _test.go fsm/apply.go"
	if got := r.missing("README.md", sample); len(got) != 5 {
		t.Errorf("the check is blind: of five things that are not there it finds %q", got)
	}
}
