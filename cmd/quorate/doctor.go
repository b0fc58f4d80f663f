package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/spiffe"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// finding is one thing that doctor looked at.
type finding struct {
	What   string `json:"what"`
	Result string `json:"result"` // ok, warn or fail
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

const (
	resultOK   = "ok"
	resultWarn = "warn"
	resultFail = "fail"
)

type findings []finding

func (f *findings) ok(what, format string, args ...any) {
	*f = append(*f, finding{What: what, Result: resultOK, Detail: fmt.Sprintf(format, args...)})
}

func (f *findings) warn(what, advice, format string, args ...any) {
	*f = append(*f, finding{What: what, Result: resultWarn, Advice: advice, Detail: fmt.Sprintf(format, args...)})
}

func (f *findings) fail(what, advice, format string, args ...any) {
	*f = append(*f, finding{What: what, Result: resultFail, Advice: advice, Detail: fmt.Sprintf(format, args...)})
}

func (a *app) doctorCommand() *cobra.Command {
	var server serverFlags
	var config, agentConfig, key, passphraseFile string
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "look for what is wrong: configuration, keys, disk, clock, ports, servers",
		Long:    "doctor changes nothing. With --config it looks at a replica's machine, with --agent\nat an agent's, with --server at running servers, with --key at a key file; with\nboth a key or agent and servers also at how the key stands on the ledger.",
		Example: "  quorate doctor --config r1.yaml\n  quorate doctor --agent edge-7.yaml --server https://r1.example:8100 --genesis genesis.cbor\n  quorate doctor --server http://127.0.0.1:7400",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			var f findings
			if config == "" && agentConfig == "" && key == "" && len(a.servers(&server)) == 0 {
				return usage("say --config FILE, --agent FILE, --server URL or --key FILE", "there is nothing to look at")
			}
			a.examineClock(&f)
			var found []*examinedKey
			if key != "" {
				found = append(found, a.examineKey(&f, key, passphraseFile))
				examineBackups(&f, filepath.Dir(key))
			}
			if agentConfig != "" {
				found = append(found, a.examineAgent(&f, agentConfig))
			}
			if config != "" {
				a.examineConfig(c.Context(), &f, config)
			}
			if len(a.servers(&server)) > 0 {
				a.examineServers(c.Context(), &f, &server, found)
			}
			return a.reportFindings(f)
		},
	}
	server.add(c.Flags())
	c.Flags().StringVar(&config, "config", "", "a server's configuration")
	c.Flags().StringVar(&agentConfig, "agent", "", "an agent's configuration")
	c.Flags().StringVar(&key, "key", "", "a key file")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "its passphrase")
	return c
}

func (a *app) reportFindings(f findings) error {
	failed := 0
	for _, x := range f {
		if x.Result == resultFail {
			failed++
		}
	}
	err := a.print([]finding(f), func(w io.Writer) {
		for _, x := range f {
			fmt.Fprintf(w, "%-5s %-12s %s\n", x.Result, x.What, clean(x.Detail))
			if x.Advice != "" {
				fmt.Fprintf(w, "      %-12s %s\n", "", x.Advice)
			}
		}
	})
	if err != nil || failed == 0 {
		return err
	}
	return refused("follow the advice above", "%s failed", plural(failed, "check"))
}

// built is before any clock that is right.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (a *app) examineClock(f *findings) {
	if now := a.now(); now.Before(built) {
		f.fail("clock", "set the clock; run an NTP client", "the clock says %s, which is before this program was written", now.UTC().Format(time.RFC3339))
		return
	}
	f.ok("clock", "%s", a.now().UTC().Format(time.RFC3339))
}

