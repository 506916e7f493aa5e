# What the tests of the shell scripts share; each test sources it.

# shellcheck shell=dash
# shellcheck disable=SC2034 # some names are for the tests
set -eu

ROOT="$(cd "$(dirname "$0")/../.." && pwd)"
FILES="$ROOT/openwrt/net/tailover/files"
WORK="$(mktemp -d)"
trap 'rm -rf "$WORK"' EXIT
CALLS="$WORK/calls"
: >"$CALLS"

# expect WHAT WANTED FOUND: ends the test unless the two are equal.
expect() {
	if [ "$2" != "$3" ]; then
		printf '%s: wanted:\n%s\nfound:\n%s\n' "$1" "$2" "$3" >&2
		exit 1
	fi
}

# A program at $1 that notes its arguments and the event's variables, and then runs the words $2….
stub() {
	local path="$1"
	shift
	mkdir -p "$(dirname "$path")"
	cat >"$path" <<END
#!/bin/sh
echo "\$* ACTION=\${ACTION-} INTERFACE=\${INTERFACE-} DEVICE=\${DEVICE-} FIRSTCONNECT=\${FIRSTCONNECT-}" >>"$CALLS"
$*
END
	chmod +x "$path"
}

# Copies the script $1 to $2 with the stub in the place of /usr/sbin/tailover.
with_stub() {
	grep -q /usr/sbin/tailover "$1"
	sed "s#/usr/sbin/tailover#$WORK/tailover#g" "$1" >"$2"
}
