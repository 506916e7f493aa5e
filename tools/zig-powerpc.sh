#!/bin/bash
# zig as cargo-zigbuild calls it (CARGO_ZIGBUILD_ZIG_COMMAND), for PowerPC: rustc's name for it says nothing of
# floats, and of its two musls zig 0.17 then takes none. rustc's own code is for hard float.
set -euo pipefail

words=()
for word in "$@"; do
	[ "$word" != powerpc-linux-musl ] || word=powerpc-linux-musleabihf
	words+=("$word")
done
exec python3 -m ziglang "${words[@]}"
