// Package metricstest compares what programs export with what deploy/metrics.md says of
// it. The tests of the packages whose metrics those are call it: they alone can make them.
package metricstest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Document is deploy/metrics.md.
type Document struct {
	Metrics map[string]Metric              // by name
	Values  map[string]map[string][]string // of labels whose values are a closed list, by metric and label
}

// Metric is a row: what is exported by the part of the programs that its section is about.
type Metric struct {
	Section, Name, Type string
	Labels              []string // in the order of the code
}

// Read reads the document. A row that is not whole fails.
func Read(t testing.TB) *Document {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(Root(t), "deploy", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	d := &Document{Metrics: map[string]Metric{}, Values: map[string]map[string][]string{}}
	section := ""
	for n, line := range strings.Split(string(raw), "\n") {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			if cell = strings.TrimSpace(cell); cell == "" {
				t.Fatalf("deploy/metrics.md:%d: an empty cell", n+1)
			}
			cells = append(cells, cell)
		}
		switch name := strings.Trim(cells[0], "`"); len(cells) {
		case 3: // metric, label, values
			if d.Values[name] == nil {
				d.Values[name] = map[string][]string{}
			}
			d.Values[name][strings.Trim(cells[1], "`")] = quoted(cells[2])
		case 6: // metric, type, unit, labels, what it means, when to worry
			if _, twice := d.Metrics[name]; twice {
				t.Fatalf("deploy/metrics.md:%d: %s is there twice", n+1, name)
			}
			d.Metrics[name] = Metric{Section: section, Name: name, Type: cells[1], Labels: quoted(cells[3])}
		default:
			t.Fatalf("deploy/metrics.md:%d: %d cells, want 6 or 3", n+1, len(cells))
		}
	}
	if len(d.Metrics) == 0 || len(d.Values) == 0 {
		t.Fatal("deploy/metrics.md has no metrics, or no values of labels")
	}
	return d
}

// Root is the module's folder.
func Root(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "deploy")); err == nil {
			return dir
		}
	}
	t.Fatal("there is no folder deploy above")
	return ""
}

var inTicks = regexp.MustCompile("`([^`]+)`")

func quoted(cell string) (words []string) {
	for _, found := range inTicks.FindAllStringSubmatch(cell, -1) {
		words = append(words, found[1])
	}
	return words
}

var described = regexp.MustCompile(`^Desc\{fqName: "([a-z_]+)", .* variableLabels: \{([a-z_,]*)\}\}$`)

// Documented checks that a section has these collectors, each with its type and labels,
// and no others.
func Documented(t *testing.T, section string, collectors []prometheus.Collector) {
	t.Helper()
	d := Read(t)
	exported := map[string]bool{}
	for _, c := range collectors {
		descs := make(chan *prometheus.Desc, 1)
		c.Describe(descs)
		found := described.FindStringSubmatch((<-descs).String())
		if found == nil {
			t.Fatalf("a collector of %s cannot be read", section)
		}
		name, labels := found[1], strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' })
		exported[name] = true
		row, there := d.Metrics[name]
		switch {
		case !there || row.Section != section:
			t.Errorf("%s is exported, and not in section %s of deploy/metrics.md", name, section)
		case row.Type != kind(c) || !slices.Equal(row.Labels, labels):
			t.Errorf("deploy/metrics.md says of %s: a %s with labels %q; it is a %s with %q", name, row.Type, row.Labels, kind(c), labels)
		}
	}
	for name, row := range d.Metrics {
		if row.Section == section && !exported[name] {
			t.Errorf("deploy/metrics.md has %s in section %s, and nothing exports it", name, section)
		}
	}
}

// kind says what a collector is. One whose value is asked for at each scrape is a gauge:
// nothing else is made so here.
func kind(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.GaugeVec, prometheus.Gauge:
		return "gauge"
	case prometheus.Counter:
		return "counter"
	}
	return "gauge"
}

// Valued checks that the document has these values of a label, and no others.
func Valued(t *testing.T, metric, label string, values []string) {
	t.Helper()
	told := slices.Sorted(slices.Values(Read(t).Values[metric][label]))
	values = slices.Sorted(slices.Values(values))
	if len(values) == 0 || !slices.Equal(told, values) {
		t.Errorf("deploy/metrics.md has the values %q of %s of %s, the code %q", told, label, metric, values)
	}
}

// Consts gives the values of a file's string constants that have a prefix in their name.
func Consts(t *testing.T, file, prefix string) (values []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
		return true
	})
	return values
}

// Recorder takes note of what is registered.
type Recorder struct{ Collectors []prometheus.Collector }

// Register is prometheus's.
func (r *Recorder) Register(c prometheus.Collector) error {
	r.Collectors = append(r.Collectors, c)
	return nil
}

// MustRegister is prometheus's.
func (r *Recorder) MustRegister(all ...prometheus.Collector) {
	r.Collectors = append(r.Collectors, all...)
}

// Unregister is prometheus's.
func (r *Recorder) Unregister(prometheus.Collector) bool { return false }
