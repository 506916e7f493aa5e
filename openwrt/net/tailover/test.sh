#!/bin/sh
# What openwrt/packages' CI runs after an installation: $1 is the package, $2 its version.

# shellcheck shell=dash
set -eu

case "$1" in
tailover | tailover-mini)
	tailover --version | grep -qxF "tailover $2"
	# The shipped file is one that the daemon takes.
	tailover --config /etc/config/tailover run --test
	;;
esac
