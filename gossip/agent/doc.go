// Package agent runs beside a node: it follows the ledger as certified, probes
// and observes its neighbours, gossips what it and others signed, drops whom
// the ledger or self-proving evidence condemns, and tells other programs.
// DESIGN.md says how its parts fit together.
package agent
