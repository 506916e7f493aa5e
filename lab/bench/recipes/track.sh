#!/bin/sh
# What one mwan3track does for one uplink: track.sh DEVICE INTERVAL HOST. A ping, its result by a file, a sleep
# that a signal can end. The real one also keeps OpenWrt's library of functions in memory, so it is larger.
device="$1"
interval="$2"
host="$3"
up=5
score=10
while true; do
	if busybox ping -I "$device" -c 1 -W 4 -s 56 -q "$host" >/dev/null 2>&1; then
		[ "$score" -ge 10 ] || score=$((score + 1))
		state=up
	else
		[ "$score" -le 0 ] || score=$((score - 1))
		state=down
	fi
	echo "$state" >/run/track-state
	echo "$score" >/run/track-score
	[ "$score" -gt "$up" ] && echo online >/run/track-status
	busybox sleep "$interval" &
	wait
done
