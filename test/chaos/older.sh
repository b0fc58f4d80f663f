#!/usr/bin/env bash
# Builds an earlier quorate for the rolling upgrade: older.sh OUT [COMMIT].
# Without a commit it is the newest tag before this one, or else the commit that
# is 60 back, or as far back as a shallow clone goes. Without any history there is
# no earlier program, which is said, and the upgrade is skipped.
set -euo pipefail
out=$1 commit=${2:-}

skip() {
	rm -f "$out" "$out.commit"
	echo "chaos: no earlier quorate for the upgrade: $1"
	exit 0
}

git rev-parse --verify -q HEAD^ >/dev/null 2>&1 || skip "git has no history here"
if [ -z "$commit" ]; then
	commit=$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null) || commit=$(git rev-list --first-parent --max-count=61 HEAD | tail -n 1)
fi
commit=$(git rev-parse --verify -q "$commit^{commit}") || skip "there is no commit ${2:-}"
about=$(git log -1 --format='%h of %cs' "$commit")
if [ -x "$out" ] && [ "$(cat "$out.commit" 2>/dev/null)" = "$commit" ]; then
	echo "chaos: the earlier quorate is $about"
	exit 0
fi
tree=$(mktemp -d)
trap 'git worktree remove --force "$tree/src" 2>/dev/null || true; rm -rf "$tree"' EXIT
git worktree add -q --detach "$tree/src" "$commit"
mkdir -p "$(dirname "$out")"
(cd "$tree/src" && "${GO:-go}" build -tags hashicorpmetrics -o "$tree/quorate" ./cmd/quorate) || skip "commit $about does not build"
mv "$tree/quorate" "$out"
echo "$commit" > "$out.commit"
echo "chaos: the earlier quorate is $about"
