"""Whether tailover names exactly the faults that were injected, single ones and pairs.

Each case starts the daemon with its defaults, injects its faults at random
instants, and compares every identifier that the daemon has named since its
start (status, history and log) with what the tables below require and allow.
The instants come from a seed, which is printed and can be given
(`lab test --seed`), so a case can be had again.

Not injected: a wrong clock (the lab has no clock of its own), and F5. That one
needs tailscaled's rules behind mwan3's (5200 and on) and a mark that nobody steers:
`flows_held_by_mwan3` makes such a router, `marks_hold_nothing_while_steered` shows
that steering ends it.
"""

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import plan
from .blind import CONFIG
from .hosts import wait_until
from .steps import Failed, await_quiet, expect, linger, seconds, status

PINNED, STUCK, STALE, LOST = (
    "F1-pinned-route",
    "F2-stuck-control",
    "F3-stale-paths",
    "F4-lost-state",
)
# What a moved path leaves behind: flows of before. They are named as long as the
# cure of the first fault has not carried them over, which is a matter of instants.
_LEFT_BEHIND = frozenset({STUCK, STALE})

# The first fault of a case comes within this time, at any phase of the daemon's
# looks; the second one within the other, before or after the first is found.
_FIRST_WITHIN = 20.0
_SECOND_WITHIN = 6.0
# After the last name that is required so long is waited for one that is not.
_NO_MORE = 10.0
# The faults are over; the daemon must see that too.
_OVER_WITHIN = 150.0


@dataclass(frozen=True)
class Injection:
    """A fault of the lab's: how it is made and ended, and what it is called.

    `required`: each of these identifiers must be named. `allowed`: these too may
    be, because they are consequences; nothing else may. `patience`: so many
    seconds may pass before all required ones are named. `before`: what is done
    before the daemon starts. `ends`: what `World.settle` does not undo.
    """

    name: str
    begin: Callable
    required: frozenset
    allowed: frozenset = frozenset()
    patience: float = 45.0
    before: Callable | None = None
    ends: Callable | None = None


def _both(fault):
    """The fault at both ISPs."""

    def begin(world):
        for isp in world.isps.values():
            getattr(isp, fault)()

    return begin


def _carrier(world):
    world.isp1.link_down()
    world.router.ifdown(plan.ISP1)


def _second_away(world):
    world.isp2.link_down()
    world.router.ifdown(plan.ISP2)


def _told(fault):
    """The first ISP's fault, and mwan3 says that the uplink is fine.

    tailscaled's flows go on over it, so nothing suffers before it has to make a
    new one; the word brings an assessment, which has to see it.
    """

    def begin(world):
        getattr(world.isp1, fault)()
        world.router.connected(plan.ISP1)

    return begin


def _names_dead(world):
    # Resolvers are asked with the whole round that such a word brings, not by the heartbeat.
    _both("names_dead")(world)
    world.router.forget_names()
    world.router.connected(plan.ISP1)


def _mwan3_restart(world):
    # Its stop and its start, with the hotplug calls of both.
    for isp in plan.ISPS:
        for name in (isp.wan, isp.wan6):
            world.router.hotplug("disconnected", name, MWAN3_SHUTDOWN="1")
    world.router.mwan3.restart()
    for isp in plan.ISPS:
        for name in (isp.wan, isp.wan6):
            world.router.hotplug("connected", name, isp.device, FIRSTCONNECT="1")


def _hang(world):
    world.router.host.run(["kill", "-STOP", str(world.node.pid())])


def _go_on(world):
    # The hung process is gone by now, unless nobody has restarted it.
    if world.node.pid() is not None:
        world.router.host.run(["kill", "-CONT", str(world.node.pid())], check=False)


def _mend(world):
    """What the daemon has not mended is put right for the next case."""
    linger(2)
    if not world.pings.steady(4):
        world.node.restart()


def _ids(*names):
    return frozenset(names)


