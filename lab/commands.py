"""The subcommands that run inside the sandbox. Each returns its exit code."""

import random
import signal
import statistics
import sys
import time
import traceback

from . import blind, picture, scenarios
from . import naming as names
from . import record
from . import troubles as trouble
from . import turns
from .bench import run as benches
from .bench import watching
from .hosts import HostError
from .paths import LOGS, TAILOVER_INSIDE, TREE_INSIDE
from .sandbox import NOT_UP
from .steps import Failed, fail_back, fail_over, seconds, start_tailover
from .world import World

# The demo watches the dead tailnet for so long before it believes it.
_WATCH_DEAD = 45
_BROKEN = (Failed, TimeoutError, HostError, OSError)


def up(options):
    """Keeps a healthy lab until interrupted."""
    world = _world(options)
    for host in world.hosts:
        print(f"  lab/run shell {host.name}")
    _say("lab: Ctrl-C ends it")
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


def test(options):
    """Runs the scenarios, or this lab's share of them; fails when one fails."""
    chosen = _chosen(options)
    if options.list:
        # `| head` ends it without a word, like any other program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for scenario in chosen:
            print(f"{scenario.name}: {scenario.run.__doc__.splitlines()[0]}")
        return 0
    world = _world(options)
    shared = options.labs > 1
    rows = []
    for scenario in turns.shared(chosen) if shared else chosen:
        begun = time.monotonic()
        result, text = _try(world, scenario)
        rows.append((result, time.monotonic() - begun, scenario.name, text))
        _say(f"{result:7} {scenario.name}: {text}")
        if shared:
            turns.note(rows[-1])
    # What came of all of them is for who has shared them out.
    return 0 if shared else _table(rows)


def tell(options):
    """What came of scenarios that several labs have shared; fails when one failed, or was not run."""
    came = {row[2]: row for row in turns.rows()}
    nothing = "no lab has come to its end"
    return _table([came.get(s.name, ("failed", 0.0, s.name, nothing)) for s in _chosen(options)])


def _table(rows):
    """Prints what came of each scenario; returns the exit code."""
    width = max((len(name) for _, _, name, _ in rows), default=0)
    _say("")
    for result, took, name, text in rows:
        # What a scenario that passed has measured stands above.
        reason = "" if result == "passed" else f"  {text}"
        _say(f"{result:7} {name:{width}} {took:6.0f} s{reason}")
    results = [result for result, *_ in rows]
    kinds = ("passed", "failed", "skipped")
    _say(", ".join(f"{results.count(kind)} {kind}" for kind in kinds))
    return 1 if "failed" in results or "passed" not in results else 0


def measure(options):
    """Repeats failover and failback; prints medians."""
    if options.kind:
        return _measure_blind(options)
    kinds = ["direct", "derp-only"] if options.peer == "both" else [options.peer]
    world = _world(options)
    if options.cure == "tailover" and not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    lost = 0
    for kind in kinds:
        runs = []
        for number in range(1, options.n + 1):
            figures, back = _once(world, kind, options.cure)
            runs.append((figures, back))
            _say(f"{kind} {number}: {figures}; back again: {back}")
        lost += sum(None in (f.control, f.ping, f.ping6, b.control) for f, b in runs)
        _say(f"{kind}, medians of {options.n}: {_medians(runs)}")
    return 1 if lost else 0


def _measure_blind(options):
    """What tailover finds by itself, repeated; fails when a run never came back."""
    world = _world(options)
    if not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    good = blind.measure(world, blind.KINDS[options.kind], options.n, _say)
    return 0 if good else 1


def naming(options):
    """Injects faults and compares their names with those the daemon gives them."""
    world = _world(options)
    if not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    table, good = names.run_all(world, options.names)
    _say(table)
    return 0 if good else 1


def troubles(options):
    """What goes wrong around tailover, each at each moment; fails when one is not survived."""
    world = _world(options)
    if not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    pairs = trouble.pairs(options.names, options.moment, world.seed)
    done = record.noted("troubles") if options.record else {}
    failed = []
    for name, moment in pairs:
        before = done.get(f"{name} at {moment}", {})
        if before.get("survived") and before["program"] == record.program():
            continue
        text, good = trouble.attempt(world, name, moment)
        _say(f"{'survived' if good else 'FAILED':8} {name} at {moment}: {text}")
        if not good:
            failed.append(f"{name} at {moment}")
            _show_log()
        if options.record:
            record.note("troubles", f"{name} at {moment}", survived=good, said=text, program=record.program())
    _say(f"{len(pairs)} troubles, {len(failed)} not survived: {', '.join(failed) or 'none'}; seed {world.seed}")
    return 1 if failed else 0


def bench(options):
    """What people use today beside tailover, each with the same outages."""
    world = _world(options)
    if not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    if options.watching:
        watching.measure(world, options.watching, _say)
        return 0
    return benches.bench(world, options, _say)


