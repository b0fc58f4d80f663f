package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/api/spiffe"
	"github.com/quorate/quorate/ledger"
)

const (
	maxGenesisBytes = ledger.MaxEntryBytes
	maxCABytes      = 1 << 20
)

// serverFlags say which ledger, through whom.
type serverFlags struct {
	servers  []string
	genesis  string
	trustDir string
	caFile   string
	pins     []string
	atLeast  string
	minHead  []byte // a certified checkpoint, as atLeast names one
	replay   bool
	timeout  time.Duration
	spiffe   spiffeFlags
}

func (f *serverFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.servers, "server", nil, "URLs of replicas, with commas; calls fail over (or QUORATE_SERVER)")
	f.addGenesis(flags)
	flags.DurationVar(&f.timeout, "timeout", patience, "give up after this long")
	flags.StringVar(&f.trustDir, "trust-dir", "", "where the newest verified head is kept (or QUORATE_TRUST_DIR)")
	flags.StringVar(&f.caFile, "ca-file", "", "CA certificates of the servers, PEM")
	flags.StringSliceVar(&f.pins, "tls-pin", nil, "SHA-256 of the servers' TLS keys, hex, instead of CA certificates")
	f.spiffe.add(flags)
	flags.StringVar(&f.atLeast, "at-least", "", "a certified checkpoint that the ledger must have reached")
}

func (f *serverFlags) addReplay(flags *pflag.FlagSet) {
	flags.BoolVar(&f.replay, "replay", false, fmt.Sprintf("derive the effect here from every entry, also on a ledger of more than %d", replayEntries))
}

func (f *serverFlags) addGenesis(flags *pflag.FlagSet) {
	flags.StringVar(&f.genesis, "genesis", "", "the genesis hash, a file that holds it, or genesis.cbor (or QUORATE_GENESIS)")
}

// pinned is the ledger that the user trusts.
type pinned struct {
	hash    ledger.Hash
	genesis *ledger.Genesis // known when genesis.cbor was given
}

// readGenesis reads --genesis: a hash, a file that holds one, or entry 0. With
// none given it returns nil.
func (a *app) readGenesis(text string) (*pinned, error) {
	if text == "" {
		text = a.getenv("QUORATE_GENESIS")
	}
	if text == "" {
		return nil, nil
	}
	if hash, err := ledger.ParseHash(text); err == nil {
		return &pinned{hash: hash}, nil
	}
	data, err := readBounded(text, maxGenesisBytes)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(text, "/.") {
			return nil, usage("it has 64 hex digits; quorate init wrote it into the file genesis", "--genesis %q is neither a hash nor a file", text)
		}
		return nil, wrongFile("check --genesis", "read %s: %w", text, err)
	}
	if hash, err := ledger.ParseHash(strings.TrimSpace(string(data))); err == nil {
		return &pinned{hash: hash}, nil
	}
	g, hash, err := ledger.ParseGenesis(data)
	if err != nil {
		return nil, wrongFile("name the file genesis or genesis.cbor of the ceremony", "%s holds neither a genesis hash nor entry 0: %w", text, err)
	}
	return &pinned{hash: hash, genesis: g}, nil
}

// requireGenesis is readGenesis where nothing can be done without it.
func (a *app) requireGenesis(text string) (*pinned, error) {
	p, err := a.readGenesis(text)
	if err == nil && p == nil {
		err = usage("say --genesis HEX or --genesis FILE; compare its twelve words with another governor", "the genesis hash is missing, and it is the only trust that verification has")
	}
	return p, err
}

// link is a connection to one ledger.
type link struct {
	*client.Client
	genesis ledger.Hash
	replay  bool // derive effects here whatever the size

	identity *spiffe.Source // nil without a Workload API
}

// Close closes idle connections and the identity.
func (l *link) Close() {
	l.Client.Close()
	_ = l.identity.Close()
}