// examineKey opens a key file, and gives what key it is if that can be told.
func (a *app) examineKey(f *findings, path, passphraseFile string) *examinedKey {
	info, err := os.Stat(path)
	if err != nil {
		f.fail("key", "check the path", "%s: %v", path, causeOf(err))
		return nil
	}
	if info.Mode().Perm()&0o077 != 0 {
		f.warn("key", "chmod 600 "+path, "others may read %s (mode %04o)", path, info.Mode().Perm())
	}
	var ask func() ([]byte, error)
	if passphraseFile = a.passphraseFile(passphraseFile); passphraseFile != "" {
		ask = func() ([]byte, error) { return readPassphrase(passphraseFile) }
	}
	file, err := keys.ReadFile(path, ask)
	switch {
	case err == nil:
		f.ok("key", "%s is the key of the %s %s: %s", path, file.Role, file.Name, file.Key.ID().Words())
		return &examinedKey{id: ledger.Hash(file.Key.ID()), name: file.Name, role: file.Role}
	case ask == nil && !errors.Is(err, os.ErrNotExist):
		f.warn("key", "give --passphrase-file to open it", "%v", err)
	default:
		f.fail("key", "see above", "%v", err)
	}
	return nil
}

func (a *app) examineConfig(ctx context.Context, f *findings, path string) {
	c, err := a.loadConfig(path, nil)
	if err != nil {
		f.fail("config", asFailure(err).next, "%v", err)
		return
	}
	f.ok("config", "%s", path)
	a.examineKey(f, c.KeyFile, c.PassphraseFile)
	examineDisk(f, c.Dir)
	g := examineGenesis(f, c)
	_, pin, err := readTLS(c.TLSCertFile, c.TLSKeyFile)
	if err != nil {
		f.fail("tls", asFailure(err).next, "%v", err)
	}
	examineIdentity(ctx, f, c, spiffe.ClientWait)
	running := false
	if conn, err := net.DialTimeout("unix", c.Socket, time.Second); err == nil {
		conn.Close()
		running = true
		f.ok("server", "one runs on %s", c.Socket)
	}
	if !running {
		examinePort(f, "listen", c.Listen)
		examinePort(f, "api.listen", c.API.Listen)
	}
	if g != nil {
		examineSeat(f, c, g, pin)
		examinePeers(ctx, f, c, g)
	}
}

func examineGenesis(f *findings, c *serverConfig) *ledger.Genesis {
	entry, err := readBounded(c.GenesisFile, ledger.MaxEntryBytes)
	if err != nil {
		f.fail("genesis", "copy genesis.cbor from the ceremony", "%s: %v", c.GenesisFile, err)
		return nil
	}
	g, hash, err := ledger.ParseGenesis(entry)
	if err != nil {
		f.fail("genesis", "copy genesis.cbor from the ceremony", "%s: %v", c.GenesisFile, err)
		return nil
	}
	f.ok("genesis", "%s: %s", g.Origin, wordsOf(hash))
	return g
}

// examineSeat compares the configuration with what genesis says of the
// replica; one that was added later is not in it.
func examineSeat(f *findings, c *serverConfig, g *ledger.Genesis, pin [32]byte) {
	for _, r := range g.Replicas {
		if r.Name != c.Name {
			continue
		}
		if pin != [32]byte{} && r.TLSPin != ledger.Hash(pin) {
			f.warn("seat", "use the certificate of the ceremony, unless the replica was re-keyed", "the TLS key is not the one that genesis pins for %s", c.Name)
			return
		}
		f.ok("seat", "genesis names %s of %s at %s", r.Name, r.Operator, r.Peer)
		return
	}
	if len(c.Seeds) == 0 {
		f.warn("seat", "name seeds: the peers to learn the replicas from", "genesis does not name %s, so it must have been added since", c.Name)
		return
	}
	f.ok("seat", "genesis does not name %s; it asks its %d seeds", c.Name, len(c.Seeds))
}

func examinePort(f *findings, key, address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		f.fail(key, "stop what uses it, or choose another address", "%s: %v", address, rootOf(err))
		return
	}
	l.Close()
	f.ok(key, "%s is free", address)
}

func examinePeers(ctx context.Context, f *findings, c *serverConfig, g *ledger.Genesis) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for _, r := range g.Replicas {
		if r.Name == c.Name {
			continue
		}
		conn, err := dialer.DialContext(ctx, "tcp", r.Peer)
		if err != nil {
			f.warn("peer "+r.Name, "start it, or open the way to it", "%s: %v", r.Peer, rootOf(err))
			continue
		}
		conn.Close()
		f.ok("peer "+r.Name, "%s answers", r.Peer)
	}
}

