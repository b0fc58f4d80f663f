package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/quorate/quorate/ledger/canon"
	"github.com/quorate/quorate/ledger/keys"
)

// brokenSigner is a program that scripts have in their path: a signer that is
// wrong in one way. brokensigner wrongkey|garbage|hangs|silent FILE.key
func brokenSigner() {
	file, err := keys.ReadFile(os.Args[2], nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	good, err := newSignerServer(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := keys.ReadSignerLine(in)
		if err != nil && !errors.Is(err, keys.ErrLongLine) {
			return
		}
		answer := good.answer(context.Background(), line)
		switch r, _ := keys.ParseSignerRequest(line); os.Args[1] {
		case "garbage": // of the right form, and no signature
			if r != nil && r.Op == keys.SignerSign && answer.Error == nil {
				answer.OK, _ = canon.Marshal(keys.SignerSignature{Signature: make([]byte, keys.SignatureSize)})
			}
		case "wrongkey": // signs whatever it is given, with another key than it says
			if r != nil && r.Op == keys.SignerSign {
				other, _ := keys.Generate()
				answer.Error = nil
				answer.OK, _ = canon.Marshal(keys.SignerSignature{Signature: other.Sign(r.Message)})
			}
		case "hangs": // also when its input ends
			time.Sleep(time.Minute)
		case "silent": // says what is no answer
			fmt.Println("hello there")
			continue
		}
		text, err := canon.Marshal(answer)
		if err != nil {
			return
		}
		fmt.Println(string(text))
	}
}
