"""Scenarios about tailscaled itself: hung, crashing, given up on, restarted by others, replaced."""

import shutil
import time

from . import rescues
from .hosts import wait_until
from .paths import BIN, LOGS, TREE_INSIDE
from .steps import PATIENCE, await_quiet, expect, expect_back, fail_back, fail_over, linger, seconds
from .steps import start_tailover, status

# A tailscaled that ends a second after its start. `--cleanup` is asked of it too, by procd.
_CRASHING = '#!/bin/sh\n[ "$1" = --cleanup ] && exit 0\nsleep 1\nexit 2\n'

# The parts as the router sees them.
_PARTS = TREE_INSIDE / "target/lab/bin"

_ELSEWHERE = "/run/elsewhere/tailscaled.sock"


def failover_old_tailscaled(world):
    """The failover with a tailscaled that is ten releases older."""
    with Program(world, "tailscaled-old"):
        figures = rescues.failover_direct(world)
        state = status(world)["tailnet"]
        expect(state["debug"] and state["bus"], f"it has debug and a bus: {state}")
        return f"{state['version']}: {figures}"


def failover_small_tailscaled(world):
    """The failover with a tailscaled without debug, health and bus: no nudge, a renewal instead."""
    # Without health it says for ever that it is offline.
    world.node.says_online = False
    try:
        with Program(world, "tailscaled-small"):
            start_tailover(world)
            figures = fail_over(world, "tailover")
            expect_back(figures)
            state = status(world)["tailnet"]
            expect(state["debug"] is False, f"the missing debug was not noticed: {state}")
            expect(state["bus"] is False, f"the missing bus was not noticed: {state}")
            done = rescues.acts(world)
            expect("nudge" not in done and "renew" in done, f"did {done}")
            await_quiet(world)
            expect(not rescues.faults(world), f"still named: {rescues.faults(world)}")
            back = fail_back(world, "tailover")
            expect(back.control is not None, f"control did not return: {back}")
            return f"{', '.join(done)}: {figures}; back again: {back}"
    finally:
        world.node.says_online = True


def crash_loop(world):
    """A tailscaled that ends again and again is named, and left to procd's respawn."""
    start_tailover(world)
    since = time.monotonic()
    with Program(world, script=_CRASHING, restart=False):
        world.router.host.run(["kill", "-KILL", str(world.node.pid())])
        wait_until(lambda: "crash-loop" in rescues.faults(world), 60, "the name crash-loop")
        named = time.monotonic() - since
        linger(7)
        expect(not rescues.acts(world), f"acted in a crash loop: {rescues.acts(world)}")
    # procd's respawn finds the good program.
    wait_until(lambda: world.pings.back(since + named, 4) is not None, 60, "the tailnet")
    wait_until(lambda: not rescues.faults(world), 150, "an end of the name")
    expect(not rescues.acts(world), f"acted: {rescues.acts(world)}")
    return f"named {seconds(named)} after the first end, nothing done, well with procd's respawn"


def given_up_by_procd(world):
    """What procd has given up on is started once the crash loop is over."""
    # procd counts the ends since the last start by hand, those of other scenarios too.
    world.node.restart()
    world.settle(world.kind, patience=PATIENCE)
    start_tailover(world)
    since = time.monotonic()
    earlier = _given_up()
    with Program(world, script=_CRASHING, restart=False):
        world.router.host.run(["kill", "-KILL", str(world.node.pid())])
        wait_until(lambda: _given_up() > earlier, 90, "procd giving up")
        gave_up = time.monotonic()
    wait_until(lambda: world.pings.back(gave_up, 4) is not None, 200, "the tailnet")
    back = world.pings.back(gave_up, 4)
    await_quiet(world)
    done = rescues.acts(world)
    expect(done == ["restart"], f"did {done}")
    return f"procd gave up after {gave_up - since:.0f} s; ping {seconds(back)} later by one restart"


def _given_up():
    """How often procd's double has given up so far."""
    return (LOGS / "router-tailscaled.log").read_text(errors="replace").count("procd: gave up")


