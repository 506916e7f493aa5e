#!/bin/sh
# The package's own scripts and its first boot: nothing is left behind, nothing is lost in an upgrade.

# shellcheck shell=dash
set -eu

# shellcheck source=tests/shell/lib/test.sh
. "$(dirname "$0")/lib/test.sh"

# The scripts as the feed's Makefile has them.
mkdir -p "$WORK/install/bin"
for program in tailover tailover-fetch; do
	: >"$WORK/install/bin/$program"
done
env -u MAKEFLAGS make -s -C "$ROOT/openwrt/net/tailover" TOPDIR="$ROOT/tools/openwrt" \
	INCLUDE_DIR="$ROOT/tools/openwrt/include" OUT="$WORK/stage" PKG_INSTALL_DIR="$WORK/install" stage

# run SCRIPT [NAME=VALUE…]: what it calls.
run() {
	local script="$1"
	shift
	: >"$CALLS"
	env -i PATH="$WORK/bin:$PATH" "$@" busybox ash "$script"
	sed 's/ ACTION=.*//' "$CALLS"
}

# programs that the scripts find on PATH, noting their calls under their names
program() {
	stub "$WORK/bin/$1" "${2:-}"
	sed -i "s#^echo \"#echo \"$1 #" "$WORK/bin/$1"
}

for package in tailover tailover-mini; do
	fields="$WORK/stage/$package/fields"
	for script in prerm postinst; do
		sed -i "s#/usr/sbin/tailover#$WORK/tailover#g; s#/etc/init.d/tailover#$WORK/init#g; s#/var/run/tailover#$WORK/run#g" \
			"$fields/$script"
	done
	program killall "exit 1"
	program sleep
	stub "$WORK/init"
	stub "$WORK/tailover"
	sed -i 's#^echo "#echo "init #' "$WORK/init"
	sed -i 's#^echo "#echo "tailover #' "$WORK/tailover"

	# Removed while the daemon is dead: the same, and no waiting.
	program pidof "exit 1"
	mkdir -p "$WORK/run"
	: >"$WORK/run/lock"
	expect "$package: removal" "init stop
pidof tailover
tailover cleanup" "$(run "$fields/prerm")"
	[ ! -e "$WORK/run" ] || expect "state" "gone" "there"

	# The daemon ends a little later: it is waited for, and cleaned up after.
	: >"$WORK/living"
	program pidof "[ -e '$WORK/living' ]"
	program sleep "rm -f '$WORK/living'"
	expect "$package: removal of a living daemon" "init stop
pidof tailover
sleep 1
pidof tailover
tailover cleanup" "$(run "$fields/prerm")"

	# It does not end at all: not for ever.
	program pidof
	program sleep
	expect "$package: removal of one that hangs" "8" "$(run "$fields/prerm" | grep -c 'sleep 1')"
	expect "$package: and cleanup comes last" "tailover cleanup" "$(run "$fields/prerm" | tail -n 1)"

	# A tailover that cannot run (a full overlay, another CPU) does not stop the removal.
	program pidof "exit 1"
	stub "$WORK/tailover" "exit 127"
	run "$fields/prerm" >"$WORK/said"
	rm "$WORK/tailover" "$WORK/init"
	run "$fields/prerm" >"$WORK/said"

	expect "$package: upgrade" "" "$(run "$fields/prerm" PKG_UPGRADE=1)"
	expect "$package: an image's removal" "" "$(run "$fields/prerm" IPKG_INSTROOT=/image)"
	expect "$package: installation" "killall -s HUP ubusd" "$(run "$fields/postinst")"
	expect "$package: into an image" "" "$(run "$fields/postinst" IPKG_INSTROOT=/image)"
done

# The first boot.
defaults="$WORK/uci-defaults"
sed "s#/etc/config/tailover#$WORK/config#g" "$FILES/etc/uci-defaults/90-tailover" >"$defaults"
program uci "[ \"\$2\" = get ] && echo tailover"
expect "a section that is there is left alone" "uci -q get tailover.main" "$(run "$defaults")"
program uci "[ \"\$2\" != get ]"
expect "a section that is lost" "uci -q get tailover.main
uci -q set tailover.main=tailover
uci -q commit tailover" "$(run "$defaults")"
program uci "exit 1"
# On a read-only or full overlay: it says nothing worse than that it could not.
run "$defaults" >"$WORK/said"
expect "its last line" "exit 0" "$(tail -n 1 "$defaults")"

# As default_postinst runs it: sourced, and deleted only when it gives 0.
(
	PATH="$WORK/bin:$PATH"
	# shellcheck disable=SC1090 # made above
	. "$defaults"
)
