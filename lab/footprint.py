"""What the daemon costs the router: memory, processor, and bytes on the uplinks."""

import json
import os
import re
import sys
import threading
import time
from pathlib import Path

from . import plan
from .blind import CONFIG
from .hosts import wait_until
from .paths import STATE, TREE_INSIDE
from .steps import PATIENCE, await_quiet, expect, linger, start_tailover
from .tailnet import tcp_flows

# What the idle daemon may hold of a small router's memory: VmRSS, in kB.
IDLE_KB = 1500
# Of one processor, in percent; and how often a second it may wake it.
IDLE_PERCENT = 0.1
IDLE_WAKES = 1.0
# What it may cost an idle uplink in a month of 30 days, both ways.
MONTH_BYTES = 15_000_000

_MONTH = 30 * 24 * 3600
# tailscaled calls a peer idle 45 s after its last packet; its netchecks end then.
UNTIL_IDLE = 60.0
# tailscaled's own port for UDP, and where it looks for a port mapping (NAT-PMP,
# PCP, UPnP): nothing of that is tailover's.
_TAILSCALED_UDP = 41641
_MAPPING_PORTS = {5350, 5351, 1900}
_CROWD = 1000
# A renewal that met the crowd's control server is waited for so long.
_UNTIL_WELL = 120.0


# Memory.


def idle_memory(world):
    """The daemon that has nothing to do is small, also after TLS probes, cures and a check."""
    return _memory(world, 1, 0)


def memory_of_a_crowd(world):
    """The same after a status with 1,000 peers."""
    return _memory(world, _CROWD, 0)


def memory_later(world):
    """The same ten minutes later."""
    return _memory(world, _CROWD, 600)


def _memory(world, crowd, later):
    """VmRSS after TLS probes, a nudge, a renewal and a check, with so many peers more."""
    world.internet.crowd(crowd)
    try:
        wait_until(lambda: len(world.node.status()["Peer"]) > crowd, _UNTIL_WELL, "the crowd")
        start_tailover(world)
        _burst_over(world)
        # Renews all there is: the nudge reads tailscaled's status with its peers.
        world.router.host.run(["tailover", "recover", "--force"], check=False)
        log = world.router.log_of_tailover
        wait_until(lambda: "peers answered" in log(), PATIENCE, "the nudge")
    finally:
        # headscale takes long to give a new client the map of so many.
        world.internet.crowd(0)
    _burst_over(world)
    world.router.host.run(["tailover", "check"], check=False)
    _burst_over(world)
    linger(later)
    sizes = [_sizes(pid) for pid in _processes(world)]
    total = sum(size["VmRSS"] for size in sizes)
    words = " + ".join(f"{s['Name']} {s['VmRSS']} kB ({s['RssAnon']} anonymous)" for s in sizes)
    expect(total <= IDLE_KB, f"VmRSS {words}, wanted {IDLE_KB} kB")
    return f"VmRSS {words}"


def _burst_over(world):
    await_quiet(world, _UNTIL_WELL)
    # proc_pid_children(5): also a zombie would be in the list.
    wait_until(lambda: len(_processes(world)) == 1, PATIENCE, "the end of the probing worker")


