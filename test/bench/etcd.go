package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/test/freeport"
)

// etcdCluster is etcd's own three processes on loopback: fsync on, no TLS, every
// setting its default but the names and places.
type etcdCluster struct {
	load      string // the load generator, of the nested module
	endpoints []string
	children  []*process
}

func startEtcd(ctx context.Context, load, dir string, nodes int) (*etcdCluster, error) {
	port, err := freeport.Find(2 * nodes)
	if err != nil {
		return nil, err
	}
	e := &etcdCluster{load: load}
	var initial []string
	for i := range nodes {
		initial = append(initial, fmt.Sprintf("e%d=http://127.0.0.1:%d", i, port+2*i))
	}
	for i := range nodes {
		peer, url := fmt.Sprintf("http://127.0.0.1:%d", port+2*i), fmt.Sprintf("http://127.0.0.1:%d", port+2*i+1)
		name := fmt.Sprintf("e%d", i)
		child, err := start("etcd "+name, "etcd", "--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error",
			"--quota-backend-bytes", "8589934592")
		if err != nil {
			return e, err
		}
		e.children = append(e.children, child)
		e.endpoints = append(e.endpoints, url)
	}
	return e, await(ctx, startLimit, func() error {
		for _, child := range e.children {
			if err := child.ended(); err != nil {
				return fatal(err)
			}
		}
		out, err := exec.CommandContext(ctx, load, "--endpoints", strings.Join(e.endpoints, ","), "--probe").CombinedOutput()
		if err != nil {
			return fmt.Errorf("probe etcd: %w: %s", err, out)
		}
		return nil
	})
}

func (e *etcdCluster) stop() error {
	if e == nil {
		return nil
	}
	return stopAll(e.children)
}

// drive puts values for so long, at the leader.
func (e *etcdCluster) drive(ctx context.Context, clients, size int, warm, limit time.Duration) (*cell, error) {
	ctx, cancel := context.WithTimeout(ctx, warm+limit+time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, e.load, "--endpoints", strings.Join(e.endpoints, ","), "--clients", fmt.Sprint(clients),
		"--size", fmt.Sprint(size), "--warm", warm.String(), "--for", limit.String())
	cmd.Stderr = &stderr
	before, began := cpuOf(e.children), time.Now()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("drive etcd: %w\n%s", err, stderr.String())
	}
	var c cell
	if err := json.Unmarshal(out, &c); err != nil {
		return nil, fmt.Errorf("drive etcd: %w", err)
	}
	c.ServersUS = float64((cpuOf(e.children) - before).Microseconds()) / (c.PerSecond * min(time.Since(began), warm+limit).Seconds())
	return &c, nil
}