# One line for each fault that the lab can make. Of `allowed`:
# - a dead first uplink is F1. The mark moves, and F2 and F3 are what it leaves;
# - a lost carrier moves the path, and tailscaled follows by itself: no fault, or
#   what tailover sees of the old flows where it is quicker than that;
# - without a way out, or against the user's wish, nothing else is worth naming;
# - tailscaled's own end takes its flows with it: no F2, no F3.
_SINGLES = [
    Injection("blackhole", lambda w: w.isp1.blackhole(), _ids(PINNED), _LEFT_BEHIND),
    Injection("reject", lambda w: w.isp1.reject(), _ids(PINNED), _LEFT_BEHIND),
    Injection("gateway dead", lambda w: w.isp1.gateway_dead(), _ids(PINNED), _LEFT_BEHIND),
    Injection("portal", lambda w: w.isp1.portal(), _ids(PINNED), _LEFT_BEHIND),
    Injection("carrier lost", _carrier, _ids(), _LEFT_BEHIND),
    Injection("both down", _both("blackhole"), _ids("outside-down")),
    Injection(
        "portal, no other way",
        lambda w: w.isp1.portal(),
        _ids("portal"),
        before=_second_away,
    ),
    # The long poll of a quiet tailnet is given up after 120 s.
    Injection(
        "control down",
        lambda w: w.internet.control_down(),
        _ids("control-down"),
        patience=180.0,
    ),
    # Over IPv6 it would hurt nothing: there is no NAT.
    Injection(
        "address changed",
        lambda w: w.isp1.new_address(),
        _LEFT_BEHIND,
        before=lambda w: w.ipv4_only(),
    ),
    Injection("mwan3 restart", _mwan3_restart, _ids(LOST), ends=_mend),
    Injection("tailscaled hangs", _hang, _ids("daemon-hung"), patience=75.0, ends=_go_on),
    Injection("tailscaled gone", lambda w: w.node.abandon(), _ids("daemon-gone"), patience=75.0),
    Injection(
        "user stops it", lambda w: w.node.down(), _ids("needs-person"), ends=lambda w: w.node.up()
    ),
    Injection("names dead", _names_dead, _ids("names-dead")),
    Injection("TLS broken", _told("tls_broken"), _ids("tls-broken")),
    Injection("large packets lost", _told("mtu_black_hole"), _ids("mtu-black-hole")),
]
SINGLES = {injection.name: injection for injection in _SINGLES}


@dataclass(frozen=True)
class Pair:
    """Two faults at once, in that order or, where `either`, in any.

    `required` and `allowed` are those of both unless given: some states make
    others invisible or pointless to name.
    """

    first: str
    second: str
    either: bool = True
    required: frozenset | None = None
    allowed: frozenset | None = None


_DARK_FIRST = _ids(PINNED) | _LEFT_BEHIND

PAIRS = [
    Pair("blackhole", "control down"),
    Pair("blackhole", "mwan3 restart"),
    Pair("blackhole", "tailscaled hangs"),
    Pair("blackhole", "tailscaled gone"),
    # Behind a portal names are not dead: it resolves them itself.
    Pair("blackhole", "names dead"),
    Pair("gateway dead", "control down"),
    Pair("control down", "address changed"),
    Pair("control down", "mwan3 restart"),
    Pair("mwan3 restart", "tailscaled hangs"),
    Pair("mwan3 restart", "address changed"),
    Pair("names dead", "control down"),
    # Flows of a process that hangs are stale all the same, and seen without it.
    Pair("tailscaled hangs", "address changed"),
    # A tailnet that nobody wants has no other fault; what came before was one.
    Pair("user stops it", "blackhole", either=False, required=_ids("needs-person")),
    Pair("blackhole", "user stops it", False, _ids("needs-person"), _DARK_FIRST),
    # The backup's portal is found when the backup is wanted.
    Pair("second portal", "blackhole", either=False, required=_ids("portal"), allowed=_ids()),
]

# Halves of pairs that are no fault by themselves.
_HALVES = {
    "second portal": Injection("second portal", lambda w: w.isp2.portal(), _ids()),
}


@dataclass
class Case:
    """What one run of the daemon is put through, and what it made of it."""

    parts: list
    required: frozenset
    allowed: frozenset
    named: frozenset = frozenset()
    after: float | None = None
    trouble: str = ""

    @property
    def title(self):
        """The faults in the order they came."""
        return " + ".join(part.name for part in self.parts)

    @property
    def good(self):
        """Whether it named what it must and nothing that it may not."""
        return not self.trouble and self.required <= self.named <= self.required | self.allowed

    def __str__(self):
        words = [f"{'exact' if self.good else 'WRONG'}  {self.title}: "]
        words.append(", ".join(sorted(self.named)) or "nothing")
        if lacking := self.required - self.named:
            words.append(f"; not named: {', '.join(sorted(lacking))}")
        if false := self.named - self.required - self.allowed:
            words.append(f"; false: {', '.join(sorted(false))}")
        if self.trouble:
            words.append(f"; {self.trouble}")
        return "".join(words) + f" ({seconds(self.after)})"


