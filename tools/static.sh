#!/bin/bash
# Builds the two static musl binaries for one target (default: this machine's CPU) and proves them
# static.
#
#   tools/static.sh [TARGET [CARGO-ARGUMENT...]]     e.g. mips-unknown-linux-musl
#
# The results are tailover and tailover-fetch, in target/static for the host's CPU and in
# target/static/TARGET for others.
# The standard library is built from source where there is one, as the binaries are then 400 kB
# smaller: beside the rustc in use, or beside Debian's (package rust-web-src). Else it is a prebuilt
# one that rustup has or can fetch. STD=prebuilt passes over the first way, and is faster by minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

host="$(uname -m | sed 's/^arm.*/armv7/')-unknown-linux-musl"
[ "$host" = armv7-unknown-linux-musl ] && host=armv7-unknown-linux-musleabihf
target="${1:-$host}"
shift || true
if [ "$target" = "$host" ]; then out=target/static; else out="target/static/$target"; fi

# Where the rustc $1 has a standard library for the target, as source or ready made.
source_of() {
	[ -x "$(command -v "$1")" ] && [ -e "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}
prebuilt() { compgen -G "$("$1" --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null; }

rustc="${RUSTC:-rustc}"
source=""
for candidate in "$rustc" /usr/bin/rustc; do
	if [ "${STD:-}" != prebuilt ] && [ -z "$source" ] && source_of "$candidate"; then
		source="$candidate"
	fi
done
# A server that cannot be reached must not hold this up for long.
if [ -z "$source" ] && ! prebuilt "$rustc" && [ -z "${RUSTC:-}" ] && command -v rustup >/dev/null; then
	timeout 180 rustup target add "$target" 2>/dev/null ||
		echo "static: rustup has no standard library for $target" >&2
fi

# `static` is not the default on mips, riscv64 and powerpc. A fixed address saves the relocations.
flags="-Ctarget-feature=+crt-static -Crelocation-model=static"
build=(zigbuild --release --locked --target "$target" --bin tailover --bin tailover-fetch)
if [ -z "$source" ]; then
	if ! prebuilt "$rustc"; then
		echo "static: no standard library for $target: run 'rustup target add $target'," >&2
		echo "        'rustup component add rust-src' or 'apt install rustc-web rust-web-src'" >&2
		exit 1
	fi
	std="prebuilt, $("$rustc" --version)"
else
	rustc="$source"
	std="from source, $("$rustc" --version)"
	# musl without the compatibility with its own 1.1: else time_t ends in 2038 on 32 bits. The
	# switch has an effect only where std is built along.
	export RUSTC="$rustc" RUSTC_BOOTSTRAP=1 RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
	flags="$flags -Clink-self-contained=no -Cforce-unwind-tables=no"
	build+=("-Zbuild-std=std,panic_abort" -Zbuild-std-features=optimize_for_size)
fi

echo "static: $target, standard library $std"
zig="$(tools/zig.sh)"
# A target folder of its own: these flags would throw the tests' builds away.
PATH="$zig:$PATH" CARGO_TARGET_DIR=target/static-build RUSTFLAGS="$flags" \
	cargo-zigbuild "${build[@]}" "$@"

mkdir -p "$out"
for name in tailover tailover-fetch; do
	binary="$out/$name"
	# A new file: the old one may be running.
	cp "target/static-build/$target/release/$name" "$binary.new"
	mv "$binary.new" "$binary"

	# Static means: no interpreter and nothing to load. `ldd` knows only the host's binaries.
	if LC_ALL=C readelf -lW "$binary" | grep -q INTERP || LC_ALL=C readelf -dW "$binary" | grep -q NEEDED; then
		echo "static: $binary is not static" >&2
		exit 1
	fi
	if [ "$target" = "$host" ]; then
		"$binary" --version
	fi
	echo "static: $binary, $(stat -c %s "$binary") bytes"
done
