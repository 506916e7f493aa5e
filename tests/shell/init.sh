#!/bin/sh
# The init script gives procd the right instance, and reloads without a restart.

# shellcheck shell=dash
set -eu

# shellcheck source=tests/shell/lib/test.sh
. "$(dirname "$0")/lib/test.sh"

script="$WORK/init"
with_stub "$FILES/etc/init.d/tailover" "$script"
stub "$WORK/tailover"

# What /etc/rc.common and procd.sh give the script, noting each call.
note() { echo "$*" >>"$CALLS"; }
extra_command() { note extra_command "$1"; }
config_load() { note config_load "$1"; }
config_get_bool() { eval "$1=\${ENABLED:-$4}"; }
procd_open_instance() { note open; }
procd_set_param() { note set "$*"; }
procd_close_instance() { note close; }
procd_add_reload_trigger() { note trigger "$*"; }
procd_running() { [ "$1" = tailover ] && [ "$RUNNING" = 1 ]; }
procd_send_signal() { note signal "$*"; }
start() { start_service; }

# calls FUNCTION…: what it called.
calls() {
	: >"$CALLS"
	"$@"
	cat "$CALLS"
}

# shellcheck disable=SC1090 # made above
. "$script"
expect "extra commands" "extra_command check" "$(cat "$CALLS")"
expect "procd" "1" "$USE_PROCD"
# tailscale's script has START=80.
[ "$START" -gt 80 ] || expect "order" "after 80" "$START"

started="config_load tailover
open
set command $WORK/tailover run
set respawn 3600 5 0
set stdout 1
set stderr 1
close"
expect "start" "$started" "$(calls start_service)"
expect "start when off" "config_load tailover" "$(ENABLED=0 calls start_service)"

expect "reload" "$started
signal tailover * HUP" "$(RUNNING=1 calls reload_service)"
expect "reload of what did not run" "$started" "$(RUNNING=0 calls reload_service)"
expect "triggers" "trigger tailover" "$(calls service_triggers)"

none="ACTION= INTERFACE= DEVICE= FIRSTCONNECT="
expect "status" "status $none" "$(calls status_service)"
expect "check" "check --json $none" "$(calls check --json)"

stub "$WORK/tailover" "exit 4"
code=0
check || code=$?
expect "the exit code of check" 4 "$code"
