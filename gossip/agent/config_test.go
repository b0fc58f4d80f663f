package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodConfig = `name: n1
dir: data
key_file: n1.key
genesis: abababababababababababababababababababababababababababababababab
api:
  servers: [https://r1.example:7443]
gossip:
  listen: 127.0.0.1:7700
  peers: [n2@127.0.0.1:7701]
  links: [n2]
publish:
  hook: [/bin/true]
  hook_time: 2s
`

func TestReadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if c.Dir != filepath.Join(dir, "data") || c.KeyFile != filepath.Join(dir, "n1.key") ||
		c.Local.Socket != filepath.Join(dir, "data", "agent.sock") || c.Publish.HookTime != 2*time.Second || c.Log.Level != "info" {
		t.Errorf("%+v", c)
	}
}

// Whatever is wrong is refused, with its line.
func TestConfigIsStrict(t *testing.T) {
	for _, one := range []struct {
		from, to string
		line     int
		says     string
	}{
		{"key_file: n1.key", "keyfile: n1.key", 3, "keyfile"},
		{"key_file: n1.key", "key_file: n1.key\nkey_file: n2.key", 4, "already defined"},
		{"key_file: n1.key\n", "", 0, "key_file: missing"},
		{"name: n1", "name: N 1", 1, "name"},
		{"genesis: ab", "genesis: xx", 4, "genesis"},
		{"genesis: ab", "max_pack_age: 1h\ngenesis: ab", 4, "join_pack"},
		{"127.0.0.1:7700", "7700", 8, "gossip.listen"},
		{"n2@127.0.0.1:7701", "127.0.0.1:7701", 9, "gossip.peers"},
		{"links: [n2]", "links: [n2, n2]", 10, "twice"},
		{"hook_time: 2s", "hook_time: 1h", 13, "hook_time"},
		{"publish:", "local:\n  listen: 192.0.2.1:80\npublish:", 12, "loopback"},
		{"publish:", "log:\n  level: loud\npublish:", 12, "log.level"},
		{goodConfig, goodConfig + "---\nname: n2\n", 0, "second document"},
		{goodConfig, "", 0, "empty"},
	} {
		text := strings.Replace(goodConfig, one.from, one.to, 1)
		_, err := ParseConfig("a.yaml", []byte(text))
		var wrong *ConfigError
		if !errors.As(err, &wrong) || wrong.Line != one.line || !strings.Contains(err.Error(), one.says) {
			t.Errorf("%q: got %v, want line %d and %q", one.to, err, one.line, one.says)
		}
	}
}
