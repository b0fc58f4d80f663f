// Package client talks to the REST API of a ledger's replicas and trusts none
// of them. Its root of trust is the genesis hash (and, for recency, the newest
// head that it ever verified, kept on disk): from there it walks the authority
// chain, accepts only certified checkpoints that are consistent with what it
// saw before, and checks inclusion and state proofs of what decisions rest on.
//
// The answers of the API are the Go structs of this package, shared with
// package api. In them hashes (statement ids, key ids, entry hashes) are
// lower-case hex, keys and signatures unpadded base64url, times milliseconds
// since 1970 unless a name says otherwise.
package client