def demo(options):
    """The failover without and with tailover; fails when the tailnet stays away."""
    world = _world(options)
    if not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    _say("\n== 1. tailscaled and mwan3 alone ==")
    _say("WAN 1 goes dark, its link stays up; 2 s later mwan3 moves the LAN to WAN 2.")
    alone = fail_over(world, "nothing", patience=_WATCH_DEAD)
    lan = "reaches" if world.lan_reaches() else "does not reach"
    _say(f"After {_WATCH_DEAD} s: the LAN {lan} the outside; tailnet: {alone}.")
    _say(f"tailscaled's own packets still leave by {world.marked_device()}, the dead one.")
    _say("\n== 2. the same with tailover ==")
    world.settle("direct")
    figures, back = _once(world, "direct", "tailover", keep=True)
    _say(f"Failover: {figures}.")
    _say(f"Failback: {back}.")
    _say("\ntailover's own account:")
    for line in world.router.host.run(["tailover", "history"], check=False).splitlines():
        _say(f"  {line}")
    _say("\n                        control   tailnet v4  tailnet v6  restarts")
    for name, row in (("alone", alone), ("with tailover", figures)):
        cells = [seconds(value) for value in (row.control, row.ping, row.ping6)]
        _say(f"  {name:20}{cells[0]:>9}{cells[1]:>12}{cells[2]:>12}{row.restarts:>10}")
    good = None not in (figures.control, figures.ping, figures.ping6, back.control)
    _say("\nThe tailnet came back." if good else "\nThe tailnet did NOT come back.")
    if not good:
        _show_log()
    return 0 if good else 1


def draw(options):
    """Draws a blackout without and with tailover into the documents."""
    world = _world(options)
    if not world.tailover:
        _say("lab: no tailover binary; build it or give --tailover")
        return 1
    (TREE_INSIDE / "docs/failover.svg").write_text(picture.draw(picture.record(world, _say)))
    return 0


def _once(world, kind, cure, keep=False):
    """One failover and failback from a settled state."""
    world.settle(kind)
    if cure == "tailover":
        start_tailover(world)
    figures = fail_over(world, cure)
    back = fail_back(world, cure)
    if not keep:
        world.router.stop_tailover()
    return figures, back


def _medians(runs):
    columns = {
        "trigger to control": [figures.control for figures, _ in runs],
        "trigger to ping": [figures.ping for figures, _ in runs],
        "trigger to ping v6": [figures.ping6 for figures, _ in runs],
        "failback gap": [back.gap for _, back in runs],
    }
    # A run that never came back is the longest of all.
    words = []
    for name, values in columns.items():
        median = statistics.median(float("inf") if v is None else v for v in values)
        words.append(f"{name} {seconds(None if median == float('inf') else median)}")
    restarts = sum(figures.restarts + back.restarts for figures, back in runs)
    return ", ".join(words) + f", {restarts} restarts in all"


def _try(world, scenario):
    """Runs one scenario; returns passed, failed or skipped, and a sentence."""
    if scenario.tailover and not world.tailover:
        return "skipped", "no tailover binary"
    try:
        world.settle(scenario.peer)
    except _BROKEN as problem:
        return "failed", f"the lab did not settle: {problem}"
    since = time.monotonic()
    try:
        text = scenario.run(world)
        restarts = world.watch.restarts(since)
        if restarts > scenario.restarts:
            raise Failed(f"{restarts} restarts of tailscaled: {text}")
        world.router.stop_tailover()
        if left := world.router.traces_of_tailover():
            raise Failed(f"left behind: {left}")
        return "passed", f"{text} ({restarts} restarts, {time.monotonic() - since:.0f} s)"
    except _BROKEN as problem:
        if scenario.tailover:
            _show_log()
            _say(world.router.host.run(["tailover", "status", "--json"], check=False).strip())
        elif not isinstance(problem, Failed):
            traceback.print_exc()
        return "failed", str(problem)


def _chosen(options):
    return [s for s in scenarios.SCENARIOS if _picked(s, options)]


def _picked(scenario, options):
    if options.names:
        return any(name in scenario.name for name in options.names)
    return options.all or not scenario.rare


def _world(options):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    try:
        world = World(TAILOVER_INSIDE.exists(), options.rp_filter, options.source_routes, seed)
        world.start()
    except _BROKEN:
        traceback.print_exc()
        sys.exit(NOT_UP)
    _say(f"lab: up after {time.monotonic() - begun:.1f} s: {world.describe()}")
    return world


def _show_log():
    """The end of tailover's log, for a scenario that failed."""
    file = LOGS / "router-tailover.log"
    if file.exists():
        # Of debug lines only its own; ureq's tell of every step.
        lines = [line for line in file.read_text().splitlines() if "[ureq" not in line]
        for line in lines[-60:]:
            _say(f"    | {line}")


def _say(text):
    print(text, flush=True)
