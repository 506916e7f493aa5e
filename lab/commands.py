"""The subcommands that run inside the sandbox."""

import os
import signal
import sys
import time

from .world import World


def _world(options):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    world = World(os.path.exists("/mnt/tailover"), options.rp_filter, options.source_routes)
    world.start()
    print(f"lab: up after {time.monotonic() - begun:.1f} s: {world.describe()}", flush=True)
    return world


def up(options):
    """Keeps a healthy lab until interrupted."""
    world = _world(options)
    for host in world.hosts:
        print(f"  lab/run shell {host.name}")
    print("lab: Ctrl-C ends it", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    return 0
