#!/usr/bin/env bash
# The main job of quorate on real input, as a story of steps. Every step must
# hold: the script exits 0 only if all did. It works in a temporary directory on
# free loopback ports, and ends the processes that it started, by their ids.
#
#   make demo            runs it
#   KEEP=1 make demo     keeps the directory
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
fleet=$here/../data/fleet.yaml

# ---------------------------------------------------------------------------
step "ceremony: three governors, three recovery holders and four replicas make keys, each encrypted with its own passphrase"
mkdir keys
for who in alice:aurora bob:borealis carol:cirrus; do
	new_key governor "${who%:*}" --operator "${who#*:}"
done
for who in rita sven tove; do
	new_key recovery "$who"
done
for i in 1 2 3 4; do
	operator=$(nth "$i" aurora borealis cirrus aurora)
	new_key replica "r$i" --operator "$operator" --peer "127.0.0.1:$((peer_port + i))" --api "http://127.0.0.1:$((api_port + i))"
done
grep -q 'BEGIN AGE ENCRYPTED FILE' keys/alice.key

step "ceremony: genesis, and the twelve words that all present compare aloud"
cat > ceremony.yaml <<-YAML
	origin: mesh.example/north
	operators: [{name: aurora}, {name: borealis}, {name: cirrus}]
	council: [keys/alice.pub, keys/bob.pub, keys/carol.pub]
	recovery: {threshold: 2, holders: [keys/rita.pub, keys/sven.pub, keys/tove.pub]}
	replicas:
	  - {public: keys/r1.pub}
	  - {public: keys/r2.pub}
	  - {public: keys/r3.pub}
	  - {public: keys/r4.pub}
YAML
quorate init --ceremony ceremony.yaml --out ledger | tee ceremony.log | sed -n '1,12p'
genesis=$(cat ledger/genesis)
export QUORATE_GENESIS=$genesis

step "four replicas start, each its own process with its own data"
for i in 1 2 3 4; do start_replica "r$i"; done
use_servers 1 2 3 4
await 60 "a certified head" all_ready 1 2 3 4
quorate status | sed -n '1,16p'

# ---------------------------------------------------------------------------
step "the nine other operators of the fleet are added by decision, each with a sponsor"
# Alice proposes each, Bob approves: two of three operators are the threshold.
grep -B1 'sponsor:' "$fleet" | awk '$1 == "-" {name = $3} $1 == "sponsor:" {print name, $2}' > operators.txt
while read -r name sponsor; do
	decide alice bob operator.add name="$name" sponsor="$sponsor"
done < operators.txt
[ "$(quorate list operators --output json | grep -c '"name"')" = 12 ]

step "each of the 108 nodes makes its own key and signs its join with it"
mkdir nodes joins
awk '$2 == "name:" && nodes {name = $3} /^nodes:/ {nodes = 1} $1 == "operator:" {print name, $2}' "$fleet" > nodes.txt
while read -r name operator; do
	quorate keygen node "$name" --operator "$operator" --out nodes --insecure-plain > /dev/null 2>&1
	sponsor=$(awk -v o="$operator" '$1 == o {print $2}' operators.txt)
	mkdir -p "joins/${sponsor:-$operator}"
	quorate join --key "nodes/$name.key" --out "joins/${sponsor:-$operator}/$name.cose" > /dev/null
done < nodes.txt
[ "$(wc -l < nodes.txt)" -ge 100 ]
say "$(wc -l < nodes.txt) joins of $(awk '{print $2}' nodes.txt | sort -u | wc -l) operators"

step "the nodes of Aurora, Borealis and those that they sponsor: Alice proposes, Bob signs offline"
# Both operators must consent, because nodes of both are named. Alice writes the
# proposal to a file; Bob, whose machine has no network, sees what it would do
# and signs; anyone submits the two files.
mkdir batch1 && cp joins/aurora/*.cose joins/borealis/*.cose batch1/
as alice propose node.admit --joins batch1 --memo "the western and central coast" --out p.cose --yes > /dev/null
offline as bob approve p.cose --out a.cose --yes | tee offline.log | sed -n '1,6p'
grep -q 'words' offline.log
quorate submit p.cose a.cose --wait certified | tail -3
await 20 "72 nodes" nodes_are 72

step "the nodes of Cirrus and those that it sponsors: Carol proposes, Alice signs offline"
as carol propose node.admit --joins joins/cirrus --memo "the far north" --out p2.cose --yes > /dev/null
offline as alice approve p2.cose --out a2.cose --yes > /dev/null
quorate submit p2.cose a2.cose --wait certified | tail -1
await 20 "108 nodes" nodes_are 108

step "one signature is not enough: a proposal that is short of its threshold is rejected by the others"
id=$(as alice propose node.remove name=alta-gw.borealis --yes --output json | field id)
await 20 "the proposal" stands "$id" open
as bob reject "$id" --memo "Alta works" --yes > /dev/null
as carol reject "$id" --yes > /dev/null
await 20 "the rejection" stands "$id" rejected
refused_with proposal_closed as bob approve "$id" --yes
[ "$(quorate list nodes --output json | grep -c '"name": "alta-gw.borealis"')" = 1 ]

step "a policy change: a smaller quota, and proposals live for 45 seconds"
# What Carol sees before she signs: the policy, its effect, the rule, who is missing.
as carol propose policy.change quota=4096 proposal_lifetime_millis=45000 --yes > policy.log
sed -n '/^effect/,/missing/p' policy.log
id=$(awk '/^proposal/ {print $2; exit}' policy.log)
as alice approve "$id" --yes > /dev/null
await 30 "the new policy" is_executed "$id"
[ "$(quorate list policy --output json | field quota)" = 4096 ]
# Nobody will approve this one; the last steps find it expired.
expiring=$(as bob propose node.remove name=oslo-gw.aurora --yes --output json | field id)

# ---------------------------------------------------------------------------
step "kill -9 of the leader in the middle of a stream of submissions"
# Each node says something; what is acknowledged goes into acked.txt.
stream() { # FILE: each node in it says something
	while read -r name _; do
		if answer=$(quorate record --text "hello from $name" --key "nodes/$name.key" --output json 2>> stream.err); then
			printf '%s\n' "$answer" | grep '"id"' | sed 's/.*: "//; s/".*//' >> acked.txt
		else
			echo "$name" >> unacked.txt
		fi
	done < "$1"
}
: > acked.txt
: > unacked.txt
split -n l/3 nodes.txt stream.
streams=
for part in stream.a?; do
	stream "$part" & streams="$streams $!"