def _processes(world):
    """The pids of the daemon and of its children."""
    pid = world.router.tailover.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _sizes(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    sizes = {name: int(kb) for name, kb in re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", text)}
    return sizes | {"Name": re.search(r"Name:\s+(\S+)", text)[1]}


# Processor and uplinks.


def idle_cost(world):
    """The idle daemon hardly wakes the processor and hardly uses the uplinks."""
    return _cost(world, 180)


def cost_longer(world):
    """The same over half an hour."""
    return _cost(world, 1800)


def _cost(world, span):
    """Processor time, wake-ups and bytes over `span` seconds at the defaults, nobody
    using the tailnet.

    Counted on the cables to the ISPs: all of the router's packets except those that
    are provably tailscaled's (its UDP port, its TCP connections, its search for a
    port mapping). Both use the same mark on the path, so a firewall rule could not
    tell them apart. Lookups count whoever asked. A TCP connection that was too short
    to be seen among tailscaled's counts when the daemon has begun an assessment
    meanwhile, which its log tells: it opens none else.
    """
    world.pause_pings()
    captures = []
    owner = FlowsOf(world.node)
    try:
        world.router.start_tailover(CONFIG)
        await_quiet(world)
        linger(UNTIL_IDLE)
        captures = [Capture(isp) for isp in world.isps.values()]
        for capture in captures:
            wait_until(capture.file.exists, PATIENCE, "the capture")
        before, began = spent(world), time.monotonic()
        episodes = world.router.log_of_tailover().count("looking: ")
        linger(span)
        after, took = spent(world), time.monotonic() - began
        looked = world.router.log_of_tailover().count("looking: ") - episodes
        # The counts are written once a second.
        linger(1.5)
        rows = {capture.name: capture.rows() for capture in captures}
    finally:
        world.resume_pings()
        owner.stop()
        for capture in captures:
            capture.stop()
    percent = 100 * (after["cpu"] - before["cpu"]) / took
    wakes = (after["wakes"] - before["wakes"]) / took
    words = [f"{took:.0f} s idle: {percent:.3f} % of a core, {wakes:.2f} wake-ups a second"]
    words.append(f"{looked} assessments")
    costs = []
    for isp in plan.ISPS:
        kinds = by_kind(rows[isp.name], owner.ports, looked)
        total = sum(size for _, size in kinds.values())
        costs.append(total * _MONTH / took)
        parts = ", ".join(f"{kind} {count} of {size} B" for kind, (count, size) in sorted(kinds.items()))
        words.append(f"{isp.wan} {costs[-1] / 1e6:.1f} MB a month ({parts or 'nothing'})")
    text = "; ".join(words)
    expect(percent <= IDLE_PERCENT, f"wanted {IDLE_PERCENT} % of a core: {text}")
    expect(wakes <= IDLE_WAKES, f"wanted {IDLE_WAKES} wake-ups a second: {text}")
    expect(max(costs) <= MONTH_BYTES, f"wanted {MONTH_BYTES / 1e6:.0f} MB a month: {text}")
    return text


def spent(world):
    """Processor seconds of the daemon and its ended children, of those alone, and its wake-ups."""
    pid = world.router.tailover.pid
    # proc_pid_stat(5): after the name in parentheses, utime is the 12th field, then
    # stime and both of the children that were waited for.
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = sum(map(int, fields[11:15]))
    wakes = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        wakes += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[1])
    second = os.sysconf("SC_CLK_TCK")
    children = sum(map(int, fields[13:15])) / second
    return {"cpu": ticks / second, "children": children, "wakes": wakes}


def by_kind(rows, tailscaled, looked):
    """{kind: (packets, bytes)} of what is not tailscaled's, whose TCP ports are given;
    `looked` is how many assessments the daemon has begun."""
    kinds = {}
    for protocol, near, _, far, packets_out, bytes_out, packets_in, bytes_in in rows:
        if protocol == 6 and (near in tailscaled or not looked):
            continue
        if protocol == 17 and (near == _TAILSCALED_UDP or far in _MAPPING_PORTS):
            continue
        names = {(17, 3478): "STUN", (17, 53): "DNS", (6, 443): "TLS", (6, 80): "HTTP"}
        kind = names.get((protocol, far), f"protocol {protocol} port {far}")
        count, size = kinds.get(kind, (0, 0))
        kinds[kind] = (count + packets_out + packets_in, size + bytes_out + bytes_in)
    return kinds


class Capture:
    """lab/capture.py at work in an ISP's host."""

    def __init__(self, isp):
        spec = isp.spec
        self.name = spec.name
        self.file = STATE / f"capture-{spec.name}.json"
        self.file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "lab.capture", "cust0", self.file]
        command += [spec.address, spec.address6]
        self._process = isp.host.spawn("capture", ["env", "-C", TREE_INSIDE, *command])

    def rows(self):
        """What was counted so far, a row for each flow."""
        return json.loads(self.file.read_text())

    def stop(self):
        """Ends the program."""
        self._process.kill()
        self._process.wait()


class FlowsOf:
    """Remembers every local TCP port that a node's tailscaled has been seen with."""

    _INTERVAL = 0.05

    def __init__(self, node):
        self.ports = set()
        self._node = node
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self):
        """Ends the thread."""
        self._ending.set()
        self._thread.join(10)

    def _loop(self):
        while not self._ending.wait(self._INTERVAL):
            try:
                flows = tcp_flows(self._node.pid(), established=False)
            except (OSError, ValueError):
                # It ended between two looks.
                continue
            self.ports |= {local[1] for local, _ in flows}
