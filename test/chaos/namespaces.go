package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/quorate/quorate/test/spacetest"
)

// The run lives in namespaces of its own: see package spacetest.

// outside starts the program again inside and gives its exit code.
func outside(seed uint64) int {
	if tool := spacetest.Missing("ip", "tc", "nft"); tool != "" {
		fmt.Printf("chaos: SKIPPED: %s is missing; `make chaos-tools` installs it\n", tool)
		return 0
	}
	code, err := spacetest.Again(append(os.Args[1:], "--seed", strconv.FormatUint(seed, 10))...)
	if err != nil {
		fmt.Printf("chaos: SKIPPED: %v\n", err)
		return 0
	}
	if code == 130 {
		fmt.Println("chaos: interrupted")
	}
	return code
}
