#!/bin/sh
# Installs what `make test` and `make demo` need and this machine lacks. For Debian 12 or later and
# its kin, as root; on another system it says what is missing.
set -eu
cd "$(dirname "$0")/.."

# Command, and the package that has it.
needed="
ip iproute2
iptables iptables
nft nftables
conntrack conntrack
dnsmasq dnsmasq-base
tayga tayga
shellcheck shellcheck
busybox busybox
ping iputils-ping
openssl openssl
pgrep procps
lua5.1 lua5.1
python3 python3
readelf binutils
qemu-mips-static qemu-user-static
cc gcc
git git
chromium chromium
node nodejs
npm npm
"

export DEBIAN_FRONTEND=noninteractive
# The administrators' commands are there but not on every user's PATH.
PATH="$PATH:/usr/sbin:/sbin"
packages=""
while read -r command package; do
	[ -z "$command" ] || command -v "$command" >/dev/null || packages="$packages $package"
done <<END
$needed
END
# Debian's python3 has the module venv and not what it needs.
python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages="$packages ca-certificates"
# libc's own headers, for ring's C code in the unit tests.
[ -e /usr/include/stdlib.h ] || packages="$packages libc6-dev"

# Rust: what is there if it is new enough, else Debian's build for its browsers, which keeps pace.
wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
have="$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)"
if [ "$(printf '%s\n' "$wanted" "${have:-0}" | sort -V | head -n 1)" != "$wanted" ]; then
	packages="$packages cargo-web rustc-web rustfmt-web rust-web-clippy"
elif command -v rustup >/dev/null; then
	# Both are parts of the default profile; a minimal one lacks them.
	cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
fi
# The source of the standard library: the static binaries are smaller with it (tools/static.sh).
if command -v apt-get >/dev/null &&
	[ ! -e "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std" ] &&
	[ ! -e "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std" ]; then
	packages="$packages rustc-web rust-web-src"
fi

if [ -n "$packages" ]; then
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		echo "deps: missing, and only root can install it (Debian's names):$packages" >&2
		exit 1
	fi
	echo "deps: installing$packages"
	apt-get -qq update
	# shellcheck disable=SC2086 # a list of words
	apt-get -qq install --no-install-recommends $packages </dev/null >/dev/null
fi

tools/zig.sh >/dev/null
tools/go.sh >/dev/null
echo "deps: all there"
