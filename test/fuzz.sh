#!/usr/bin/env bash
# Runs every fuzz target for the given time, or number of inputs: fuzz.sh 30s,
# fuzz.sh 2500x. A number is kept on a busy machine too, where a short time may be
# over before the first input. One instrumented test binary a package, so that a
# package is linked once however many targets it has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:?usage: fuzz.sh TIME, as in fuzz.sh 30s or fuzz.sh 2500x}
tags=hashicorpmetrics
mkdir -p bin/fuzz
cache=$PWD/bin/fuzz/corpus

# On a busy machine the fuzzer can report the end of its own time as a failure,
# of which nothing is said but this line.
ended_by_time() {
	[ "$(grep -vE '^(fuzz: elapsed:|--- FAIL: Fuzz|FAIL$)' "$1")" = '    context deadline exceeded' ]
}

targets=0
failed=
for dir in $(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u); do
	binary=$PWD/bin/fuzz/${dir//\//-}.test
	go test -c -tags "$tags" -fuzz=Fuzz -o "$binary" "./$dir"
	for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$dir"/*_test.go); do
		printf '%-20s %-28s ' "$dir" "$target"
		log=bin/fuzz/$target.log
		# Shrinking large inputs would take nearly all of the time, so it is kept short. An input that fails is kept in the package's testdata/fuzz, so it is a test from then on.
		if (cd "$dir" && "$binary" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$time" -test.fuzzminimizetime=5x \
			-test.fuzzcachedir="$cache/$dir" -test.parallel=2 -test.timeout=30m) >"$log" 2>&1 || ended_by_time "$log"; then
			sed -nE 's/.*execs: ([0-9]+).*/\1 inputs/p' "$log" | tail -1 | grep . || echo "done"
		else
			echo FAILED
			cat "$log"
			input=$(sed -nE 's/.*Failing input written to (.*)/\1/p' "$log" | tail -1)
			[ -z "$input" ] || head -c 2000 "$dir/$input" # who sees only this has no such file
			failed="$failed $dir.$target"
		fi
		targets=$((targets + 1))
	done
done
if [ "$targets" = 0 ]; then
	echo "fuzz: no target found"
	exit 1
fi
if [ "$failed" != "" ]; then
	echo "fuzz: of $targets targets failed:$failed"
	exit 1
fi
echo "fuzz: $targets targets passed, $time each"
