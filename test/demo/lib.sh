# What demo.sh is told in: steps, keys, replicas and bounded waits.

root=$(cd "$here/../.." && pwd)
bin=$root/bin/quorate
[ -x "$bin" ] || { echo "build it first: make build" >&2; exit 1; }
quorate() { "$bin" "$@"; }

# --- steps ------------------------------------------------------------------
work=$(mktemp -d "${TMPDIR:-/tmp}/quorate-demo.XXXXXX")
cd "$work"
export QUORATE_TRUST_DIR=$work/trust
began=$SECONDS
step_began=$SECONDS
step_name=
steps=0
: > timings.txt

end_step() {
	[ -z "$step_name" ] || printf '%4d s  %s\n' $((SECONDS - step_began)) "$step_name" >> timings.txt
}

step() {
	end_step
	steps=$((steps + 1))
	step_name=$1
	step_began=$SECONDS
	printf '\n== %d. %s\n' "$steps" "$1"
}

say() { printf '   %s\n' "$*"; }

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

summary() {
	end_step
	printf '\n== every step held: %d steps in %d s\n' "$steps" $((SECONDS - began))
	cat timings.txt
	finished=yes
}

# --- the end: only what this script started, by its id ----------------------
children=
finished=
clean_up() {
	code=$?
	for pid in $children; do kill -9 "$pid" 2> /dev/null || true; done
	wait 2> /dev/null || true
	if [ -z "$finished" ]; then
		[ "$code" -ne 0 ] || code=1
		echo "FAILED in step $steps: $step_name" >&2
		for log in logs/*.log; do
			[ -e "$log" ] && { echo "--- $log" >&2; tail -5 "$log" >&2; }
		done
		KEEP=1
	fi
	if [ -n "${KEEP:-}" ]; then echo "kept: $work" >&2; else rm -rf "$work"; fi
	exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# await SECONDS WHAT COMMAND…: wait until the command holds.
await() {
	limit=$((SECONDS + $1))
	what=$2
	shift 2
	until "$@" 2>> await.err; do
		[ "$SECONDS" -lt "$limit" ] || fail "waited too long for $what"
		sleep 0.2
	done
}

# --- free loopback ports -----------------------------------------------------
port_free() { ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

ports_from() { # the first of 20 ports in a row that nobody listens on
	base=$1
	while :; do
		free=yes
		for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
			port_free $((base + i)) || free=
		done
		[ -z "$free" ] || { echo "$base"; return; }
		base=$((base + 20))
	done
}
api_port=$(ports_from $((20000 + $$ % 9000)))
peer_port=$((api_port + 10))

# --- small things -------------------------------------------------------------
nth() { shift "$1"; echo "$1"; }

# field NAME: the first value of that key in pretty JSON.
field() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" | head -1; }

# offline COMMAND…: without any server.
offline() { (unset QUORATE_SERVER; "$@"); }

flip_byte() { # FILE OFFSET
	old=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
	printf "\\$(printf '%03o' $((old ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2> /dev/null
}

# --- keys ---------------------------------------------------------------------
new_key() { new_key_in keys "$@"; }

new_key_in() { # DIR ROLE NAME [FLAGS]
	dir=$1 role=$2 name=$3
	shift 3
	head -c 18 /dev/urandom | base64 > "$dir/$name.pass"
	chmod 600 "$dir/$name.pass"
	quorate keygen "$role" "$name" --out "$dir" --passphrase-file "$dir/$name.pass" "$@" | sed -n 's/^  words */   /p' | sed "s/^/   $name/"
}

# as NAME COMMAND…: with that governor's key.
as() {
	who=$1
	shift
	"$bin" "$@" --key "keys/$who.key" --passphrase-file "keys/$who.pass"
}

# decide PROPOSER APPROVER ACTION ARGS…: a decision of two governors, executed.
decide() {
	first=$1 second=$2
	shift 2
	proposal=$(as "$first" propose "$@" --yes --output json | field id)
	as "$second" approve "$proposal" --yes > /dev/null
	await 30 "$1 to be executed" is_executed "$proposal"
	say "$1: proposed by $first, approved by $second, executed"
}

# standing ID: how a proposal stands at the newest certified head.
standing() { quorate inspect "$1" --output json | field standing; }
stands() { [ "$(standing "$1")" = "$2" ]; }

is_executed() {
	now=$(standing "$1")
	case $now in
	executed) return 0 ;;
	open | decided) return 1 ;;
	esac
	fail "the proposal is $now"
}

refused_with() { # CODE COMMAND…: the command must be refused, with this code
	code=$1
	shift
	if "$@" > refused.log 2>&1; then fail "it was not refused: $*"; fi
	say "refused: $(head -1 refused.log)"
}

nodes_are() { [ "$(quorate list nodes --output json | grep -c '"standing": "active"')" = "$1" ]; }

# --- replicas -------------------------------------------------------------------
start_replica() { # NAME
	mkdir -p logs
	dir=keys
	[ "$1" != r2 ] || [ ! -e fresh/r2.key ] || dir=fresh
	"$bin" server --config "ledger/$1.yaml" --passphrase-file "$dir/$1.pass" >> "logs/$1.log" 2>&1 &
	eval "pid_$1=$!"
	children="$children $!"
}

kill_replica() { # NAME SIGNAL
	eval "pid=\$pid_$1"
	kill "$2" "$pid"
	wait "$pid" 2> /dev/null || true
}

stop_replica() { kill_replica "$1" -TERM; }

use_servers() { # NUMBER…
	QUORATE_SERVER=
	for i in "$@"; do
		QUORATE_SERVER=$QUORATE_SERVER${QUORATE_SERVER:+,}http://127.0.0.1:$((api_port + i))
	done
	export QUORATE_SERVER
}

use_servers_but() { # NAME
	list=
	for i in 1 2 3 4; do [ "r$i" = "$1" ] || list="$list $i"; done
	use_servers $list
}

# all_ready NUMBER…: these replicas answer, are caught up, and one leads.
all_ready() {
	for i in "$@"; do
		QUORATE_SERVER=http://127.0.0.1:$((api_port + i)) quorate status > "ready-$i.txt" 2>> await.err || return 1
		grep -Eq "r$i +(leader|follower) .* true " "ready-$i.txt" || return 1
		grep -q '^verified' "ready-$i.txt" || return 1
	done
}

leader_name() { quorate status | awk '$3 == "leader" {print $2; exit}'; }

replica_is() { quorate list replicas | grep -Eq "^$1 .* $2 "; }

# write_config NAME KEYS: the configuration of a replica that genesis does not
# know; it learns the others from its seeds, and the log key too.
write_config() {
	n=${1#r}
	cat <<-YAML
		name: $1
		dir: $1
		genesis_file: genesis.cbor
		key_file: ../$2/$1.key
		tls_cert_file: ../$2/$1.tls.crt
		tls_key_file: ../$2/$1.tls.key
		listen: 127.0.0.1:$((peer_port + n))
		seeds: [127.0.0.1:$((peer_port + 3)), 127.0.0.1:$((peer_port + 4))]
		api:
		  listen: 127.0.0.1:$((api_port + n))
		  insecure_loopback: true
	YAML
}