// connect makes a client that verifies from the genesis hash. On loopback a
// missing hash is taken from the server, with a word about it; elsewhere that
// is refused, because whoever answers could then name any ledger.
func (a *app) connect(ctx context.Context, f *serverFlags) (l *link, err error) {
	servers := a.servers(f)
	if len(servers) == 0 {
		return nil, usage("say --server URL[,URL], or set QUORATE_SERVER; quorate dev prints them", "no server is named")
	}
	trusted, err := a.readGenesis(f.genesis)
	if err != nil {
		return nil, err
	}
	options, err := a.clientOptions(f, servers, trusted)
	if err != nil {
		return nil, err
	}
	identity, err := a.clientIdentity(ctx, f, servers, options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = identity.Close()
		}
	}()
	if trusted == nil {
		if trusted, err = a.takeGenesis(ctx, servers, *options); err != nil {
			return nil, err
		}
		options.Genesis = trusted.hash
	}
	c, err := client.New(*options)
	if errors.As(err, new(*client.TrustError)) {
		return nil, err
	}
	if err != nil {
		return nil, usage("say --server http(s)://host:port", "%w", err)
	}
	return &link{Client: c, genesis: trusted.hash, replay: f.replay, identity: identity}, nil
}

func (a *app) servers(f *serverFlags) []string {
	if len(f.servers) > 0 {
		return f.servers
	}
	if text := a.getenv("QUORATE_SERVER"); text != "" {
		return strings.Split(text, ",")
	}
	return nil
}

func (a *app) clientOptions(f *serverFlags, servers []string, trusted *pinned) (*client.Options, error) {
	options := &client.Options{Servers: servers}
	for _, text := range f.pins {
		pin, err := ledger.ParseHash(text)
		if err != nil {
			return nil, usage("it has 64 hex digits", "--tls-pin: %w", err)
		}
		options.Pins = append(options.Pins, pin)
	}
	if f.caFile != "" {
		pem, err := readBounded(f.caFile, maxCABytes)
		if err != nil {
			return nil, wrongFile("check --ca-file", "read %s: %w", f.caFile, err)
		}
		options.RootCAs = x509.NewCertPool()
		if !options.RootCAs.AppendCertsFromPEM(pem) {
			return nil, wrongFile("give PEM certificates", "%s holds no certificate", f.caFile)
		}
	}
	if f.atLeast != "" {
		note, err := readBounded(f.atLeast, ledger.MaxCheckpointBytes)
		if err != nil {
			return nil, wrongFile("check --at-least", "read %s: %w", f.atLeast, err)
		}
		options.MinHead = note
	}
	if f.minHead != nil {
		options.MinHead = f.minHead
	}
	if trusted != nil {
		options.Genesis = trusted.hash
		options.TrustDir = a.trustDir(f.trustDir)
		// With entry 0 at hand and nothing said about certificates, the
		// replicas' own keys are what to expect: the founding ones' until the
		// present ones' are learned. A pin that is given is the whole answer.
		options.LearnPins = trusted.genesis != nil && f.caFile == "" && len(options.Pins) == 0
		if options.LearnPins && !client.HasPins(options.TrustDir, trusted.hash) {
			for _, r := range trusted.genesis.Replicas {
				options.Pins = append(options.Pins, r.TLSPin)
			}
		}
	}
	return options, nil
}

// trustDir is where the newest verified head is kept from run to run; empty
// when there is no place for it.
func (a *app) trustDir(flag string) string {
	if flag != "" {
		return flag
	}
	if dir := a.getenv("QUORATE_TRUST_DIR"); dir != "" {
		return dir
	}
	if dir := a.getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "quorate")
	}
	if home := a.getenv("HOME"); filepath.IsAbs(home) {
		if info, err := os.Stat(home); err == nil && info.IsDir() {
			return filepath.Join(home, ".local", "state", "quorate")
		}
	}
	return ""
}

// takeGenesis asks servers on loopback which ledger they serve.
func (a *app) takeGenesis(ctx context.Context, servers []string, options client.Options) (*pinned, error) {
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || !isLoopback(u.Host) {
			return nil, usage("say --genesis HEX or set QUORATE_GENESIS: whoever answers could otherwise name any ledger", "which ledger is %s to be? its genesis hash is missing", s)
		}
	}
	c, err := client.New(options)
	if err != nil {
		return nil, usage("say --server http(s)://host:port", "%w", err)
	}
	defer c.Close()
	g, hash, err := c.Genesis(ctx)
	if err != nil {
		return nil, unreachable(servers, err)
	}
	a.note("note: taking the server's word for the ledger %s… because it is on loopback; --genesis pins it", hash.String()[:16])
	return &pinned{hash: hash, genesis: g}, nil
}

