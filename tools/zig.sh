#!/bin/sh
# Prints the folder with zig and cargo-zigbuild, and makes it first where it is missing.
#
# Zig is the C compiler, the linker and the musl for every CPU; as a package from PyPI it is the
# same on every machine. The versions are pinned because a linker belongs to a build's result.
set -eu

ZIG=0.17.1
ZIGBUILD=0.24.0

venv="${XDG_CACHE_HOME:-$HOME/.cache}/tailover/zig"
if ! "$venv/bin/python" -c "import importlib.metadata as m
assert (m.version('ziglang'), m.version('cargo-zigbuild')) == ('$ZIG', '$ZIGBUILD')" 2>/dev/null; then
	echo "zig: putting ziglang $ZIG and cargo-zigbuild $ZIGBUILD into $venv" >&2
	python3 -m venv --clear "$venv" >&2
	"$venv/bin/pip" install --quiet "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD" >&2
fi
echo "$venv/bin"
