package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/api/spiffe"
)

// spiffeConfig is where the certificate of the API comes from, if not from
// files. It is of no meaning for the ledger: who may decide is a matter of
// signatures alone.
type spiffeConfig struct {
	WorkloadAPI spiffe.Address `yaml:"workload_api"` // unix:///path
	Authorize   []spiffe.Name  `yaml:"authorize"`    // ids and trust domains of clients; none: any client
}

// keyError is a key of the configuration that does not go with the others.
type keyError struct{ key, problem string }

func (e *keyError) Error() string { return e.key + ": " + e.problem }

// in names the file, and the line at which it says the key. What comes from a
// flag or the environment has none.
func (e *keyError) in(path string) error {
	wrong := &yamlError{File: path, Key: e.key, Problem: e.problem}
	data, err := readBounded(path, maxYAMLBytes)
	var doc yaml.Node
	if err != nil || yaml.Unmarshal(data, &doc) != nil || len(doc.Content) == 0 {
		return wrong
	}
	at, line := doc.Content[0], 0
	for _, part := range strings.Split(e.key, ".") {
		i := 0
		for i+1 < len(at.Content) && at.Content[i].Value != part {
			i += 2
		}
		if i+1 >= len(at.Content) {
			return wrong
		}
		line, at = at.Content[i].Line, at.Content[i+1]
	}
	wrong.Line = line
	return wrong
}

// checkSPIFFE says what cannot stand beside it.
func (c *apiConfig) checkSPIFFE() error {
	const prefix = "api.spiffe.workload_api"
	switch {
	case c.SPIFFE.WorkloadAPI == "" && len(c.SPIFFE.Authorize) > 0:
		return &keyError{"api.spiffe.authorize", "give it together with " + prefix}
	case c.SPIFFE.WorkloadAPI == "":
		return nil
	case c.InsecureLoopback:
		return &keyError{prefix, "it gives a TLS certificate, and api.insecure_loopback is plain HTTP: choose one"}
	case c.TLSCertFile != "" || c.TLSKeyFile != "":
		return &keyError{prefix, "it gives the certificate that api.tls_cert_file and api.tls_key_file give: choose one"}
	}
	return nil
}

// openIdentity waits for the API's certificate; nil when it comes from files.
func openIdentity(ctx context.Context, c *serverConfig, wait time.Duration, logger *slog.Logger) (*spiffe.Source, error) {
	if c.API.SPIFFE.WorkloadAPI == "" {
		return nil, nil
	}
	source, err := spiffe.Open(ctx, c.API.SPIFFE.WorkloadAPI, wait, logger)
	if err != nil {
		return nil, noIdentity(err, "or remove api.spiffe, so that the replica's own certificate serves")
	}
	id, until := source.ID()
	logger.Info("the API has a SPIFFE identity", slog.String("spiffe_id", id), slog.Time("until", until))
	return source, nil
}

// examineIdentity is doctor's look at the Workload API.
func examineIdentity(ctx context.Context, f *findings, c *serverConfig, wait time.Duration) {
	source, err := openIdentity(ctx, c, wait, slog.New(slog.DiscardHandler))
	if err != nil {
		f.fail("spiffe", asFailure(err).next, "%v", err)
		return
	}
	if source == nil {
		return
	}
	defer source.Close()
	id, until := source.ID()
	f.ok("spiffe", "%s, until %s", id, until.UTC().Format(time.RFC3339))
}

// noIdentity says what to do about a Workload API that gives no SVID.
func noIdentity(err error, otherwise string) error {
	var away *spiffe.SourceError
	switch {
	case errors.Is(err, spiffe.ErrNoIdentity):
		return refused("register this process with SPIRE (spire-server entry create), "+otherwise, "%w", err)
	case errors.As(err, &away):
		return refused("start the SPIRE agent, and check the path of its socket and that this user may open it, "+otherwise, "%w", err)
	}
	return err
}

// spiffeFlags let a command show its own SVID and take servers by SPIFFE id.
type spiffeFlags struct {
	workloadAPI string
	servers     []string
}

