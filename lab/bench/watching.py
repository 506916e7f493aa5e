"""What watching costs a router while nothing is wrong: tailover, and the shells that others watch by."""

import json
import os
import re
import shutil
import statistics
import sys
import time
from pathlib import Path

from .. import footprint, plan
from ..hosts import wait_until
from ..paths import STATE, TAILOVER_INSIDE, TREE_INSIDE
from ..steps import PATIENCE, await_quiet, linger
from . import cost

_RECIPES = TREE_INSIDE / "lab/bench/recipes"
_STEP = 1.0
_HOUR = 3600.0
_ICMP = (1, 58)

# Each pings a host of its own, so that the bytes on the cable can be told apart.
_SHELLS = [
    ("watchcat, each 60 s", ["watchcat.sh", "120", "60", "8.8.8.8", "/bin/true"], "8.8.8.8"),
    ("watchcat, each 1 s", ["watchcat.sh", "2", "1", plan.IPIFY[0], "/bin/true"], plan.IPIFY[0]),
    ("one mwan3track, each 10 s", ["track.sh", "eth1", "10", "1.1.1.1"], "1.1.1.1"),
    ("one mwan3track, each 2 s", ["track.sh", "eth1", "2", plan.DERPS[901][1]], plan.DERPS[901][1]),
]


def measure(world, span, say):
    """All of them at once for `span` seconds, nobody using the tailnet; replaces their rows."""
    how = (
        f"{span:.0f} s on an idle tailnet, all of them at once, at tailover's defaults, on {os.uname().machine};"
        " memory is the median of the samples, a shell's with its child of that moment (ping or sleep); private:"
        " pages that no other process has, so a program's own too where it runs once; anonymous: what it has"
        " written, without any program's pages. busybox is Debian's, dynamically linked, and runs many times here."
    )
    world.pause_pings()
    captures, owner, running = [], footprint.FlowsOf(world.node), []
    try:
        world.router.start_tailover("config tailover 'main'\n\toption log_level 'debug'\n")
        await_quiet(world)
        linger(footprint.UNTIL_IDLE)
        captures = [footprint.Capture(isp) for isp in world.isps.values()]
        for capture in captures:
            wait_until(capture.file.exists, PATIENCE, "the capture")
        for number, (_, words, _) in enumerate(_SHELLS):
            file = STATE / f"spent-{number}.json"
            file.unlink(missing_ok=True)
            program = [sys.executable, "-m", "lab.bench.spent", file, "busybox", "ash", _RECIPES / words[0], *words[1:]]
            running.append((world.router.host.spawn("spent", ["env", "-C", TREE_INSIDE, *program]), file))
        log = world.router.log_of_tailover
        before, begun, looked = _spent(world), time.monotonic(), log().count("looking: ")
        memory = _sample(world, running, begun + span)
        after, took = _spent(world), time.monotonic() - begun
        looked = log().count("looking: ") - looked
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            process.wait(30)
        # The counts are written once a second.
        linger(1.5)
        rows = {capture.name: capture.rows() for capture in captures}
    finally:
        world.resume_pings()
        owner.stop()
        for capture in captures:
            capture.stop()
        for process, _ in running:
            process.kill()
        world.router.stop_tailover()
    table = _tailover(before, after, took, memory[0], rows, owner.ports, looked)
    for number, (title, words, host) in enumerate(_SHELLS):
        spent = json.loads(running[number][1].read_text())
        size = Path(shutil.which("busybox")).stat().st_size + (_RECIPES / words[0]).stat().st_size
        sent = {name: sum(r[5] + r[7] for r in of if r[0] in _ICMP and r[2] == host) for name, of in rows.items()}
        table += _rows(title, memory[number + 1], spent["cpu"], spent["wakes"], spent["seconds"], sent, size)
    for row in table:
        say("  " + " ".join(map(str, row)))
    cost.replace("watching", [(*row, how) for row in table])


def _tailover(before, after, took, memory, rows, ports, looked):
    kinds = {name: footprint.by_kind(of, ports, looked) for name, of in rows.items()}
    # The shells' pings are not its own.
    sent = {name: sum(size for kind, (_, size) in of.items() if not kind.startswith(("protocol 1 ", "protocol 58 ")))
            for name, of in kinds.items()}
    size = sum(file.stat().st_size for file in (TAILOVER_INSIDE, TAILOVER_INSIDE.with_name("tailover-fetch")))
    spent = {key: after[key] - before[key] for key in after}
    return _rows("tailover as shipped", memory, spent["cpu"], spent["wakes"], took, sent, size)


def _rows(subject, memory, cpu, wakes, took, sent, size):
    rss, private, anonymous = (statistics.median(values) for values in zip(*memory))
    rows = [
        (subject, "RSS", f"{rss:.0f}", "kB"), (subject, "private", f"{private:.0f}", "kB"),
        (subject, "anonymous", f"{anonymous:.0f}", "kB"),
        (subject, "processor", f"{cpu * _HOUR / took:.2f}", "s an hour"),
        (subject, "wake-ups", f"{wakes / took:.2f}", "a second"),
    ]
    for isp in plan.ISPS:
        rows.append((subject, f"bytes on {isp.wan}", f"{sent[isp.name] * _HOUR / took / 1000:.1f}", "kB an hour"))
    return [*rows, (subject, "programs", f"{size / 1000:.0f}", "kB")]


def _sample(world, running, until):
    """[[(RSS, private, anonymous kB)]] of tailover and of each shell, once a second."""
    samples = [[] for _ in range(len(running) + 1)]
    while time.monotonic() < until:
        trees = [_tree(world.router.tailover.pid)] + [_tree(process.pid)[1:] for process, _ in running]
        for number, pids in enumerate(trees):
            known = [memory for memory in map(_memory, pids) if memory]
            if known:
                samples[number].append(tuple(map(sum, zip(*known))))
        linger(_STEP)
    return samples


def _tree(pid):
    """The process and all below it, the outermost first."""
    found = [pid]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:
            # It has ended.
            pass
    return found


def _memory(pid):
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    sizes = {name: int(kb) for name, kb in re.findall(r"(\w+):\s+(\d+) kB", text)}
    if "Rss" not in sizes:
        return None
    return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Anonymous"]


def _spent(world):
    """Processor seconds and voluntary context switches so far, of the daemon and its ended children."""
    spent = footprint.spent(world)
    own = sum(
        int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{world.router.tailover.pid}/task").iterdir()
    )
    return {"cpu": own / 1e9 + spent["children"], "wakes": spent["wakes"]}
