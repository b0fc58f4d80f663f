package main

// nodeStages are the attacks of nodes. DESIGN.md has what each must get.
var nodeStages = []nodeStage{
	{"node-forge", "one node says what others never said, and brings forged evidence", true, forged, false, 0},
	{"node-replay", "one node sends again what honest nodes said", false, replayed, false, 0},
	{"node-flood", "one node sends a hundred times its quota", false, floodedByNode, false, 0},
	{"node-equivocate", "three nodes contradict themselves: two statements of one seq, two observations of one counter, an accusation against an ack", true, equivocated, false, 0},
	{"node-accuse-alone", "one node accuses a healthy one in each epoch", false, accusedAlone, false, 0},
	{"node-accuse-third", "a third of the operators accuse everybody else", false, accusedByThird, false, 0},
	{"node-accuse-two-thirds", "operators just below and just above two thirds of the drawn accuse healthy nodes", false, accusedByTwoThirds, false, 0},
	{"node-self-promote", "both nodes of an operator say whatever could raise them", false, selfPromoted, false, 0},
	{"node-quarantined-key", "a node that the council quarantined goes on as if nothing were", true, quarantinedKey, false, 0},
	{"node-on-off", "one node floods now and then, and behaves in between", false, onOff, false, 0},
	{"node-gossip-equivocate", "one node gives each half of the agents another statement under one seq, and speaks on", false, equivocatedByGossip, true, 0},
	{"node-gossip-forge", "one node sends every agent what others never said", false, forgedByGossip, true, 0},
	{"node-gossip-flood", "one node sends every agent a hundred times its quota", false, floodedByGossip, true, fleetQuota},
	{"node-gossip-malformed", "one node sends oversized and malformed frames, on every protocol", false, malformed, true, 0},
	{"node-gossip-connects", "somebody connects ten thousand times", false, connects, true, 0},
	{"node-gossip-quarantined", "a node that the council quarantined goes on gossiping", false, quarantinedByGossip, true, 0},
	{"node-restored", "an honest node crashes and gets an old image of its disk", false, restored, true, 0},
}