// The disk's limits below which doctor speaks up.
const (
	lowDiskBytes  = 5 << 30
	slowSyncLimit = 50 * time.Millisecond
	syncRounds    = 8
)

func examineDisk(f *findings, dir string) {
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at) // the server makes dir itself
	}
	if free, err := freeBytes(at); err == nil && free < lowDiskBytes {
		f.warn("disk", "make room: a full disk refuses writes, though none is lost", "%d MB free under %s", free>>20, at)
	} else if err == nil {
		f.ok("disk", "%d MB free under %s", free>>20, at)
	}
	file, err := os.CreateTemp(at, ".doctor-*")
	if err != nil {
		f.fail("disk", "give this user the directory", "%s: %v", at, causeOf(err))
		return
	}
	defer os.Remove(file.Name())
	defer file.Close()
	began := time.Now()
	for range syncRounds {
		if _, err := file.Write(make([]byte, 512)); err != nil {
			f.fail("disk", "check the disk", "write in %s: %v", at, causeOf(err))
			return
		}
		if err := file.Sync(); err != nil {
			f.fail("disk", "check the disk", "fsync in %s: %v", at, causeOf(err))
			return
		}
	}
	if each := time.Since(began) / syncRounds; each > slowSyncLimit {
		f.warn("fsync", "use a faster disk: every commit waits for two", "%s each", each.Round(10*time.Microsecond))
	} else {
		f.ok("fsync", "%s each", each.Round(10*time.Microsecond))
	}
}

func (a *app) examineServers(ctx context.Context, f *findings, flags *serverFlags, found []*examinedKey) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := a.connect(ctx, flags)
	if err != nil {
		f.fail("servers", asFailure(err).next, "%v", err)
		return
	}
	defer l.Close()
	leaders := map[string]bool{}
	for _, server := range l.Servers() {
		status, err := l.StatusOf(ctx, server)
		switch {
		case err != nil:
			f.fail("server", "check that it runs, and its log", "%s: %v", server, err)
			continue
		case status.Ledger != l.genesis.String():
			f.fail("server", "compare --genesis", "%s serves the ledger %s", server, status.Ledger)
			continue
		case !status.Ready:
			f.warn("server", "wait: it catches up", "%s, %s, is not ready", server, status.Name)
		case len(status.Alarms) > 0:
			f.warn("server", "quorate operator peers and its log say more", "%s, %s: %v", server, status.Name, status.Alarms)
		default:
			f.ok("server", "%s, %s: %s, applied %d, certified %d", server, status.Name, status.Role, status.Applied, status.Certified)
		}
		if status.Leader != "" {
			leaders[status.Leader] = true
		}
	}
	if len(leaders) == 0 {
		f.fail("leader", "a majority of the replicas must run and reach each other", "no server knows a leader: nothing can be written")
	}
	head, err := l.Sync(ctx)
	if err != nil {
		f.fail("head", "quorate status tells more", "no certified head verifies: %v", err)
		return
	}
	for _, k := range found {
		if k != nil {
			examineKeyOnLedger(ctx, f, l, k)
		}
	}
	age := a.now().Sub(time.Unix(int64(head.Signed), 0))
	limit := time.Minute
	if policy, err := provenRecord[ledger.Policy](ctx, l, "policy"); err == nil && policy != nil {
		limit = time.Duration(policy.MaxHeadAgeMillis) * time.Millisecond
	}
	switch {
	case age > limit:
		f.warn("head", "either this clock is ahead or the replicas do not cosign", "the head of size %d was last signed %s ago", head.Size, age.Round(time.Second))
	case age < -5*time.Second:
		f.warn("clock", "run an NTP client", "the head was signed %s in the future of this clock", (-age).Round(time.Second))
	default:
		f.ok("head", "size %d verifies, signed %s ago", head.Size, max(0, age).Round(time.Second))
	}
}
