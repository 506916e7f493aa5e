#!/bin/sh
# The init script gives procd the right instance, and reloads without a restart.

# shellcheck shell=dash
set -eu

# shellcheck source=tests/shell/lib/test.sh
. "$(dirname "$0")/lib/test.sh"

script="$WORK/init"
with_stub "$FILES/etc/init.d/tailover" "$script"
stub "$WORK/tailover"

sed -i "s#^CAPABILITIES=.*#CAPABILITIES=$WORK/capabilities#; s#^UJAIL=.*#UJAIL=$WORK/ujail#" "$script"

# What /etc/rc.common, functions.sh and procd.sh give the script, noting each call.
note() { echo "$*" >>"$CALLS"; }
extra_command() { note extra_command "$1"; }
# Of the words in /lib/functions.sh those that the tests use.
get_bool() {
	case "$1" in
	1 | on | enabled) echo 1 ;;
	0 | off | disabled) echo 0 ;;
	*) echo "$2" ;;
	esac
}
# validate_data gives each option as the file has it, else its default; without a function it ends there.
uci_load_validate() {
	note uci_load_validate "$1" "$2" "$3" "${4:-}"
	[ -n "$4" ] || return 0
	# shellcheck disable=SC2034 # for the script
	enabled="${ENABLED:-1}"
	"$4" "$3" "${VALID:-0}"
}
procd_open_instance() { note open; }
procd_set_param() { note set "$*"; }
procd_close_instance() { note close; }
procd_add_jail() { note jail "$*"; }
procd_add_reload_trigger() { note trigger "$*"; }
procd_add_validation() { note validation "$*" && "$1"; }
procd_running() { [ "$1" = tailover ] && [ "$RUNNING" = 1 ]; }
procd_send_signal() { note signal "$*"; }
logger() { note logger "$*"; }
start() { start_service; }

# calls FUNCTION…: what it called, and its exit code where that is not 0.
calls() {
	: >"$CALLS"
	local code=0
	"$@" || code=$?
	# The event's variables are the other test's.
	sed 's/ ACTION=.*//' "$CALLS"
	[ "$code" -eq 0 ] || echo "code $code"
}

# shellcheck disable=SC1090 # made above
. "$script"
expect "extra commands" "extra_command check
extra_command report" "$(cat "$CALLS")"
expect "procd" "1" "$USE_PROCD"
# tailscale's script has START=80.
[ "$START" -gt 80 ] || expect "order" "after 80" "$START"

loaded="uci_load_validate tailover tailover main start_main"
instance="open
set command $WORK/tailover run
set file $WORK/tailover $WORK/tailover-fetch
set respawn 3600 5 0
set stdout 1
set stderr 1"
started="$loaded
run --test
$instance
close"
expect "start" "$started" "$(calls start_service)"
# procd's rules and the daemon's own differ: the daemon is the judge.
expect "start with what only procd dislikes" "$started" "$(VALID=1 calls start_service)"
for word in 0 off disabled; do
	expect "start when off: $word" "$loaded" "$(ENABLED=$word calls start_service)"
done
for word in 1 enabled; do
	expect "start when on: $word" "$started" "$(ENABLED=$word calls start_service)"
done

reloaded="run --test
$started"
expect "reload" "$reloaded
signal tailover * HUP" "$(RUNNING=1 calls reload_service)"
expect "reload of what did not run" "$reloaded" "$(RUNNING=0 calls reload_service)"
expect "reload when off" "run --test
$loaded
signal tailover * HUP" "$(RUNNING=1 ENABLED=0 calls reload_service)"

# Neither tailscale nor mwan3 is there, and no program but the shell's own: the daemon waits for them.
expect "start alone on the router" "$started" "$(
	: >"$CALLS"
	PATH=/nothing start_service
	sed 's/ ACTION=.*//' "$CALLS"
)"

# The rights are given where there is a jail to give them.
stub "$WORK/ujail"
expect "a jail without its file" "$started" "$(calls start_service)"
: >"$WORK/capabilities"
expect "jail" "$loaded
run --test
$instance
jail tailover
set capabilities $WORK/capabilities
set no_new_privs 1
close" "$(calls start_service)"
rm "$WORK/ujail"

expect "triggers" "trigger tailover
validation validate_main
uci_load_validate tailover tailover main " "$(calls service_triggers)"
expect "status" "status" "$(calls status_service)"
expect "check" "check --json" "$(calls check --json)"
expect "report" "report --mask" "$(calls report --mask)"

stub "$WORK/tailover" "exit 4"
expect "the exit code of check" "check
code 4" "$(calls check)"

# A wrong file: nothing is started, and procd is not told of a service without an instance, which
# would end the daemon that runs.
stub "$WORK/tailover" "echo \"line 3: 'x' is no number\"; exit 2"
wrong="run --test
logger -s -t tailover -p daemon.err line 3: 'x' is no number
code 1"
expect "start with a wrong file" "$loaded
$wrong" "$(calls start_service)"
expect "reload with a wrong file" "$wrong" "$(RUNNING=1 calls reload_service)"
