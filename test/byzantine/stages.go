package main

// stages are the lies, in the order in which they are told. DESIGN.md has what
// each must get.
var stages = []stage{
	{"stamps-ahead", "as leader it stamps every command an hour ahead", false, stampsAhead},
	{"stamps-behind", "as leader it stamps every command an hour behind", false, stampsBehind},
	{"cosignatures-withheld", "it signs nothing that anybody gets", false, cosignaturesWithheld},
	{"cosignatures-two-faced", "it signs another root for r2 than for the others", true, cosignaturesTwoFaced},
}
