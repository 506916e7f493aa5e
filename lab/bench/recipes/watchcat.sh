#!/bin/sh
# What watchcat does in its mode run_script: watchcat.sh PERIOD PINGPERIOD HOST SCRIPT.
#
# HOST is pinged once all the PINGPERIOD seconds; when no ping has been answered for PERIOD seconds, SCRIPT is
# run and the count begins anew. A ping without an answer takes as long as busybox waits for it, 10 s.
period="$1"
pingperiod="$2"
host="$3"
script="$4"

uptime_seconds() {
	read -r now rest </proc/uptime
	echo "${now%%.*}"
}

last_check="$(uptime_seconds)"
last_answer="$last_check"
while true; do
	elapsed=$(($(uptime_seconds) - last_check))
	[ "$elapsed" -ge "$pingperiod" ] || sleep $((pingperiod - elapsed))
	last_check="$(uptime_seconds)"
	if busybox ping -s 56 -c 1 "$host" >/dev/null 2>&1; then
		last_answer="$last_check"
	elif [ $((last_check - last_answer)) -ge "$period" ]; then
		sh "$script"
		last_answer="$last_check"
	fi
done
