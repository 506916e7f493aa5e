#!/bin/bash
# Builds the two static musl binaries for one target (default: this machine's CPU) and proves them
# static.
#
#   tools/static.sh [--mini|--symbols|--tests] [TARGET [CARGO-ARGUMENT...]]     e.g. mips-unknown-linux-musl
#
# The results are tailover and tailover-fetch, in target/static for the host's CPU and in
# target/static/TARGET for others. With --mini they are built without TLS, into the folder mini there;
# with --symbols not stripped, into the folder symbols (for tools/size.py).
# With --tests the tests that need neither network nor root are built and run, by the runner that the
# environment names (CARGO_TARGET_..._RUNNER).
# The standard library is built from source where there is one, as the binaries are then 400 kB
# smaller: beside the rustc in use, or beside Debian's (package rust-web-src). Else it is a prebuilt
# one that rustup has or can fetch. STD=prebuilt passes over the first way, and is faster by minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=
case "${1:-}" in --mini | --symbols | --tests)
	kind="${1#--}"
	shift
	;;
esac
host="$(uname -m | sed 's/^arm.*/armv7/')-unknown-linux-musl"
[ "$host" = armv7-unknown-linux-musl ] && host=armv7-unknown-linux-musleabihf
target="${1:-$host}"
shift || true
if [ "$target" = "$host" ]; then out=target/static; else out="target/static/$target"; fi
case "$kind" in mini | symbols) out="$out/$kind" ;; esac

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
# Thumb-2, which every ARMv7 has: a quarter smaller than its 32-bit instructions.
case "$target" in armv7-*) flags="$flags -Ctarget-feature=+thumb-mode" ;; esac
settings=(--locked --target "$target")
[ "$kind" != mini ] || settings+=(--no-default-features)
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
	flags="$flags -Clink-self-contained=no"
	settings+=("-Zbuild-std=std,panic_abort")
	if [ "$kind" != tests ]; then
		flags="$flags -Cforce-unwind-tables=no"
		settings+=(-Zbuild-std-features=optimize_for_size)
	fi
fi

echo "static: $target${kind:+, $kind}, standard library $std"
case "$target" in mips-* | powerpc-*)
	tools/mended-rustc.sh check
	export RUSTC_WRAPPER="$PWD/tools/mended-rustc.sh" MENDED="$PWD/target/static-build/mended/$target"
	;;
esac

zig="$(tools/zig.sh)"
case "$target" in powerpc-*)
	# The three together keep cargo-zigbuild from looking for a zig of its own.
	export CARGO_ZIGBUILD_ZIG_COMMAND="$PWD/tools/zig-powerpc.sh" CARGO_ZIGBUILD_ZIG_COMMAND_ARGS=""
	CARGO_ZIGBUILD_ZIG_VERSION="$("$zig/python3" -m ziglang version)"
	export CARGO_ZIGBUILD_ZIG_VERSION
	;;
esac
# A target folder of its own: these flags would throw the tests' builds away.
export PATH="$zig:$PATH" CARGO_TARGET_DIR=target/static-build RUSTFLAGS="$flags"
if [ "$kind" = tests ]; then
	# Profile and std are others: with unwinding, as libtest wants it, and built in a fraction of the time.
	cargo-zigbuild test --profile cross-test --lib --test time64 "${settings[@]}" "$@"
	exit 0
fi

# A panic ends the program at once and without words: that is a tenth of the program, all of which is
# resident in the daemon. The kernel logs the address, and the addresses are fixed (docs/building.md).
quiet=immediate-abort
if [ -n "$source" ] && "$rustc" -Zunstable-options "-Cpanic=$quiet" --print cfg >/dev/null 2>&1; then
	export CARGO_PROFILE_RELEASE_PANIC="$quiet"
	settings+=("-Zpanic-$quiet")
fi
case "$kind" in
symbols)
	# Told to the last compilation alone: as a setting of the profile it would build everything anew.
	for name in tailover tailover-fetch; do
		cargo-zigbuild rustc --release --bin "$name" "${settings[@]}" "$@" -- -Cstrip=none
	done
	;;
*) cargo-zigbuild zigbuild --release --bin tailover --bin tailover-fetch "${settings[@]}" "$@" ;;
esac

mkdir -p "$out"
echo "$std" >"$out/std"
for name in tailover tailover-fetch; do
	binary="$out/$name"
	# A new file: the old one may be running.
	cp "target/static-build/$target/release/$name" "$binary.new"
	[ "$kind" = symbols ] || tools/trim.py "$binary.new"
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