done
children="$children $streams"
acked_at_least() { [ "$(wc -l < acked.txt)" -ge "$1" ]; }
await 60 "30 acknowledged" acked_at_least 30
leader=$(leader_name)
say "the leader is $leader, and $(wc -l < acked.txt) are acknowledged: kill -9"
kill_replica "$leader" -9
wait $streams
use_servers_but "$leader"
say "$(wc -l < acked.txt) of $(wc -l < nodes.txt) were acknowledged, $(wc -l < unacked.txt) were not; $(leader_name) leads now"
[ "$(wc -l < acked.txt)" -ge 90 ]

step "every acknowledged statement is still there, and the killed replica comes back to the same history"
on_ledger() {
	quorate list entries --from 0 --limit 100000 --output json | grep '"id"' | sed 's/.*: "//; s/".*//' | sort -u > ids.txt
	sort -u acked.txt > want.txt
	[ -z "$(comm -23 want.txt ids.txt)" ]
}
await 30 "all acknowledged statements" on_ledger
start_replica "$leader"
use_servers 1 2 3 4
await 60 "the killed replica" all_ready 1 2 3 4

# ---------------------------------------------------------------------------
step "a replica loses its disk and its key: it is re-keyed by decision, and backfilled by the others"
stop_replica r2
rm -r ledger/r2
mkdir fresh
new_key_in fresh replica r2 --operator borealis --peer "127.0.0.1:$((peer_port + 2))" --api "http://127.0.0.1:$((api_port + 2))"
use_servers 1 3 4
decide alice carol replica.rekey replica=@fresh/r2.pub
write_config r2 fresh > ledger/r2.yaml
start_replica r2
await 90 "r2 to be active again" replica_is r2 active
await 60 "r2 to be ready" all_ready 2
# Its history is whole: it serves the first bundle of entries.
QUORATE_SERVER=http://127.0.0.1:$((api_port + 2)) quorate list entries --from 0 --limit 3

step "a fifth replica is added by decision"
use_servers 1 2 3 4
new_key replica r5 --operator cirrus --peer "127.0.0.1:$((peer_port + 5))" --api "http://127.0.0.1:$((api_port + 5))"
decide bob carol replica.add replica=@keys/r5.pub
write_config r5 keys > ledger/r5.yaml
start_replica r5
await 90 "r5 to be active" replica_is r5 active

step "and one is removed"
use_servers 2 3 4 5
decide alice bob replica.remove name=r1
replica_gone() { ! quorate list replicas | grep -q '^r1 '; }
await 30 "r1 to be gone" replica_gone
stop_replica r1
await 60 "the four others" all_ready 2 3 4 5
quorate list replicas

# ---------------------------------------------------------------------------
step "a light client that knows the genesis hash and a recent head walks the handovers"
quorate status --save-head head.txt > /dev/null
mkdir light
quorate status --genesis "$genesis" --at-least head.txt --trust-dir light | tee light.log | sed -n '1,4p'
grep -Eq 'walked [3-9][0-9]* handovers' light.log

step "proofs that others check offline: a node's standing, and a decision"
quorate prove node oslo-gw.aurora --out node.proof > /dev/null
offline quorate verify node.proof --genesis "$genesis" | tail -2 | cut -c1-100
decision=$(quorate list entries | awk '$4 == "decision" {print $1; exit}')
quorate prove "$decision" --out decision.tlog-proof > /dev/null
offline quorate verify decision.tlog-proof --genesis "$genesis"

step "the proposal that nobody approved has expired"
await 90 "its expiry" stands "$expiring" expired

step "export, and its verification without any server"
quorate export --out export
quorate export --out export.tar.zst
for i in 2 3 4 5; do stop_replica "r$i"; done
offline quorate verify export --genesis "$genesis" --at-least head.txt
offline quorate verify export.tar.zst --genesis "$genesis" > /dev/null

step "one byte flipped in the export: the verification fails, and names the entry"
bundle=export/tile/entries/000
middle=$(($(wc -c < "$bundle") / 2))
flip_byte "$bundle" "$middle"
if offline quorate verify export --genesis "$genesis" > flipped.log 2>&1; then
	fail "a changed export verified"
fi
grep -E 'entry [0-9]+' flipped.log | tail -1

summary
