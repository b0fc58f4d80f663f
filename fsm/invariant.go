package fsm

// invariant stops the program on a mistake of our own, so that a replica stops
// rather than diverges. Bad input never gets here.
func invariant(cond bool, msg string) {
	if !cond {
		panic("fsm: invariant broken: " + msg)
	}
}
