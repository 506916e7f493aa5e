#!/bin/bash
# Builds the two static musl binaries for one target (default: this machine's CPU) and proves them
# static.
#
#   tools/static.sh [TARGET [CARGO-ARGUMENT...]]     e.g. mips-unknown-linux-musl
#
# The results are tailover and tailover-fetch, in target/static for the host's CPU and in
# target/static/TARGET for others.
# The standard library is, in this order: a prebuilt one that rustup has or can fetch, the source
# beside the rustc in use, the source beside Debian's rustc (package rust-web-src). STD=source passes
# over the first one; the binaries are smaller then.
set -euo pipefail
cd "$(dirname "$0")/.."

host="$(uname -m | sed 's/^arm.*/armv7/')-unknown-linux-musl"
[ "$host" = armv7-unknown-linux-musl ] && host=armv7-unknown-linux-musleabihf
target="${1:-$host}"
shift || true
if [ "$target" = "$host" ]; then out=target/static; else out="target/static/$target"; fi

# Where the rustc $1 has a standard library for the target, ready made or as source.
prebuilt() {
	[ "${STD:-}" != source ] &&
		compgen -G "$("$1" --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null
}
source_of() { [ -e "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]; }

rustc="${RUSTC:-rustc}"
# A server that cannot be reached must not hold up the other two ways for long.
if ! prebuilt "$rustc" && [ "${STD:-}${RUSTC:-}" = "" ] && command -v rustup >/dev/null; then
	timeout 180 rustup target add "$target" 2>/dev/null ||
		echo "static: rustup has no standard library for $target; looking for its source" >&2
fi

# `static` is not the default on mips, riscv64 and powerpc. A fixed address saves the relocations.
flags="-Ctarget-feature=+crt-static -Crelocation-model=static"
build=(zigbuild --release --locked --target "$target" --bin tailover --bin tailover-fetch)
if prebuilt "$rustc"; then
	std="prebuilt, $("$rustc" --version)"
else
	if ! source_of "$rustc"; then
		rustc=/usr/bin/rustc
		if ! [ -x "$rustc" ] || ! source_of "$rustc"; then
			echo "static: no standard library for $target: run 'rustup target add $target'," >&2
			echo "        'rustup component add rust-src' or 'apt install rustc-web rust-web-src'" >&2
			exit 1
		fi
	fi
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
