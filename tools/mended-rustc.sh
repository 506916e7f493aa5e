#!/bin/bash
# rustc as cargo's RUSTC_WRAPPER, for big-endian CPUs with 32 bits: compiles polling without its timerfd.
#
# There a 64-bit time has a gap before the nanoseconds. rustix 1.1.6 has it behind them when it goes through
# the C library, so the kernel reads a timer of 0 s, which is none, and the daemon hangs (tests/time64.rs
# shows it). polling sets its timer so; without one it has epoll wait for the milliseconds.
# MENDED: folder for the copy of polling's source. To be taken out when rustix has the right layout.
set -euo pipefail
version=3.11.0

# What the build begins with: another polling would be compiled as it is, and hang.
if [ "${1:-}" = check ]; then
	grep -A1 '^name = "polling"$' Cargo.lock | grep -qx "version = \"$version\"" && exit 0
	echo "mended-rustc: Cargo.lock has another polling than $version: see what this script says" >&2
	exit 1
fi

words=()
for word in "$@"; do
	if [[ "$word" == */polling-"$version"/src/lib.rs ]]; then
		rm -rf "$MENDED/polling"
		mkdir -p "$MENDED"
		cp -r "${word%/src/lib.rs}" "$MENDED/polling"
		# The end of the only timerfd_create there.
		sed -i 's/^        \.ok();$/        .ok().filter(|_| false);/' "$MENDED/polling/src/epoll.rs"
		if [ "$(grep -c 'ok().filter(|_| false);' "$MENDED/polling/src/epoll.rs")" != 1 ]; then
			echo "mended-rustc: polling's source is not the one that is known" >&2
			exit 1
		fi
		word="$MENDED/polling/src/lib.rs"
	fi
	words+=("$word")
done
exec "${words[@]}"
