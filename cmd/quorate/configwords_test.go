package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/gossip/agent"
	"github.com/quorate/quorate/ledger"
)

func testApp() *app {
	return &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" },
		environ: func() []string { return nil }, now: time.Now}
}

// What agent init writes names every option that there is, set or commented out, and with
// all of them set it is a configuration still.
func TestAgentTemplateHasEveryOption(t *testing.T) {
	for _, f := range []agentInitFlags{
		{listen: "0.0.0.0:7500"},
		{listen: "0.0.0.0:7500", local: "127.0.0.1:7600", passphraseFile: "pass", joinPack: "fleet.pack", server: serverFlags{caFile: "ca.pem"}},
	} {
		text, err := testApp().agentConfig("edge-7", ledger.Hash{1}, &f)
		if err != nil {
			t.Fatal(err)
		}
		commented := regexp.MustCompile(`(?m)^( *)# ([a-z_]+: )`)
		whole := commented.ReplaceAll(text, []byte("$1$2"))
		if _, err := agent.ParseConfig("edge-7.yaml", whole); err != nil {
			t.Errorf("with every option set it is none: %v\n%s", err, whole)
		}
		var said map[string]any
		if err := yaml.Unmarshal(whole, &said); err != nil {
			t.Fatal(err)
		}
		eachKey(reflect.TypeOf(agent.Config{}), "", func(key string, _ reflect.Type) {
			at := any(said)
			for _, part := range strings.Split(key, ".") {
				section, _ := at.(map[string]any)
				value, there := section[part]
				if !there {
					t.Errorf("%s is not in the template", key)
					return
				}
				at = value
			}
		})
	}
}

// The server's man page has every option of its configuration, with its variable.
func TestServerManPageHasEveryOption(t *testing.T) {
	dir := t.TempDir()
	if err := writeManPages(testApp().rootCommand(), dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "quorate-server.1"))
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	eachKey(reflect.TypeOf(serverConfig{}), "", func(key string, _ reflect.Type) {
		keys++
		for _, want := range []string{".B " + roff("--"+flagOf(key)) + "\n", variableOf(key)} {
			if !strings.Contains(string(page), want) {
				t.Errorf("quorate-server.1 has no %s", want)
			}
		}
	})
	if keys < 20 {
		t.Errorf("the configuration has %d options", keys)
	}
}
