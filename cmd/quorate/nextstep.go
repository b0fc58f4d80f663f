package main

// nextStep is what to do about a refusal, by its code; "" where the detail
// says it all.
func nextStep(code string) string {
	if step, ok := nextSteps[code]; ok {
		return step
	}
	return serverSteps[code]
}

// serverSteps are the steps for what a server, not the ledger, refuses.
var serverSteps = map[string]string{
	"not_found":       "quorate list shows what there is",
	"no_leader":       "nothing was acknowledged; a majority of the replicas must run and reach each other: quorate status",
	"unknown_outcome": "submit the same files again: what was accepted gives its first result",
	"busy":            "nothing was acknowledged; try again in a moment",
	"rate_limited":    "try again in a moment",
	"disk_full":       "make room on the leader's disk; nothing that was acknowledged is lost",
	"stopping":        "name another server with --server",
	"halted":          "name another server; this one's operator must look at its log and re-key it",
	"not_ready":       "wait until it has caught up, or name another server",
	"gap":             "name another server while this one fetches its history",
	"damaged":         "name another server; this one's operator must replace it",
	"timeout":         "submit the same files again: what was accepted gives its first result",
	"too_large":       "split it into several proposals",
}

// nextSteps says what to do about a rejection, by its code.
var nextSteps = map[string]string{
	"stale_base":               "the tables moved since it was written: propose it again",
	"proposal_closed":          "quorate inspect ID shows how it ended",
	"already_decided":          "it is decided and waits for its delay; only a veto or its author's withdraw stops it",
	"operator_voted":           "votes count once per operator: a governor of another operator is needed",
	"already_voted":            "nothing to do: your vote is on the ledger",
	"unknown_proposal":         "quorate list proposals shows them",
	"unknown_author":           "only keys that the ledger names may sign: quorate list council",
	"wrong_role":               "use the key file of a principal with that role",
	"wrong_key":                "the ledger knows this name with another key",
	"revoked_key":              "use the key that replaced it",
	"bad_signature":            "the file was changed or made by another key: sign it again",
	"wrong_ledger":             "the statement is for another ledger: compare --genesis",
	"wrong_generation":         "the ledger was recovered since: propose it again",
	"expired":                  "sign a new one",
	"nonce_used":               "sign a new one",
	"not_author":               "only the proposer withdraws; others reject or veto",
	"not_vetoer":               "quorate list policy names each action's vetoers",
	"consent_missing":          "a governor of each operator whose nodes are named must approve",
	"unknown_join":             "submit the join files beside the proposal, or propose with joins=@FILE",
	"unknown_operator":         "add it first: quorate propose operator.add name=NAME",
	"operator_without_consent": "give it a sponsor: quorate propose operator.add name=NAME sponsor=OPERATOR",
	"threshold_too_low":        "an action that changes authority needs a majority of the operators",
	"nothing_changes":          "the ledger is already so",
	"handover_pending":         "one authority change at a time: try again in a second",
	"frozen":                   "the ledger is frozen; quorate propose ledger.unfreeze ends it",
	"key_taken":                "a key has one role for ever: make a new one with quorate keygen",
	"name_taken":               "choose another name",
}
