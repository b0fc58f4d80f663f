package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
	"github.com/quorate/quorate/test/stagehand"
)

// thief has copies of a replica's key and TLS key, and speaks in its name: it
// cosigns heads that it made up, sends them to replicas, and shows them to whoever
// asks it.
type thief struct {
	h           *house
	name        string
	key         *keys.PrivateKey
	cosigner    *keys.Cosigner44
	certificate tls.Certificate
	server      *http.Server
	url         string
	shown       atomic.Int64 // false heads to clients
}

// steals copies a replica's keys.
func (h *house) steals(r *replica) (*thief, error) {
	file, err := h.open(filepath.Join(r.keys, r.Name))
	if err != nil {
		return nil, err
	}
	base := filepath.Join(h.Dir, r.keys, r.Name)
	certificate, err := tls.LoadX509KeyPair(base+".tls.crt", base+".tls.key")
	return &thief{h: h, name: r.Name, key: file.Key, cosigner: file.Key.Cosigner44(), certificate: certificate}, err
}

// signs cosigns the newest head, as it is or as it never was: longer by some
// entries, and with another root.
func (t *thief) signs(ctx context.Context, more uint64, truly bool) (*ledger.Checkpoint, error) {
	c, err := t.h.client("", t.h.up()...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	note, err := c.Get(ctx, "checkpoint")
	if err != nil {
		return nil, err
	}
	now, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return nil, err
	}
	head := now.Head
	if !truly {
		head.Size, head.Root = head.Size+more, sha256.Sum256(head.Root[:])
	}
	made := &ledger.Checkpoint{Head: head}
	made.Add(ledger.Cosign(t.h.Genesis, t.key, t.cosigner, t.name, head, uint64(time.Now().Unix())))
	return made, nil
}

