package main

import "testing"

// Every node of a fleet rotates in one epoch, and what is said of that is no more
// than the ledger has.
func TestRotationOfAFleet(t *testing.T) {
	r, err := rotationOf(100)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *r)
	if r.Entries < 100 || float64(r.Bytes) < 100*r.RotationBytes || r.RotationBytes < 10_000 || r.BackupBytes < 4_000 {
		t.Errorf("%d entries of %d bytes, %.0f each", r.Entries, r.Bytes, r.RotationBytes)
	}
	if r.Growth[0].Megabytes <= r.Growth[1].Megabytes {
		t.Error("keys that last longer add no less")
	}
}
