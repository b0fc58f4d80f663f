package test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/test/metricstest"
)

// alertRule is a rule of deploy/alerts.yml, in Prometheus's own shape.
type alertRule struct {
	Alert  string `yaml:"alert"`
	Expr   string `yaml:"expr"`
	For    string `yaml:"for"`
	Labels struct {
		Severity string `yaml:"severity"`
	} `yaml:"labels"`
	Annotations struct {
		Summary     string `yaml:"summary"`
		Description string `yaml:"description"`
		Playbook    string `yaml:"playbook"`
	} `yaml:"annotations"`
}

func readAlerts(t *testing.T) []alertRule {
	raw, err := os.ReadFile("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string      `yaml:"name"`
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if err := decoder.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		t.Fatalf("a second document: %v", err)
	}
	var all []alertRule
	seen := map[string]bool{}
	for _, g := range file.Groups {
		if seen["group "+g.Name] || g.Name == "" {
			t.Errorf("the group %q is there twice, or has no name", g.Name)
		}
		seen["group "+g.Name] = true
		for _, r := range g.Rules {
			if seen[r.Alert] {
				t.Errorf("the alert %s is there twice", r.Alert)
			}
			seen[r.Alert] = true
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

var (
	alertName = regexp.MustCompile(`^Quorate[A-Za-z]+$`)
	duration  = regexp.MustCompile(`^([1-9][0-9]*[smhd])?$`)
)

// TestAlertsAreWhole: each alert has a name, a severity, words for whoever it wakes, and
// a playbook that there is.
func TestAlertsAreWhole(t *testing.T) {
	for _, r := range readAlerts(t) {
		switch {
		case !alertName.MatchString(r.Alert), !duration.MatchString(r.For), r.Labels.Severity != "page" && r.Labels.Severity != "ticket":
			t.Errorf("%s: for %q, severity %q", r.Alert, r.For, r.Labels.Severity)
		case r.Annotations.Summary == "", len(r.Annotations.Description) < 40 && !strings.Contains(r.Annotations.Description, "quorate "):
			t.Errorf("%s: it does not say what is wrong", r.Alert)
		}
		if _, err := os.Stat(filepath.Join("..", "deploy", r.Annotations.Playbook)); err != nil || r.Annotations.Playbook == "" {
			t.Errorf("%s: the playbook %q: %v", r.Alert, r.Annotations.Playbook, err)
		}
	}
}

var (
	quotedText = regexp.MustCompile(`"[^"]*"`)
	aWord      = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*`)
	aRange     = regexp.MustCompile(`\[[^\]]*\]|\boffset \d+[smhd]\b`)
	grouping   = regexp.MustCompile(`\b(?:by|without) \(([^)]*)\)`)
	selector   = regexp.MustCompile(`([a-zA-Z_]+)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`^\s*([a-z_]+)(=|=~)"([^"]*)"\s*$`)

	// promWords are the words of Prometheus's language that the alerts use.
	promWords = []string{"max", "sum", "count", "scalar", "increase", "changes", "by", "and", "or", "bool"}
)

// scrapedUp is Prometheus's own: whether a scrape succeeded. The jobs are what metrics.md
// says that the alerts take them for.
const scrapedUp = "up"

var scrapeJobs = []string{"quorate-replica", "quorate-agent"}

