"""One run: a settled tailnet, a remedy, an outage, and what came of it."""

import json
import random
import re
import time
from contextlib import ExitStack

from .. import plan
from ..hosts import wait_until
from ..steps import PATIENCE, await_quiet, linger
from . import figures
from .flows import COUNT, Flows
from .observer import Observer
from .stage import Stage
from .tracker import Tracker
from .treatments import Notes

# A remedy that has not helped so long after it could know of the outage never does; less in a short bench.
LIMIT = 60.0
SHORT_LIMIT = 25.0
# What is back must stay so for this long, and nothing may be about to happen.
_STAYS = 8.0
# A TCP flow sends again after at most twice the time that it got no answer; so long is waited for that.
_FLOWS_PATIENCE = 30.0
# The outage comes at any time of what a remedy does all along.
_PHASE = 5.0
_SETTLED = 3.0
_STEP = 0.25
_WATCH = 0.25
# Pings of the last second may still be under way.
_UNDER_WAY = 1.0


def prepare(world):
    """Once for all runs: the router has a subnet route, and every act on tailscaled is noted."""
    # Here it counts restarts alone; the observer looks at control.
    world.watch.interval = _WATCH
    world.node.set(f"--advertise-routes={plan.LAN}")
    world.internet.approve_routes("router", plan.LAN)
    world.peer.node.set("--accept-routes=true")
    wait_until(lambda: plan.LAN in world.peer.host.run(["ip", "route", "show", "table", "52"]), PATIENCE,
               "the router's LAN in the peer's table 52")
    return Notes(world)


def run(world, notes, treatment, scenario, detection, seed, limit=LIMIT):
    """Plays the scenario with the remedy; returns figures.Figures. Raises TimeoutError where the lab itself
    did not get ready."""
    dice = random.Random(seed)
    _settle(world)
    world.pings.forget()
    world.watch.forget()
    begun = []
    # Whatever of it fails, the rest is undone all the same.
    with ExitStack() as undo:
        undo.callback(scenario.undo, world)

        def begin():
            undo.callback(treatment.end, world)
            treatment.begin(world)
            begun.append(time.monotonic())
            notes.begin()

        tracker = Tracker(world.router, detection)
        undo.callback(tracker.stop)
        observer = Observer(world)
        undo.callback(observer.stop)
        stage = Stage(world, tracker, begin)
        scenario.prepare(stage)
        # A boot begins without any.
        count = 0 if scenario.boots else COUNT
        flows = Flows(world, count)
        undo.callback(flows.close)
        wait_until(lambda: len(flows.answered_since(0)) == count, PATIENCE, "the TCP flows")
        if not scenario.boots:
            begin()
            if world.router.tailover:
                await_quiet(world)
            wait_until(lambda: all(world.pings.steady(f, _SETTLED) for f in (4, 6)), PATIENCE, "steady pings")
            linger(dice.uniform(0, _PHASE))
        scenario.play(stage)
        end = _watch(stage, treatment, scenario, observer, flows, limit)
        linger(_UNDER_WAY)
        # Nothing more is said to the router while it is put in order.
        tracker.stop()
        acts = _own_acts(world) if treatment.ours else notes.acts()
        seen = figures.Seen(
            zero=stage.zero, end=end, pings={f: world.pings.history(f) for f in (4, 6)},
            samples=list(observer.samples), acts=[act for act in acts if act[0] >= begun[0]], truth=stage.truth,
            restarts=max(0, world.watch.restarts(begun[0]) - scenario.restarts), flows=count,
        )
        back = figures.of(seen).ping
        since = end if back is None else stage.zero + back
        seen.flows_lost = count - len(flows.answered_since(since))
        return figures.of(seen)


def _settle(world):
    rules = world.router.host.run(["ip", "-d", "rule", "show"])
    if "1310:" not in rules or not world.node.answers():
        world.node.restart()
        wait_until(world.node.answers, PATIENCE, "tailscaled's answer")
    # What a remedy took down and did not get up again.
    world.node.call("PATCH", "prefs", '{"WantRunning":true,"WantRunningSet":true}')
    world.settle("direct", patience=5)


def _watch(stage, treatment, scenario, observer, flows, limit):
    """Waits until what came of it is known, or the limit is over; returns when that was."""
    world, begun = stage.world, time.monotonic()
    patience = max(stage.tracker.slowest(), treatment.sees_within) + limit
    last_event = None
    while time.monotonic() - begun < patience:
        linger(_STEP)
        now = time.monotonic()
        if stage.tracker.pending():
            last_event = None
            continue
        last_event = last_event or now
        if now - max(last_event, begun) < _STAYS or now - stage.zero < scenario.watch:
            continue
        if not scenario.steady:
            break
        pings = {family: world.pings.history(family) for family in (4, 6)}
        # What was sent just now has no answer yet.
        seen = figures.Seen(stage.zero, now - _UNDER_WAY, pings, list(observer.samples), [], stage.truth)
        reached = figures.of(seen)
        if reached.ping is None or reached.control is None:
            continue
        back = stage.zero + reached.ping
        if now - max(back, stage.zero + reached.control) < _STAYS:
            continue
        if len(flows.answered_since(back)) == flows.count or now - back > _FLOWS_PATIENCE:
            break
    return time.monotonic()


def _own_acts(world):
    """What tailover did, as its own history has it: (monotonic seconds, cure)."""
    text = world.router.host.run(["tailover", "history", "--json"], check=False)
    asked = time.monotonic()
    if not text.strip():
        # By events only, and there was none.
        return []
    acts = []
    for episode in json.loads(text)["episodes"]:
        began = asked - episode["began_ago"]
        acts += [(began + act["after"], _named(act), _left(act)) for act in episode["acts"]]
    return sorted(acts, key=lambda act: act[0])


def _named(act):
    """The cure; a steering that was taken away is called so."""
    away = act["cure"].startswith("steer") and act.get("result") == "by the main table"
    return act["cure"].replace("steer", figures.UNSTEER) if away else act["cure"]


def _left(act):
    """The ISP by whose device a family's packets left, as tailover says it; whether that was dead, the truth says."""
    left = re.search(r"packets leave by \w+ \((\w+)\)", act["why"])
    return next((isp.name for isp in plan.ISPS if left and isp.device == left[1]), None)