def single(name):
    """The case of one fault."""
    part = SINGLES[name]
    return Case([part], part.required, part.allowed)


def pair(entry, dice):
    """The case of two faults; the dice choose which comes first."""
    parts = [SINGLES.get(name) or _HALVES[name] for name in (entry.first, entry.second)]
    required, allowed = entry.required, entry.allowed
    if required is None:
        required = parts[0].required | parts[1].required
    if allowed is None:
        allowed = frozenset() if entry.required else parts[0].allowed | parts[1].allowed
    if entry.either and dice.random() < 0.5:
        parts.reverse()
    return Case(parts, required, allowed)


def run(world, case, dice):
    """Puts the daemon through the case and fills in what it named."""
    first, gap = dice.uniform(0, _FIRST_WITHIN), dice.uniform(0, _SECOND_WITHIN)
    world.settle("direct")
    try:
        for part in case.parts:
            if part.before:
                part.before(world)
        world.router.start_tailover(CONFIG)
        await_quiet(world)
        linger(first)
        begun = time.monotonic()
        for number, part in enumerate(case.parts):
            linger(gap if number else 0)
            part.begin(world)
        patience = max(part.patience for part in case.parts)
        try:
            wait_until(lambda: case.required <= named(world), patience, "the names", every=0.2)
            case.after = time.monotonic() - begun
        except TimeoutError:
            # Not named in time: the comparison says so.
            pass
        linger(_NO_MORE)
        case.named = named(world)
    except (TimeoutError, Failed) as problem:
        case.trouble = str(problem)
    finally:
        _end(world, case)


def _end(world, case):
    """Ends the faults; the daemon must see that nothing is wrong any more."""
    try:
        world.internet.control_up()
        for isp in world.isps.values():
            isp.restore()
        for isp in plan.ISPS:
            if not world.router.link_up[isp.name]:
                world.router.ifup(isp)
        for part in case.parts:
            if part.ends:
                part.ends(world)
        wait_until(lambda: _over(world), _OVER_WITHIN, "the end of all faults")
        late = named(world) - case.named - case.required - case.allowed - _LEFT_BEHIND
        if late and not case.trouble:
            case.trouble = f"false when it was over: {', '.join(sorted(late))}"
    except (TimeoutError, Failed) as problem:
        case.trouble = case.trouble or str(problem)


def _over(world):
    state = status(world)
    return state["stage"] == "quiet" and not state["faults"]


def named(world):
    """Every identifier that the running daemon has named since its start."""
    state = status(world)
    text = world.router.host.run(["tailover", "history", "--json"], check=False)
    episodes = json.loads(text)["episodes"] + [state["episode"] or {"faults": []}]
    lists = [state["faults"]] + [episode["faults"] for episode in episodes]
    told = {fault["id"] for faults in lists for fault in faults}
    logged = set(re.findall(r"\bfault ([A-Za-z0-9-]+): ", world.router.log_of_tailover()))
    return frozenset(told | logged)


def run_all(world, words=()):
    """Every case in whose title one of the words is, or all; the table, and whether all are good."""
    dice = random.Random(world.seed)
    cases = [single(name) for name in SINGLES] + [pair(entry, dice) for entry in PAIRS]
    chosen = [c for c in cases if not words or any(word in c.title for word in words)]
    share, good = _run(world, chosen, dice)
    return "\n        ".join([share, *map(str, chosen)]), good


def _run(world, cases, dice):
    for case in cases:
        run(world, case, dice)
        # Half an hour can pass before the table.
        print(f"        {case}", flush=True)
    good = sum(case.good for case in cases)
    share = f"{good} of {len(cases)} named exactly (seed {world.seed})"
    return share, good == len(cases) > 0


def _scenario(world, cases, dice):
    share, good = _run(world, cases, dice)
    wrong = [str(case) for case in cases if not case.good]
    expect(good, "; ".join([share, *wrong]))
    return share


def naming_singles(world):
    """Each fault that the lab can make is named, and nothing else is."""
    return _scenario(world, [single(name) for name in SINGLES], random.Random(world.seed))


def naming_pairs(world):
    """Two faults at once are both named, and nothing else is."""
    dice = random.Random(world.seed)
    return _scenario(world, [pair(entry, dice) for entry in PAIRS], dice)


def naming_short(world):
    """Three faults are named exactly: a dead uplink, a stopped tailscale, no way out."""
    names = ("blackhole", "user stops it", "both down")
    return _scenario(world, [single(name) for name in names], random.Random(world.seed))
