// Command quorate is the shared ledger of what the operators of a fleet
// decided: one binary that wires the rooms of this repository together.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
