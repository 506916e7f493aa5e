#!/bin/sh
# Stands where a program was, notes each call that acts on tailscaled, and becomes that program, REAL.
case "$*" in
restart | start | stop | down | up* | "debug rebind" | "debug restun")
	read -r now _ </proc/uptime
	echo "$now $*" >>/run/noted-acts
	;;
esac
exec REAL "$@"