def restarted_by_others(world):
    """Somebody who restarts tailscaled every minute is named, with the file that may do it."""
    script = "#!/bin/sh\n# from a forum\nservice tailscale restart\n"
    world.router.host.write("mwan3.user", script, 0o755)
    try:
        start_tailover(world)
        for number in range(3):
            expect("other-hand" not in rescues.faults(world), f"named after {number} restarts")
            began = time.monotonic()
            world.node.restart()
            wait_until(lambda: world.node.answers(), PATIENCE, "tailscaled's answer")
            linger(max(0.0, 60 - (time.monotonic() - began)) if number < 2 else 5)
        wait_until(lambda: "other-hand" in rescues.faults(world), 15, "the name other-hand")
        text = next(f["text"] for f in status(world)["faults"] if f["id"] == "other-hand")
        expect("/etc/mwan3.user" in text, f"the file is not named: {text}")
        expect("restart" not in rescues.acts(world), f"did {rescues.acts(world)}")
        await_quiet(world)
        return text
    finally:
        (world.router.host.etc / "mwan3.user").unlink()


def upgraded_under_us(world):
    """A replaced program is no fault; the new process is asked anew what it has."""
    with Program(world, "tailscaled-old", copy=True) as program:
        start_tailover(world)
        expect(status(world)["tailnet"]["version"].startswith("1.82"), "not the old one")
        program.replace("tailscaled")
        world.router.host.run(["tailover", "recover"])
        wait_until(lambda: status(world)["tailnet"]["replaced"], 15, "a word of the replacement")
        await_quiet(world)
        expect(not rescues.faults(world), f"named: {rescues.faults(world)}")
        since = time.monotonic()
        world.node.restart()
        wait_until(lambda: "and is 1.102" in world.router.log_of_tailover(), 40, "a word on it")
        wait_until(lambda: world.pings.back(since + 1, 4) is not None, PATIENCE, "the tailnet")
        await_quiet(world)
        state = status(world)["tailnet"]
        expect(not state["replaced"] and state["debug"], f"not asked anew: {state}")
        expect(not rescues.faults(world), f"named: {rescues.faults(world)}")
        expect("restart" not in rescues.acts(world), f"did {rescues.acts(world)}")
        return f"noticed; {state['version']} now"


def socket_elsewhere(world):
    """A tailscaled that listens elsewhere is found by its process, used, and it is said once."""
    arguments = f"mkdir -p /run/elsewhere\nexec {_PARTS}/tailscaled --socket={_ELSEWHERE} \"$@\""
    with Program(world, script=f"#!/bin/sh\n{arguments}\n", restart=False):
        world.node.socket = _ELSEWHERE
        try:
            world.node.restart()
            wait_until(world.node.answers, PATIENCE, "tailscaled elsewhere")
            wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control")
            figures = rescues.failover_direct(world)
            state = status(world)["tailnet"]
            expect(state["elsewhere"] == _ELSEWHERE, f"the socket is not told: {state}")
            said = world.router.log_of_tailover().count("set the option `socket`")
            expect(said == 1, f"said {said} times")
            return figures
        finally:
            world.node.socket = None


# What is run in tailscaled's place.


class Program:
    """Another program in the place of the router's tailscaled, for a while.

    `name` is a part, `script` a text; `copy`: a file of its own, as a package
    installs it, else a link. With `restart` it is started at once. At the end
    the usual one is back; it is started unless procd does so.
    """

    def __init__(self, world, name=None, script=None, copy=False, restart=True):
        self._world = world
        self._place = world.router.sbin / "tailscaled"
        self._name, self._script = name, script
        self._copy, self._restart = copy, restart

    def __enter__(self):
        if self._script:
            self._put(lambda draft: draft.write_text(self._script))
        elif self._copy:
            self.replace(self._name)
        else:
            self._put(lambda draft: draft.symlink_to(_PARTS / self._name))
        if self._restart:
            self._world.node.restart()
            wait_until(self._world.node.answers, PATIENCE, "an answer of the other tailscaled")
            self._world.settle(self._world.kind, patience=PATIENCE)
        return self

    def replace(self, name):
        """Puts a part there as a file of its own, as a package manager does."""
        self._put(lambda draft: shutil.copyfile(BIN / name, draft))

    def _put(self, make):
        draft = self._place.with_name("tailscaled.new")
        make(draft)
        if not draft.is_symlink():
            draft.chmod(0o755)
        draft.replace(self._place)

    def __exit__(self, *_):
        self._put(lambda draft: draft.symlink_to(_PARTS / "tailscaled"))
        if self._restart:
            # Else the next scenario would begin with a stranger.
            self._world.router.stop_tailover()
            self._world.node.restart()
            wait_until(self._world.node.answers, PATIENCE, "an answer of the usual tailscaled")
