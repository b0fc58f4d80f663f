package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/ledger"
)

// Options say which ledger a client follows, and through whom.
type Options struct {
	// Servers are base URLs of replicas, as "https://r1.example:7443". Calls
	// fail over along the list.
	Servers []string

	// Genesis is the genesis hash: the root of trust. When it is zero, nothing
	// can be verified: Sync and the verified reads fail with ErrNoGenesis.
	Genesis ledger.Hash

	// TrustDir keeps the authority chain and the newest verified head from one
	// run to the next. Empty: in memory only, so that a rollback between runs
	// goes unseen.
	TrustDir string

	// MinHead is a certified checkpoint that the ledger must have reached:
	// recency, which genesis alone does not prove.
	MinHead []byte

	// Links are a beginning of the authority chain that is known otherwise, as of
	// a join pack: a server can't show another one. Those that TrustDir holds already
	// are not looked at.
	Links [][]byte

	// MaxHeadAge is how old the newest signature of a head may be before Sync
	// and the reads of records say so with a *StaleError. 0: any age.
	MaxHeadAge time.Duration

	// HTTPClient replaces the client's own; then TLS, RootCAs and Pins have no effect.
	HTTPClient *http.Client
	TLS        *tls.Config    // how servers are verified, of version 1.3; then RootCAs and Pins have no effect
	RootCAs    *x509.CertPool // nil: the system's
	Pins       []ledger.Hash  // SHA-256 of SubjectPublicKeyInfo; replaces the check of names and CAs

	// LearnPins takes, besides Pins, the replicas' own TLS keys as certified state
	// names them, follows them as replicas rotate, and keeps them in TrustDir. Of
	// servers that have certificates of their own it knows nothing.
	LearnPins bool
}

// ErrNoGenesis says that something cannot be verified for want of a genesis hash.
var ErrNoGenesis = errors.New("no genesis hash is given, so nothing can be verified")

// Client talks to the replicas of one ledger. It is safe for concurrent use.
type Client struct {
	options   Options
	servers   []string
	http      *http.Client
	pins      *pins
	preferred atomic.Int64 // index of the server that answered last

	syncing sync.Mutex // guards trust, unkept and small
	trust   *trust
	small   time.Duration // of a try for a checkpoint or a link; 0: smallTimeout
	unkept  error         // why the newest head is not in TrustDir
	head    atomic.Pointer[Head]
	left    atomic.Pointer[LeftHead] // that a recovery left behind
}

// New makes a client. It does not touch the network; what TrustDir holds is
// read by the first Sync, but for the learned pins: a *TrustError when they can't be.
func New(options Options) (*Client, error) {
	servers, err := cleanServers(options.Servers)
	if err != nil {
		return nil, err
	}
	pins, err := loadPins(&options)
	if err != nil {
		return nil, err
	}
	c := &Client{options: options, servers: servers, pins: pins, http: newHTTPClient(options, pins)}
	if options.HTTPClient != nil {
		own := *options.HTTPClient
		c.http = &own
	}
	// A server that sends its clients elsewhere is not one of the list.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Servers are the base URLs that the client uses.
func (c *Client) Servers() []string { return slices.Clone(c.servers) }

func cleanServers(list []string) ([]string, error) {
	if len(list) == 0 || len(list) > maxServers {
		return nil, fmt.Errorf("check servers: want 1 to %d URLs, got %d", maxServers, len(list))
	}
	servers := make([]string, 0, len(list))
	for _, s := range list {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("check servers: %w", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("check servers: %q: want http(s)://host:port", s)
		}
		servers = append(servers, strings.TrimSuffix(u.String(), "/"))
	}
	return servers, nil
}

func newHTTPClient(options Options, pins *pins) *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: options.RootCAs}
	pins.apply(config)
	if options.TLS != nil {
		config = options.TLS.Clone()
		config.MinVersion = tls.VersionTLS13
	}
	transport := &http.Transport{
		TLSClientConfig:       config,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 0, // blocking reads; the context bounds each call
		Proxy:                 http.ProxyFromEnvironment,
	}
	return &http.Client{Transport: transport}
}
