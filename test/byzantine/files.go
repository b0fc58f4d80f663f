package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// killed is how a replica ends that is not asked.
var killed = syscall.SIGKILL

// moveAside keeps a replica's history where the comparison of heads finds it,
// and leaves it an empty disk.
func (s *scene) moveAside(m *member) error {
	from := filepath.Join(s.Dir, "ledger", m.name)
	to := from + ".before"
	s.heads.archives = append(s.heads.archives, filepath.Join(to, "archive"))
	return os.Rename(from, to)
}

// configureFresh writes the configuration of a replica that genesis does not
// know, with the keys in fresh/.
func (s *scene) configureFresh(m *member) error {
	text := fmt.Sprintf(`name: %[1]s
dir: %[1]s
genesis_file: genesis.cbor
key_file: ../fresh/%[1]s.key
tls_cert_file: ../fresh/%[1]s.tls.crt
tls_key_file: ../fresh/%[1]s.tls.key
listen: %[2]s
seeds: [%[3]s, %[4]s]
api: {listen: "%[5]s", insecure_loopback: true}
`, m.name, m.peer, s.member("r1").peer, s.member("r2").peer, m.api)
	return os.WriteFile(filepath.Join(s.Dir, "ledger", m.name+".yaml"), []byte(text), 0o600)
}

// fieldOf is the first value of a key in printed JSON.
func fieldOf(out, key string) string {
	found := regexp.MustCompile(`"` + key + `": "([^"]*)"`).FindStringSubmatch(out)
	if found == nil {
		return ""
	}
	return found[1]
}
