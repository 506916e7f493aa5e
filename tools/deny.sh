#!/bin/sh
# Runs cargo-deny with deny.toml: licences, bans, sources, and the advisories where their database can be
# fetched. Not a part of CI: the tool has no package in Debian 12, and to build it takes minutes. What CI
# checks of the same is in tools/licences.py and tests/dependencies.rs.
set -eu
cd "$(dirname "$0")/.."

DENY=0.20.2

bin="$PWD/target/tools/bin"
if [ "$("$bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $DENY" ]; then
	cargo install --locked --root target/tools --version "$DENY" cargo-deny
fi
"$bin/cargo-deny" --locked check licenses bans sources
if "$bin/cargo-deny" fetch db 2>/dev/null; then
	"$bin/cargo-deny" --locked check advisories
else
	echo "deny: the database of advisories cannot be reached: they were NOT checked" >&2
fi
