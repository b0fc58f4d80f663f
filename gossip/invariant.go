package gossip

// invariant stops the program on a mistake of our own. Bad input never gets
// here.
func invariant(holds bool, message string) {
	if !holds {
		panic("gossip: invariant broken: " + message)
	}
}