// TestAlertsAskForWhatThereIs: each metric, label and value that an alert names is
// exported, as deploy/metrics.md says, which the packages compare with their code.
func TestAlertsAskForWhatThereIs(t *testing.T) {
	d := metricstest.Read(t)
	d.Metrics[scrapedUp] = metricstest.Metric{Labels: []string{"job"}}
	d.Values[scrapedUp] = map[string][]string{"job": scrapeJobs}
	asked := map[string]bool{} // metric label value
	for _, r := range readAlerts(t) {
		if bare := quotedText.ReplaceAllString(r.Expr, ""); strings.Count(bare, "(") != strings.Count(bare, ")") || strings.Count(bare, "{") != strings.Count(bare, "}") {
			t.Errorf("%s: brackets do not match: %s", r.Alert, r.Expr)
		}
		groups := grouping.FindAllStringSubmatch(r.Expr, -1)
		labels := map[string]bool{}
		for _, found := range selector.FindAllStringSubmatch(aRange.ReplaceAllString(grouping.ReplaceAllString(r.Expr, ""), ""), -1) {
			name := found[1]
			metric, there := d.Metrics[name]
			if !there {
				if !slices.Contains(promWords, name) || found[2] != "" {
					t.Errorf("%s: nothing exports %s", r.Alert, name)
				}
				continue
			}
			for _, label := range metric.Labels {
				labels[label] = true
			}
			for _, one := range strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' }) {
				m := matcher.FindStringSubmatch(one)
				if m == nil || !slices.Contains(metric.Labels, m[1]) {
					t.Errorf("%s: %s has no label for %s", r.Alert, name, one)
					continue
				}
				for _, value := range strings.Split(m[3], "|") {
					if asked[name+" "+value] = true; !slices.Contains(d.Values[name][m[1]], value) || m[2] == "=" && value != m[3] {
						t.Errorf("%s: %s of %s is never %q", r.Alert, m[1], name, value)
					}
				}
			}
		}
		for _, g := range groups {
			for _, label := range aWord.FindAllString(g[1], -1) {
				if !labels[label] {
					t.Errorf("%s: it groups by %s, which none of its metrics has", r.Alert, label)
				}
			}
		}
	}
	// Whatever the programs call wrong by themselves wakes somebody.
	for _, metric := range []string{"quorate_replica_alarm", "quorate_alarms", "quorate_agent_trouble"} {
		for _, values := range d.Values[metric] {
			for _, value := range values {
				if !asked[metric+" "+value] {
					t.Errorf("no alert asks for %q of %s", value, metric)
				}
			}
		}
	}
}

// metricFiles are where metrics are made, each with its section of deploy/metrics.md, with
// which the test beside it compares them.
var metricFiles = map[string]string{
	"api/metrics.go": "API of a replica", "gossip/agent/metrics.go": "Agent", "gossip/mesh/metrics.go": "Mesh of an agent", "ledger/replica/metrics.go": "Replica",
}

// TestMetricsAreMadeInOnePlaceEach: none is made where no test compares it with the
// document.
func TestMetricsAreMadeInOnePlaceEach(t *testing.T) {
	made := regexp.MustCompile(`prometheus\.(New(Counter|Gauge|Histogram|Summary|Untyped|Desc)|MustNewConst)|promauto\.`)
	var found []string
	root := metricstest.Root(t)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (relative == "test" || relative == "bin" || relative == "run" || strings.HasPrefix(entry.Name(), ".")):
			return filepath.SkipDir
		case entry.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if made.Match(content) {
			found = append(found, filepath.ToSlash(relative))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(found); !slices.Equal(found, slices.Sorted(maps.Keys(metricFiles))) {
		t.Errorf("metrics are made in %q: give each such file a test as the others have (metricsdoc_test.go), and name it here", found)
	}
	sections := map[string]bool{}
	for file, section := range metricFiles {
		sections[section] = true
		test := filepath.Join(root, strings.TrimSuffix(file, ".go")+"doc_test.go")
		if content, err := os.ReadFile(test); err != nil || !bytes.Contains(content, []byte(`metricstest.Documented(t, "`+section+`"`)) {
			t.Errorf("%s does not compare with deploy/metrics.md: %v", test, err)
		}
	}
	for name, metric := range metricstest.Read(t).Metrics {
		if !sections[metric.Section] {
			t.Errorf("deploy/metrics.md has %s in section %s, which nothing compares with the code", name, metric.Section)
		}
	}
}
