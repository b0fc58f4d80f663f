package main

// nodeStages are the attacks of nodes. DESIGN.md has what each must get.
var nodeStages = []nodeStage{
	{"node-forge", "one node says what others never said, and brings forged evidence", true, forged},
	{"node-replay", "one node sends again what honest nodes said", false, replayed},
	{"node-flood", "one node sends a hundred times its quota", false, floodedByNode},
	{"node-equivocate", "three nodes contradict themselves: two statements of one seq, two observations of one counter, an accusation against an ack", true, equivocated},
	{"node-accuse-alone", "one node accuses a healthy one in each epoch", false, accusedAlone},
	{"node-accuse-third", "a third of the operators accuse everybody else", false, accusedByThird},
	{"node-accuse-two-thirds", "operators just below and just above two thirds of the drawn accuse healthy nodes", false, accusedByTwoThirds},
	{"node-self-promote", "both nodes of an operator say whatever could raise them", false, selfPromoted},
	{"node-quarantined-key", "a node that the council quarantined goes on as if nothing were", true, quarantinedKey},
	{"node-on-off", "one node floods now and then, and behaves in between", false, onOff},
}
