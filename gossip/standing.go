package gossip

// Worse gives the more severe of two standings. A node that only one history
// knows ("") has that history's.
func Worse(a, b string) string {
	if severity(b) > severity(a) {
		return b
	}
	return a
}

func severity(standing string) int {
	switch standing {
	case "":
		return 0
	case Active:
		return 1
	case Quarantined:
		return 2
	}
	return 3 // excluded, and what a newer format may add
}

// Unite gives, by node, the worse of its standings in two histories: while two
// certified histories contradict each other, whoever one of them quarantined
// stays so, and no release of either is taken.
func Unite(ours, theirs map[string]string) map[string]string {
	united := make(map[string]string, len(ours))
	for name, standing := range ours {
		united[name] = standing
	}
	for name, standing := range theirs {
		united[name] = Worse(united[name], standing)
	}
	return united
}
