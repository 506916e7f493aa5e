"""`lab bench`: the cells that are missing, interleaved, each run appended to the table at once."""

import random
import time

from ..paths import BIN, NAME
from ..hosts import HostError
from . import one, record
from .scenarios import BY_KEY as SCENARIOS
from .scenarios import SCENARIOS as ALL_SCENARIOS
from .treatments import BY_KEY as TREATMENTS
from .treatments import TREATMENTS as ALL_TREATMENTS

# A full bench has so many runs of each cell.
RUNS = 3
# What a short bench compares, once, within a quarter of an hour.
SHORT_TREATMENTS = ["policy", "mwan3-user", "rebind", "tailover"]
SHORT_SCENARIOS = ["blackhole", "carrier", "mwan3-restart", "firewall"]

_BROKEN = (TimeoutError, HostError, OSError)


def cells(treatments, scenarios, detections, runs, done, seed, share=(1, 1)):
    """The (treatment, scenario, detection, run, seed) still to do. All remedies meet a scenario's run one
    after the other, in an order of chance, with the same seed. `share`: which lab of how many does them; it
    has the same cells at every start, whatever is done."""
    todo = []
    for run in range(1, runs + 1):
        for detection in detections:
            for scenario in scenarios:
                own = _seed(seed, scenario, detection, run)
                order = list(treatments)
                random.Random(own).shuffle(order)
                todo += [(treatment, scenario, detection, run, own) for treatment in order]
    mine, of = share
    return [cell for cell in todo[mine - 1::of] if cell[:4] not in done]


def _seed(seed, scenario, detection, run):
    return random.Random(f"{seed} {scenario} {detection} {run}").randrange(2**32)


def done(rows):
    """The (treatment, scenario, detection, run) that are in the table."""
    return {(r["treatment"], r["scenario"], r["detection"], int(r["run"])) for r in rows}


def bench(world, options, say):
    """Runs the cells that the command line asks for; returns the exit code."""
    short = options.short
    treatments = options.treatments or (SHORT_TREATMENTS if short else [t.key for t in ALL_TREATMENTS])
    scenarios = options.scenario or (SHORT_SCENARIOS if short else [s.key for s in ALL_SCENARIOS])
    detections = options.detection or (["fast"] if short else ["fast", "default"])
    runs = options.n or (1 if short else RUNS)
    limit = one.SHORT_LIMIT if short else one.LIMIT
    known = done(record.read()) if options.record else set()
    share = (int(NAME), options.labs) if options.labs > 1 else (1, 1)
    todo = cells(treatments, scenarios, detections, runs, known, options.seed or 0, share)
    say(f"bench: {len(todo)} runs to do")
    versions = record.versions(world.router.host, BIN)
    notes = one.prepare(world)
    failed = 0
    for number, cell in enumerate(todo, 1):
        treatment, scenario, detection, run, seed = cell
        begun = time.monotonic()
        try:
            result = one.run(world, notes, TREATMENTS[treatment], SCENARIOS[scenario], detection, seed, limit)
        except _BROKEN as problem:
            # The lab's fault, not the remedy's: the cell stays open and is done by the next bench.
            failed += 1
            say(f"{number}/{len(todo)} {treatment} {scenario} {detection} {run}: VOID: {problem}")
            continue
        took = time.monotonic() - begun
        say(f"{number}/{len(todo)} {treatment} {scenario} {detection} {run}: {words(result)} ({took:.0f} s)")
        if options.record:
            record.append(record.row(versions, cell, result, limit, options.labs))
    return 1 if failed else 0


def words(result):
    """A run's figures in a line."""
    ping = "never" if result.ping is None else f"{result.ping:.1f} s"
    control = "never" if result.control is None else f"{result.control:.1f} s"
    return (
        f"control {control}, ping {ping}, outage {result.outage:.1f} of {result.watched:.0f} s,"
        f" {result.restarts} restarts, {result.flows_lost} of {result.flows} flows lost,"
        f" wrong: {'; '.join(result.wrong) or 'nothing'}"
    )
