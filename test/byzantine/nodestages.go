package main

// nodeStages are the attacks of nodes. DESIGN.md has what each must get.
var nodeStages = []nodeStage{
	{name: "node-forge", attack: "one node says what others never said, and brings forged evidence", run: forged, short: true},
	{name: "node-replay", attack: "one node sends again what honest nodes said", run: replayed},
	{name: "node-flood", attack: "one node sends a hundred times its quota", run: floodedByNode},
	{name: "node-equivocate", attack: "three nodes contradict themselves: two statements of one seq, two observations of one counter, an accusation against an ack", run: equivocated, short: true},
	{name: "node-accuse-alone", attack: "one node accuses a healthy one in each epoch", run: accusedAlone},
	{name: "node-accuse-third", attack: "a third of the operators accuse everybody else", run: accusedByThird},
	{name: "node-accuse-two-thirds", attack: "operators just below and just above two thirds of the drawn accuse healthy nodes", run: accusedByTwoThirds},
	{name: "node-self-promote", attack: "both nodes of an operator say whatever could raise them", run: selfPromoted},
	{name: "node-quarantined-key", attack: "a node that the council quarantined goes on as if nothing were", run: quarantinedKey, short: true},
	{name: "node-on-off", attack: "one node floods now and then, and behaves in between", run: onOff},
	{name: "node-gossip-equivocate", attack: "one node gives each half of the agents another statement under one seq, and speaks on", run: equivocatedByGossip, agents: true},
	{name: "node-gossip-forge", attack: "one node sends every agent what others never said", run: forgedByGossip, agents: true},
	{name: "node-gossip-flood", attack: "one node sends every agent a hundred times its quota", run: floodedByGossip, agents: true, quota: fleetQuota},
	{name: "node-gossip-malformed", attack: "one node sends oversized and malformed frames, on every protocol", run: malformed, agents: true},
	{name: "node-gossip-connects", attack: "somebody connects ten thousand times", run: connects, agents: true},
	{name: "node-gossip-quarantined", attack: "a node that the council quarantined goes on gossiping", run: quarantinedByGossip, agents: true},
	{name: "node-restored", attack: "an honest node crashes and gets an old image of its disk", run: restored, agents: true},
	{name: "node-gossip-replay", attack: "one node sends again what it heard: to agents that restarted, across topics, and two epochs later", run: replayedByGossip, agents: true, watch: true},
	{name: "node-gossip-withheld", attack: "nine nodes of a third of the operators are in every agent's mesh and pass nothing on", run: withheldByGossip, agents: true, crowd: 3},
	{name: "node-gossip-eclipse", attack: "72 nodes of a third of the operators take all connections of agents that restart", run: eclipsed, agents: true, crowd: 24},
	{name: "node-source-rolled-back", attack: "a replica and a peer show the ledger of some time ago", run: rolledBackToAgents, agents: true, crowd: 2, liar: true},
	{name: "node-source-forked", attack: "a replica and a peer show forks, at last one that stolen replica keys certify", run: forkedToAgents, agents: true, crowd: 2, liar: true, watch: true},
	{name: "node-source-frozen", attack: "a replica and a peer show the ledger as it once was and nothing new", run: frozenToAgents, agents: true, crowd: 2, liar: true},
}
