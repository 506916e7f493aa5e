#!/bin/sh
# The hotplug scripts hand the event over as it is, and cannot fail, speak or end their caller.

# shellcheck shell=dash
set -eu

# shellcheck source=tests/shell/lib/test.sh
. "$(dirname "$0")/lib/test.sh"

script="$WORK/90-tailover"
with_stub "$FILES/etc/hotplug.d/iface/90-tailover" "$script"

# As /sbin/hotplug-call does it: sourced in a subshell, the event in the environment.
call() {
	(
		# shellcheck disable=SC2030 # of this subshell alone
		export ACTION="$1" INTERFACE="$2" DEVICE="$3" FIRSTCONNECT="$4"
		# shellcheck disable=SC1090 # made above
		. "$script"
		echo "behind"
	) 2>&1
}

expect "without the binary" "behind" "$(call ifup wan eth1 '')"
expect "without the binary, as a program" "0" "$(env -i ACTION=ifup busybox ash "$script" >/dev/null && echo $?)"

stub "$WORK/tailover" "echo noise; echo noise >&2"
for action in ifup ifdown ifupdate connected disconnected connecting disconnecting; do
	: >"$CALLS"
	expect "quiet at $action" "behind" "$(call "$action" wan pppoe-wan 1)"
	expect "event $action" "hotplug ACTION=$action INTERFACE=wan DEVICE=pppoe-wan FIRSTCONNECT=1" "$(cat "$CALLS")"
done

: >"$CALLS"
expect "odd values" "behind" "$(call 'a b' 'w*n' "\$(x)" '')"
expect "odd values come unchanged" "hotplug ACTION=a b INTERFACE=w*n DEVICE=\$(x) FIRSTCONNECT=" "$(cat "$CALLS")"

stub "$WORK/tailover" "exit 3"
# netifd's caller may run with -e.
expect "a failing binary" "behind" "$(set -e; call ifup wan eth1 '')"

# A daemon's standard input is not what the caller has.
stub "$WORK/tailover" "cat >>'$CALLS'"
: >"$CALLS"
expect "standard input" "behind" "$(echo secret | call ifup wan eth1 '')"
expect "standard input is empty" "0" "$(grep -c secret "$CALLS" || true)"

# NTP's: only the action that says that the clock is set, under a name that the daemon takes.
script="$WORK/ntp"
with_stub "$FILES/etc/hotplug.d/ntp/90-tailover" "$script"
stub "$WORK/tailover" "echo noise; exit 3"
tick() {
	(
		set -e
		# shellcheck disable=SC2031 # of this subshell alone
		export ACTION="$1" freq_drift_ppm=0 offset=0.1 stratum=3 poll_interval=64
		# shellcheck disable=SC1090 # made above
		. "$script"
		echo "behind"
	) 2>&1
}
: >"$CALLS"
for action in step unsync periodic ""; do
	expect "quiet at $action" "behind" "$(tick "$action")"
done
expect "nothing told" "" "$(cat "$CALLS")"
expect "quiet at stratum" "behind" "$(tick stratum)"
expect "the clock is set" "hotplug ACTION=stratum INTERFACE=ntp DEVICE= FIRSTCONNECT=" "$(cat "$CALLS")"
