#!/bin/sh
# What watchcat is to run.
/etc/init.d/tailscale restart
