package main

// stages are the lies, in the order in which they are told. DESIGN.md has what
// each must get.
var stages = []stage{
	{"stamps-ahead", "as leader it stamps every command an hour ahead", false, stampsAhead},
	{"stamps-behind", "as leader it stamps every command an hour behind", false, stampsBehind},
	{"fork-of-one", "as leader it gives r3 other entries at the same indexes than r1 and r2, and signs along", true, forkOfOne},
	{"fork-of-all", "as leader it gives r1, r2 and r3 three histories, and signs all of them", false, forkOfAll},
	{"configuration-stranger", "as leader it adds a voter that nobody decided", false, strangerAdded},
	{"configuration-removal", "as leader it removes r3 from the voters", false, voterRemoved},
	{"configuration-garbage", "as leader it sends a configuration that does not decode", false, garbageConfigured},
	{"term-leap", "it sends votes, pre-votes and appends of terms 2^60 and 2^64-1", false, termLeapt},
	{"disrupt-votes", "it asks for votes of the next term, ten times a second, as after a transfer of leadership", false, disruptedByVotes},
	{"disrupt-timeouts", "it tells followers to stand for election, ten times a second", false, disruptedByTimeouts},
	{"overwrite", "as leader it sends other entries at indexes that are committed", false, overwritten},
	{"usurp", "it sends such entries without leading, in the leader's name and in its own", false, usurped},
	{"snapshot-state", "as leader it installs a snapshot with another policy in it", false, snapshotAs("state")},
	{"snapshot-cosigners", "as leader it installs one whose checkpoint it alone signed", false, snapshotAs("cosigners")},
	{"snapshot-forged", "as leader it installs one whose checkpoint it made up", false, snapshotAs("forged")},
	{"snapshot-commands", "as leader it installs one with a command after the seal that never was", false, snapshotAs("commands")},
	{"snapshot-old", "as leader it installs an old one as if it were of now", false, snapshotAs("old")},
	{"snapshot-index", "as leader it installs a true one as if it were of 2^40 entries later", false, snapshotAs("index")},
	{"snapshot-voters", "as leader it installs a true one with other voters", false, snapshotAs("configuration")},
	{"snapshot-garbage", "as leader it installs a true one whose configuration does not decode", false, snapshotAs("garbage")},
	{"censor-busy", "as leader it answers to alice's statements that it is busy", false, censoredByBusy},
	{"censor-silence", "as leader it never answers to alice's statements", false, censoredBySilence},
	{"censor-receipt", "as leader it acknowledges alice's statements and drops them", false, censoredByReceipt},
	{"answers-late", "it answers its peers a byte a second", false, answersLate},
	{"answers-endless", "it answers its peers without end", false, answersEndless},
	{"flood", "it sends its peers bad cosignatures, and submissions of 32 MB, a byte now and then", false, flooded},
	{"cosignatures-withheld", "it signs nothing that anybody gets", false, cosignaturesWithheld},
	{"cosignatures-two-faced", "it signs another root for r2 than for the others", true, cosignaturesTwoFaced},
}
