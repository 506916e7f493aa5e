"""Draws one blackout as a peer sees it: each ping of two runs, without and with tailover."""

import json
import random
import time
from xml.sax.saxutils import escape

from . import blind
from .hosts import wait_until
from .measure import STEADY
from .pinger import INTERVAL
from .steps import Failed, await_quiet, linger

# Seconds of the picture, before and after the fault.
BEFORE, AFTER = 4.0, 40.0

# Pixels: of the whole, of the strip of pings, of one run.
_WIDTH, _LEFT, _RIGHT = 760, 14, 14
_TOP, _RUN, _STRIP = 44, 84, 26
_SCALE = (_WIDTH - _LEFT - _RIGHT) / (BEFORE + AFTER)
# The least distance between two words on one line, for each letter.
_LETTER = 6.4

_STYLE = """
 text { font: 12px sans-serif; fill: #24292f }
 .title { font-weight: bold; font-size: 14px }
 .soft { fill: #57606a }
 .good { fill: #1a7f37 }
 .lost { fill: #cf222e }
 line { stroke: #57606a; stroke-width: 1 }
 @media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .soft { fill: #9da7b1 }
  .good { fill: #3fb950 }
  .lost { fill: #f85149 }
  line { stroke: #9da7b1 }
 }"""


def record(world, say):
    """Both runs, as `draw` takes them."""
    dice = random.Random(world.seed)
    runs = []
    for title, with_tailover in (("without tailover", False), ("with tailover", True)):
        blind.KINDS["blind"].prepare(world)
        if with_tailover:
            world.router.start_tailover(blind.CONFIG)
            await_quiet(world)
            linger(dice.uniform(0, 5))
        broken = time.monotonic()
        world.isp1.blackhole()
        # The last ping of the picture has its time too.
        linger(AFTER + 1)
        acts = _acts(world, broken) if with_tailover else []
        if with_tailover:
            wait_until(lambda: world.pings.steady(4), 30, "the tailnet back")
        pings = [(sent - broken, answered is not None) for sent, answered in world.pings.history(4)
                 if -BEFORE <= sent - broken <= AFTER]
        runs.append({"title": title, "pings": pings, "acts": acts,
                     "back": world.pings.back(broken, 4)})
        say(f"{title}: the tailnet answers again after {runs[-1]['back']} s")
        world.router.stop_tailover()
    if runs[1]["back"] is None:
        raise Failed("the tailnet did not come back with tailover")
    return runs


def _acts(world, broken):
    """(seconds after the fault, what the daemon did), as its own history has it."""
    text = world.router.host.run(["tailover", "history", "--json"])
    asked = time.monotonic()
    episode = json.loads(text)["episodes"][0]
    begun = asked - episode["began_ago"] - broken
    return [(begun + act["after"], act["cure"]) for act in episode["acts"]]


def draw(runs):
    """The picture as SVG. `runs`: title, pings (seconds after the fault, whether answered), acts
    (seconds, words), back (seconds or None)."""
    height = _TOP + _RUN * len(runs) + 26
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
           "<title>A WAN goes dark: pings of a peer over the tailnet</title>",
           f"<style>{_STYLE}\n</style>",
           _text(_LEFT, 18, "The first WAN goes dark, its link stays up: pings over the tailnet, 4 a second",
                 "title")]
    fault = _x(0)
    for number, run in enumerate(runs):
        top = _TOP + _RUN * number
        out.append(_text(_LEFT, top + 10, run["title"] + ": " + _outcome(run)))
        for when, answered in run["pings"]:
            out.append(f'<rect class="{"good" if answered else "lost"}" x="{_x(when):.1f}" y="{top + 18}" '
                       f'width="{INTERVAL * _SCALE - 0.6:.1f}" height="{_STRIP}"/>')
        out += _words(run["acts"], top + 18 + _STRIP)
    out.append(f'<line x1="{fault:.1f}" x2="{fault:.1f}" y1="{_TOP - 8}" y2="{height - 20}" stroke-dasharray="3 3"/>')
    for second in range(0, int(AFTER) + 1, 5):
        anchor = "end" if second == int(AFTER) else "middle"
        out.append(_text(_x(second), height - 6, f"{second} s", "soft", anchor))
    return "\n".join([*out, "</svg>", ""])


def _outcome(run):
    if run["back"] is None or run["back"] > AFTER:
        return f"no answer in {AFTER:.0f} s"
    return f"answers again after {run['back']:.1f} s"


def _words(acts, top):
    """What was done, below the strip; each word once, and beside the one before it."""
    out, seen, free = [], set(), 0.0
    for when, cure in acts:
        word = cure.split()[0]
        if word in seen or not 0 <= when <= AFTER:
            continue
        seen.add(word)
        x = max(_x(when), free)
        out.append(f'<line x1="{_x(when):.1f}" x2="{_x(when):.1f}" y1="{top}" y2="{top + 6}"/>')
        out.append(_text(x, top + 18, word, "soft"))
        free = x + (len(word) + 1.5) * _LETTER
    return out


def _x(second):
    return _LEFT + (second + BEFORE) * _SCALE


def _text(x, y, words, kind="", anchor="start"):
    kind = f' class="{kind}"' if kind else ""
    anchor = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y}"{kind}{anchor}>{escape(words)}</text>'
