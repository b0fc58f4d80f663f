// Package model is a fleet of up to some thousand nodes in virtual time: how
// long a verdict takes from the first evidence to every honest agent, and what
// gossip costs a node. The rules, the judging, the duties and the bytes of
// statements are the real ones; the network, GossipSub and the replicas are
// modelled. DESIGN.md says which is which, and what the tables mean.
//
// Everything happens in one goroutine, in an order that the seed alone
// decides.
package model
