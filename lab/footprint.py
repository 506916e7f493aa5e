"""What the idle daemon costs the router."""

import re
from pathlib import Path

from .steps import PATIENCE, await_quiet, expect, start_tailover
from .hosts import wait_until

# What the idle daemon may hold of a small router's memory: VmRSS, in kB.
IDLE_KB = 1500


def idle_memory(world):
    """The daemon that has nothing to do is small, also after a full burst of probes."""
    start_tailover(world)
    pid = world.router.tailover.pid

    def worker_ended():
        # proc_pid_children(5): also a zombie would be in the list.
        return not Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def burst_over():
        await_quiet(world)
        wait_until(worker_ended, PATIENCE, "the end of the probing worker")

    burst_over()
    world.router.host.run(["tailover", "recover"], check=False)
    burst_over()
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", status))
    expect(int(sizes["VmRSS"]) <= IDLE_KB, f"VmRSS {sizes['VmRSS']} kB, wanted {IDLE_KB}")
    return f"VmRSS {sizes['VmRSS']} kB, of it anonymous {sizes['RssAnon']} kB"
