#!/usr/bin/env bash
# Runs the stages of `make test`, which are targets of the Makefile:
#   stages.sh "STAGE…" "STAGE…" "STAGE…"
# The first ones run alone, one after another. Then the second ones, whose tests
# wait for real time mostly, run beside the third ones, which only compute and
# let the others go first. A stage that fails keeps no other from running; what
# failed and why is told at the end, so that the end of the output is enough.
#   stages.sh --why LOG
# tells that of one log.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
logs=bin/stages

# why prints the parts of a log that say why its stage failed: of each package or
# part that failed the head and the tail, and not what passed.
why() {
	awk -v head=3500 -v tail=2000 -v before=1000 -v most=4 '
		function cut(text,    size) { # the head and the tail of a text, in whole lines
			if (length(text) <= head + tail) return text
			size = head; while (size > 1 && substr(text, size, 1) != "\n") size--
			if (size < head / 2) size = head
			first = substr(text, 1, size); rest = substr(text, length(text) - tail + 1)
			if (match(rest, "\n") && RSTART < tail / 2) rest = substr(rest, RSTART + 1)
			return first "    [… " length(text) - length(first) - length(rest) " characters left out …]\n" rest
		}
		function close_block() { if (block ~ /[^ \t\n]/) blocks[++n] = block; block = ""; marked = 0 }
		/^(ok|\?)[ \t]+[^ \t]+\/[^ \t]+\t/ { next } # a Go package that passed
		/^# Subtest: / { subtest = $0; next } # of TAP, which node speaks
		/^ok [0-9]+ - / { passed = 1; next }
		passed && /^  (---|duration_ms|type:|\.\.\.)/ { if ($1 == "...") passed = 0; next }
		{ passed = 0 }
		/^not ok [0-9]+ - / { block = block subtest "\n" }
		/^--- FAIL: |^[ \t]+--- FAIL: |^not ok |^FAIL[ \t]/ { if (listed++ < 30) list = list "  " $0 "\n" }
		/--- FAIL: |^panic: |^fatal error: |^WARNING: DATA RACE|^not ok / && !marked++ && length(block) > before {
			block = "[…]\n" substr(block, length(block) - before + 1)
		}
		{ block = block $0 "\n" }
		/^FAIL\t/ { close_block() }
		END {
			close_block()
			printf "%s", list
			if (listed > 30) printf "  … and %d more\n", listed - 30
			for (i = 1; i <= n; i++) {
				if (i > most && i < n) { left++; continue }
				if (left) { printf "  [… %d more parts …]\n", left; left = 0 }
				printf "%s", cut(blocks[i])
			}
		}' "$1"
}

if [ "${1-}" = --why ]; then
	why "$2"
	exit
fi

# Each list is a process group of its own, so that all of it can be ended.
set -m
make=${MAKE:-make}
began=$SECONDS
rm -rf "$logs"
mkdir -p "$logs"
: >"$logs/.failed"
lanes=()

# say prints a block that the other lane does not interrupt, where there is flock.
say() { cat; }
if command -v flock >/dev/null; then
	say() { flock "$logs/.failed" cat; }
fi

stage() {
	local log=$logs/$1.log begin=$SECONDS word=passed
	echo "== $1" | say
	"$make" --no-print-directory "$1" >"$log" 2>&1 </dev/null || { word=FAILED; echo "$1" >>"$logs/.failed"; }
	: >"$logs/.$1" # it ended
	{
		if [ "$word" = FAILED ]; then
			why "$log"
		elif [ "$(wc -l <"$log")" -le 100 ]; then
			cat "$log"
		else
			echo "[…]"
			tail -15 "$log"
		fi
		echo "== $1: $word, $((SECONDS - begin)) s"
	} | say
}

lane() {
	local name
	for name in $1; do
		stage "$name"
	done
}

end() { # of what was reached when somebody ends it
	trap - INT TERM
	for group in "${lanes[@]}"; do
		kill -TERM -- "-$group" 2>/dev/null
	done
	wait
	local log name
	for log in "$logs"/*.log; do
		name=$(basename "$log" .log)
		if [ ! -e "$logs/.$name" ]; then
			echo "== $name had not ended"
			tail -15 "$log"
		elif grep -qx "$name" "$logs/.failed"; then
			echo "== why $name failed"
			why "$log"
		fi
	done
	echo "make test: ended by a signal after $((SECONDS - began)) s; failed until then: $(tr '\n' ' ' <"$logs/.failed")"
	exit 130
}
trap end INT TERM

lane "$1" &
lanes=($!)
wait
lane "$2" &
lanes=($!)
(renice -n 10 "$BASHPID" >/dev/null; lane "$3") &
lanes+=($!)
wait

took=$((SECONDS - began))
if [ -s "$logs/.failed" ]; then
	for name in $(cat "$logs/.failed"); do
		echo
		echo "== why $name failed (all of it: $logs/$name.log)"
		why "$logs/$name.log"
	done
	echo
	echo "make test: FAILED: $(tr '\n' ' ' <"$logs/.failed")($took s in all)"
	exit 1
fi
echo "make test: every stage passed, $took s in all"
