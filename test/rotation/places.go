package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/spacetest"
	"github.com/quorate/quorate/test/stagehand"
)

// Where the processes are: each in a network namespace of its own, on lines that this
// program passes packets along, and may part; or, where a machine gives none, all on
// loopback.

// places are those of a run.
type places struct {
	lines *spacetest.Lines // nil: on loopback
	why   error            // there are none
	port  int              // on loopback: the first of the fleet's
}

const (
	gossipPort = 7300
	peerPort   = 7301
	apiPort    = 7302
)

func nodeName(i int) string    { return fmt.Sprintf("n%02d", i+1) }
func replicaName(i int) string { return fmt.Sprintf("r%d", i+1) }

func nodeAddress(i int) string    { return fmt.Sprintf("10.77.1.%d", i+1) }
func replicaAddress(i int) string { return fmt.Sprintf("10.77.2.%d", i+1) }

// within runs this program again in namespaces, and gives its exit code; why there are
// none otherwise.
func within() (code int, why error) {
	if tool := spacetest.Missing("ip"); tool != "" {
		return 0, fmt.Errorf("%s is missing; `make chaos-tools` installs it", tool)
	}
	return spacetest.Again(os.Args[1:]...)
}

// takePlaces finds them: on lines within namespaces, else on loopback, because of why.
func takePlaces(why error) (p places, err error) {
	if why == nil {
		p.lines, why = drawLines()
	}
	if p.lines != nil {
		return p, nil
	}
	p.why = why
	p.port, err = freeport.Find(2*replicasOfFleet + nodesOfFleet)
	return p, err
}

func drawLines() (*spacetest.Lines, error) {
	dir, inside := spacetest.Inside()
	if !inside {
		return nil, errors.New("this is for the program itself")
	}
	if _, err := spacetest.Furnish(dir); err != nil {
		return nil, fmt.Errorf("this machine lacks something that the namespaces need: %w", err)
	}
	addresses := map[string]string{}
	for i := range nodesOfFleet {
		addresses[nodeName(i)] = nodeAddress(i)
	}
	for i := range replicasOfFleet {
		addresses[replicaName(i)] = replicaAddress(i)
	}
	lines, err := spacetest.NewLines(spacetest.Line{Parts: true}, addresses)
	if err != nil {
		return nil, fmt.Errorf("this machine makes no lines: %w", err)
	}
	return lines, nil
}

// listen is where a node's agent listens for gossip.
func (p *places) listen(i int) string {
	if p.lines == nil {
		return fmt.Sprintf("127.0.0.1:%d", p.port+2*replicasOfFleet+i)
	}
	return fmt.Sprintf("%s:%d", nodeAddress(i), gossipPort)
}

// replica is the i-th replica, at its place.
func (p *places) replica(i int, operator string) *stagehand.Replica {
	r := &stagehand.Replica{Name: replicaName(i), Operator: operator}
	if p.lines == nil {
		r.Peer, r.API = fmt.Sprintf("127.0.0.1:%d", p.port+2*i), fmt.Sprintf("127.0.0.1:%d", p.port+2*i+1)
	} else {
		r.Peer, r.API = fmt.Sprintf("%s:%d", replicaAddress(i), peerPort), fmt.Sprintf("%s:%d", replicaAddress(i), apiPort)
	}
	return r
}

// parts cuts some nodes and replicas, by number, off from all others, which this program
// still reaches.
func (p *places) parts(nodes, replicas []int) error {
	var sides [2][]string
	for i := range nodesOfFleet {
		side := sideOf(nodes, i)
		sides[side] = append(sides[side], nodeAddress(i))
	}
	for i := range replicasOfFleet {
		side := sideOf(replicas, i)
		sides[side] = append(sides[side], replicaAddress(i))
	}
	return p.lines.Part(sides[0], sides[1])
}

func sideOf(list []int, i int) int {
	if slices.Contains(list, i) {
		return 1
	}
	return 0
}

func (p *places) leave() error {
	if p.lines == nil {
		return nil
	}
	return p.lines.Close()
}