func (f *spiffeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.workloadAPI, "workload-api", "", "SPIFFE Workload API, unix:///path, for this client's TLS identity (or QUORATE_WORKLOAD_API)")
	flags.StringSliceVar(&f.servers, "server-spiffe-id", nil, "SPIFFE ids that the servers must prove, with commas (or QUORATE_SERVER_SPIFFE_ID)")
}

// clientIdentity opens the Workload API that the flags or the environment name;
// nil when none is named. The flags of f say what else would verify servers.
func (a *app) clientIdentity(ctx context.Context, f *serverFlags, servers []string, options *client.Options) (*spiffe.Source, error) {
	text, ids := f.spiffe.workloadAPI, f.spiffe.servers
	if text == "" {
		text = a.getenv("QUORATE_WORKLOAD_API")
	}
	if list := a.getenv("QUORATE_SERVER_SPIFFE_ID"); len(ids) == 0 && list != "" {
		ids = strings.Split(list, ",")
	}
	if text == "" {
		if len(f.spiffe.servers) > 0 {
			return nil, usage("say --workload-api unix:///path too", "--server-spiffe-id needs a Workload API, whose trust bundle verifies it")
		}
		return nil, nil
	}
	var address spiffe.Address
	if err := address.UnmarshalText([]byte(text)); err != nil {
		return nil, usage("SPIRE's default is unix:///tmp/spire-agent/public/api.sock", "--workload-api: %w", err)
	}
	names, err := serverNames(ids)
	if err != nil {
		return nil, err
	}
	if f.caFile != "" || len(f.pins) > 0 {
		return nil, usage("choose one", "--workload-api verifies servers by SPIFFE id, --ca-file and --tls-pin otherwise")
	}
	for _, s := range servers {
		if u, err := url.Parse(strings.TrimSpace(s)); err != nil || u.Scheme != "https" {
			return nil, usage("say https://, or leave out --workload-api and unset QUORATE_WORKLOAD_API", "there is no SPIFFE id to verify at %s", s)
		}
	}
	source, err := spiffe.Open(ctx, address, spiffe.ClientWait, nil)
	if err != nil {
		return nil, noIdentity(err, "or leave out --workload-api")
	}
	if options.TLS, err = source.ClientTLS(names); err != nil {
		return nil, errors.Join(err, source.Close())
	}
	options.Pins = nil // those of genesis are the keys of other certificates
	return source, nil
}

// serverNames reads the ids of servers. A trust domain is none: every workload
// of it could then pose as the server.
func serverNames(ids []string) ([]spiffe.Name, error) {
	if len(ids) == 0 {
		return nil, usage("say --server-spiffe-id spiffe://trust-domain/path, or set QUORATE_SERVER_SPIFFE_ID", "with a Workload API, the SPIFFE id of the servers is missing")
	}
	names := make([]spiffe.Name, len(ids))
	for i, id := range ids {
		if err := names[i].UnmarshalText([]byte(id)); err != nil {
			return nil, usage("correct it", "--server-spiffe-id: %w", err)
		}
		if names[i].TrustDomain() {
			return nil, usage("give the whole id: every workload of the trust domain could otherwise pose as the server", "--server-spiffe-id: %s is a trust domain", id)
		}
	}
	return names, nil
}

// identityRefused tells the failures of a handshake that are a matter of who
// is who; nil when err is none of them.
func identityRefused(servers []string, err error) error {
	var peer *spiffe.PeerError
	if errors.As(err, &peer) {
		return refused("compare --server-spiffe-id with the id of the server's SVID; if it is right, somebody else answers there",
			"ask %s: the server's SVID is not one to trust: %w", strings.Join(servers, ", "), peer.Err)
	}
	// A TLS 1.3 server refuses a client's certificate after the client believes
	// the handshake done: whether the alert is read, or the write finds the
	// connection closed, is a matter of which comes first.
	var op *net.OpError
	closed := errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	if errors.As(err, &op) && (op.Op == "remote error" || closed && strings.HasPrefix(servers[0], "https://")) {
		return refused("the server may ask for SPIFFE ids: say --workload-api, and have this client's id listed in the server's api.spiffe.authorize",
			"ask %s: it ended the connection, as it does when it refuses this client's certificate: %w", strings.Join(servers, ", "), op.Err)
	}
	return nil
}
