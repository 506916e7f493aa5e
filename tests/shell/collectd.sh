#!/bin/sh
# collectd's reader hands on values as collectd reads them, says that the daemon is down, and ends with its
# reader.

# shellcheck shell=dash
set -eu

# shellcheck source=tests/shell/lib/test.sh
. "$(dirname "$0")/lib/test.sh"

script="$WORK/tailover-collectd"
with_stub "$ROOT/openwrt/utils/tailover-monitoring/files/usr/libexec/tailover-collectd" "$script"

# tell FILE: what it tells while `tailover metrics` prints that; the second pause ends it.
tell() {
	stub "$WORK/tailover" "cat '$1'; echo noise >&2; exit 3"
	stub "$WORK/bin/sleep" "[ \"\$(grep -c '^sleep ' '$CALLS')\" -lt 2 ] || kill \$PPID"
	sed -i 's/^echo "/echo "sleep /' "$WORK/bin/sleep"
	: >"$CALLS"
	env -i PATH="$WORK/bin:$PATH" COLLECTD_HOSTNAME=router COLLECTD_INTERVAL=30.000 busybox ash "$script" 2>"$WORK/error" ||
		[ $? = 143 ]
}

told="$(tell "$ROOT/tests/recordings/metrics/openmetrics.txt")"

# Each line is one that collectd takes (collectd-exec(5)), of a type that its types.db has.
wrong="$(printf '%s\n' "$told" |
	grep -vE '^PUTVAL "router/tailover(-[A-Za-z0-9_.]+)?/(gauge|latency)-[a-z0-9_]+" interval=30.000 N:[0-9.]+$' |
	grep -vE '^PUTVAL "router/tailover(-[A-Za-z0-9_.]+)?/derive-[a-z0-9_]+" interval=30.000 N:[0-9]+$' || true)"
expect "only values" "" "$wrong"
expect "what tailover says for people is not for collectd's log" "" "$(grep noise "$WORK/error" || true)"

# value NAME: what it was told at first
value() {
	printf '%s\n' "$told" | sed -n "s#^PUTVAL \"router/$1\" .* N:##p" | head -n 1
}
expect "up" 1 "$(value tailover/gauge-up)"
expect "the dead uplink" 0 "$(value tailover-wan/gauge-open_ipv4)"
expect "the open one" 1 "$(value tailover-wanb/gauge-open_ipv4)"
expect "the one in use" 1 "$(value tailover-wanb/gauge-in_use_ipv4)"
expect "steered" 1 "$(value tailover/gauge-steered_ipv4)"
expect "episodes" 1 "$(value tailover/derive-episodes)"
expect "cures" 1 "$(value tailover/derive-cure_steer_done)"
expect "bytes" "$(sed -n 's/^tailover_probe_datagram_bytes_total{uplink="wan"} //p' \
	"$ROOT/tests/recordings/metrics/openmetrics.txt")" "$(value tailover-wan/derive-probe_bytes)"

expect "again and again" "sleep 30
sleep 30" "$(sed 's/ ACTION=.*//' "$CALLS" | grep ^sleep)"

printf 'tailover_up 0\n# EOF\n' >"$WORK/down"
told="$(tell "$WORK/down" | head -n 1)"
expect "without a daemon" 'PUTVAL "router/tailover/gauge-up" interval=30.000 N:0' "$told"

# An odd name of an uplink does not divide the name of the value.
printf 'tailover_uplink_in_use{family="ipv4",uplink="a/b c-d"} 1\n# EOF\n' >"$WORK/odd"
told="$(tell "$WORK/odd" | head -n 1)"
expect "an odd name" 'PUTVAL "router/tailover-a_b_c_d/gauge-in_use_ipv4" interval=30.000 N:1' "$told"

# Nobody reads any more: it does not go round for ever.
stub "$WORK/bin/sleep" "exec busybox sleep 0.05"
stub "$WORK/tailover" "cat '$ROOT/tests/recordings/metrics/openmetrics.txt'"
{
	env -i PATH="$WORK/bin:$PATH" busybox timeout 20 busybox ash "$script" || true
	: >"$WORK/ended"
} | head -n 1 >/dev/null &
waited=0
until [ -e "$WORK/ended" ] || [ $waited -ge 100 ]; do
	busybox sleep 0.1
	waited=$((waited + 1))
done
[ -e "$WORK/ended" ] || expect "its reader has gone" "the end" "it goes on"
wait