// unreachable adds the next step to an error of the network or of the API.
func unreachable(servers []string, err error) error {
	var p *client.Problem
	if errors.As(err, &p) {
		return rejected(err)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	var failed *failure
	if errors.As(err, &failed) {
		return err
	}
	if refusal := identityRefused(servers, err); refusal != nil {
		return refusal
	}
	if errors.As(err, new(*client.PinError)) {
		return refused("give --genesis genesis.cbor and no --tls-pin, so that the ledger says which keys the replicas have; for a server with a certificate of its own, --ca-file",
			"%s shows a TLS key that is not one to expect: %w", strings.Join(servers, ", "), err)
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return refused("give --genesis genesis.cbor, whose pins are those of the founding replicas, or --tls-pin or --ca-file",
			"the server's certificate is not one to trust: %w", cert.Err)
	}
	return refused("check that a replica runs there; quorate doctor --server URL looks closer", "ask %s: %w", strings.Join(servers, ", "), err)
}

// rejected turns an answer of the API or of the verifying client into a
// failure that says what to do.
func rejected(err error) error {
	var p *client.Problem
	if !errors.As(err, &p) {
		return err
	}
	code, detail, at := p.Code, p.Detail, p.Path
	for _, s := range p.Statements {
		if s.Verdict != "ok" && s.Verdict != "bundle_rejected" {
			code, detail, at = s.Verdict, orText(s.Detail, detail), orText(s.Path, at)
			break
		}
	}
	text := code
	if at != "" {
		text += " at " + at
	}
	if detail != "" {
		text += ": " + detail
	}
	f := &failure{exit: exitRefused, code: code, cause: fmt.Errorf("refused: %s", text), next: nextStep(code)}
	if f.next == "" && p.RetryAfter > 0 {
		f.next = fmt.Sprintf("nothing was acknowledged; try again in %s", p.RetryAfter)
	}
	return f
}

// patience bounds a command that talks to servers.
const patience = 2 * time.Minute

// withServer gives a command its connection and closes it afterwards.
func (a *app) withServer(c *cobra.Command, f *serverFlags, run func(ctx context.Context, l *link) error) error {
	return a.withServerContext(c.Context(), f, run)
}

func (a *app) withServerContext(ctx context.Context, f *serverFlags, run func(ctx context.Context, l *link) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	l, err := a.connect(ctx, f)
	if err != nil {
		return err
	}
	defer l.Close()
	defer a.sayLeft(l)
	if err := run(ctx, l); err != nil {
		return l.explain(err)
	}
	return nil
}

// sayLeft says, beside whatever was asked, that a recovery left behind what this
// trust folder had verified.
func (a *app) sayLeft(l *link) {
	if left := l.Left(); left != nil {
		a.note("note: the ledger was recovered as generation %d and goes on from size %d; size %d, verified here before, is of the branch that was left, and what only that has is lost (its note is left-%d in the trust folder; remove it once that is seen to)",
			left.Generation, left.Fork.Size, left.Size, left.Size)
	}
}

// explain gives errors of the client their next step.
func (l *link) explain(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	var p *client.Problem
	if errors.As(err, &p) {
		return rejected(err)
	}
	var across *client.RecoveredError
	if errors.As(err, &across) {
		return refused("deploy/playbooks/lost-quorum.md says what a client does after a recovery", "%w", err)
	}
	// Not any error with Timeout: those of files have it too.
	if errors.As(err, new(*client.PinError)) || errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(*url.Error)) ||
		errors.As(err, new(*net.OpError)) || errors.Is(err, context.DeadlineExceeded) {
		return unreachable(l.Servers(), err)
	}
	return err
}

// parseID reads a statement id as people give it.
func parseID(text string) (ledger.Hash, error) {
	id, err := ledger.ParseHash(strings.ToLower(text))
	if err != nil {
		return id, usage("it has 64 hex digits; quorate list proposals shows them", "%q is no proposal id", text)
	}
	return id, nil
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
