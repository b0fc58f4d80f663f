package main

// stages are the lies, in the order in which they are told. DESIGN.md has what
// each must get.
var stages = []stage{
	{"stamps-ahead", "as leader it stamps every command an hour ahead", false, stampsAhead},
	{"stamps-behind", "as leader it stamps every command an hour behind", false, stampsBehind},
	{"fork-of-one", "as leader it gives r3 other entries at the same indexes than r1 and r2, and signs along", true, forkOfOne},
	{"fork-of-all", "as leader it gives r1, r2 and r3 three histories, and signs all of them", false, forkOfAll},
	{"cosignatures-withheld", "it signs nothing that anybody gets", false, cosignaturesWithheld},
	{"cosignatures-two-faced", "it signs another root for r2 than for the others", true, cosignaturesTwoFaced},
}