// sends gives a cosignature to a replica's peer service, over the channel
// that the stolen TLS key opens; the status is that of the answer.
func (t *thief) sends(ctx context.Context, to *replica, of *ledger.Checkpoint) (int, error) {
	s := of.Cosignatures[0]
	body, err := canon.Marshal(struct {
		ID44    []byte      `json:"id44"`
		ID65    []byte      `json:"id65"`
		MLDSA44 []byte      `json:"mldsa44"`
		MLDSA65 []byte      `json:"mldsa65"`
		Replica string      `json:"replica"`
		Root    ledger.Hash `json:"root"`
		Size    uint64      `json:"size"`
		Time    uint64      `json:"time"`
	}{s.ID44[:], s.ID65[:], s.MLDSA44, s.MLDSA65, s.Replica, of.Head.Root, of.Head.Size, s.Time})
	if err != nil {
		return 0, err
	}
	hc := &http.Client{Timeout: requestLimit, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{t.certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // it does not mind whom it talks to
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+to.Peer+"/cosignature", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	answer, err := hc.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
	return answer.StatusCode, nil
}

// opens serves the API of an honest replica with false heads, at the stolen
// replica's own address and with its TLS key.
func (t *thief) opens(ctx context.Context, at *replica, behind *replica) error {
	target, err := url.Parse(behind.URL())
	if err != nil {
		return err
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}} // a thief's own look at it
	proxy.ErrorLog, proxy.ErrorHandler = nil, func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, q *http.Request) {
		made, err := t.signs(q.Context(), 1, false)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		t.shown.Add(1)
		_, _ = w.Write(made.Note())
	})
	mux.Handle("/", proxy)
	listener, err := tls.Listen("tcp", at.API, &tls.Config{Certificates: []tls.Certificate{t.certificate}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return err
	}
	t.url = at.URL()
	t.server = &http.Server{Handler: mux, ReadHeaderTimeout: requestLimit, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { _ = t.server.Serve(listener) }()
	return nil
}

func (t *thief) close() {
	if t.server != nil {
		_ = t.server.Close()
	}
}

// sendsAll sends every replica a head that will never be, one in the place of the
// newest, and that one, each cosigned with the stolen key, and counts the answers.
func (t *thief) sendsAll(ctx context.Context) (map[string]int, error) {
	h, sent := t.h, map[string]int{}
	for _, r := range h.up() {
		for _, one := range []struct {
			more  uint64
			truly bool
		}{{3, false}, {0, false}, {0, true}} {
			made, err := t.signs(ctx, one.more, one.truly)
			if err != nil {
				return nil, err
			}
			status, err := t.sends(ctx, r, made)
			switch {
			case err != nil:
				sent["no connection"]++
			case status < 300:
				sent["taken in"]++
			default:
				sent[fmt.Sprintf("status %d", status)]++
			}
		}
	}
	return sent, nil
}

// fools tries all that the thief can do, and demands that nobody takes it.
func (t *thief) fools(ctx context.Context, when string) error {
	h := t.h
	sent, err := t.sendsAll(ctx)
	if err != nil {
		return err
	}
	shown := t.shown.Load()
	c, err := client.New(client.Options{Genesis: h.Genesis, Pins: h.Pins, Servers: []string{t.url}})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Sync(ctx)
	h.Demand(err != nil, "%s: a client took the thief's head", when)
	status := h.Command(ctx, "status", "--server", t.url)
	h.Demand(status.Code != 0 || !strings.Contains(status.Out, "verified"), "%s: status took the thief's head: %.200s", when, status.Out)
	export := h.Command(ctx, "export", "--server", t.url, "--out", "stolen-"+strings.Fields(when)[0])
	h.Demand(export.Code != 0, "%s: export took the thief's head", when)
	h.Demand(t.shown.Load() > shown, "%s: nobody was shown anything", when)
	h.Says("the thief", "%s: its cosignatures at the replicas: %v; a client: %.140s", when, sent, err)
	return nil
}

// uncounted demands that no head which is certified now bears a line of the stolen
// key, though it was sent true ones, and waits until replicas refuse its channel:
// whoever left may still ask them for a while, since it may not know that it left.
func (t *thief) uncounted(ctx context.Context) error {
	h := t.h
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	// The head of the handover itself is its old set's last; those after it count.
	last, err := c.Sync(ctx)
	if err != nil {
		return err
	}
	head := last
	if err := stagehand.Await(ctx, patience, "a head follows the handover's", func() bool {
		if _, err = t.sendsAll(ctx); err == nil {
			head, err = c.Sync(ctx)
		}
		return err == nil && head.Size > last.Size
	}); err != nil {
		return err
	}
	note, err := ledger.ParseCheckpoint(head.Note)
	if err != nil {
		return err
	}
	for _, s := range note.Cosignatures {
		h.Demand(s.Replica != t.name, "the certified head of size %d bears a line of the stolen key", head.Size)
	}
	began, sent := time.Now(), map[string]int{}
	if err := stagehand.Await(ctx, channelLimit, "replicas refuse the stolen channel", func() bool {
		sent, err = t.sendsAll(ctx)
		return err == nil && sent["taken in"] == 0
	}); err != nil {
		return fmt.Errorf("%w: %v", err, sent)
	}
	h.Says("replicas", "the head of size %d, after the handover, bears no line of the stolen key, though it was offered one; its channel is refused by all, %.1f s after: %v",
		head.Size, time.Since(began).Seconds(), sent)
	return nil
}

// replicaKeyStolen: what the thief signs alone never counts, and from the decision
// on nobody listens to it at all; the replica comes back under new keys.
func replicaKeyStolen(ctx context.Context, h *house) error {
	r := h.replica("r4")
	t, err := h.steals(r)
	if err != nil {
		return err
	}
	defer t.close()
	h.stop(r.Name, &r.Process, syscall.SIGKILL) // the thief has the machine
	if err := t.opens(ctx, r, h.up()[0]); err != nil {
		return err
	}
	if err := t.fools(ctx, "before the decision"); err != nil {
		return err
	}
	if err := h.forkProven(ctx, r.Name); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(h.Dir, "ledger", "r4"), filepath.Join(h.Dir, "ledger", "r4.before")); err != nil {
		return err
	}
	// The owner makes new keys, on another machine.
	old := t.key.ID()
	r.keys = "fresh"
	if err := h.keygen(ctx, r.keys, "replica", r.Name, r.Operator, "--peer", r.Peer, "--api", r.URL()); err != nil {
		return err
	}
	authority, err := h.authority(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.decides(ctx, three, "replica.rekey", "replica=@fresh/r4.pub"); err != nil {
		return err
	}
	if err := h.handedOver(ctx, authority); err != nil {
		return err
	}
	h.Says("council", "replica.rekey: handed over after %.1f s", time.Since(began).Seconds())
	if err := t.fools(ctx, "after the decision"); err != nil {
		return err
	}
	if err := t.uncounted(ctx); err != nil {
		return err
	}
	t.close()
	if err := h.joins(ctx, r); err != nil {
		return err
	}
	h.Says("the replica", "r4 is back under new keys, from an empty disk, and cosigns, %.1f s after the proposal", time.Since(began).Seconds())
	c, err := h.client("", h.up()...)
	if err != nil {
		return err
	}
	defer c.Close()
	was, err := c.Key(ctx, old.String(), client.Read{Consistency: client.Certified})
	if err != nil {
		return err
	}
	h.Demand(was.Revoked, "the stolen key's record says %+v", was)
	return stagehand.Await(ctx, patience, "no replica alarms of a fork any more", func() bool {
		for _, one := range h.up() {
			status, err := c.StatusOf(ctx, one.URL())
			if err != nil || strings.Contains(strings.Join(status.Alarms, " "), "fork") {
				return false
			}
		}
		return true
	})
}

// forkProven waits until a replica has the proof that two histories bear the
// signature of one key.
func (h *house) forkProven(ctx context.Context, name string) error {
	var seen []string
	err := stagehand.Await(ctx, patience, "a replica has a proof of the fork", func() bool {
		seen = nil
		for _, r := range h.up() {
			a := h.Command(ctx, "operator", "forks", "--config", filepath.Join("ledger", r.Name+".yaml"))
			if a.Code == 0 && strings.Contains(a.Out, name) {
				seen = append(seen, r.Name)
			}
		}
		return len(seen) > 0
	})
	if err == nil {
		h.Says("replicas", "%s have evidence that %s signed a history that never was", strings.Join(seen, ", "), name)
	}
	return err
}
