"""docs/benchmark.md, made of the tables beside it and of nothing else."""

import statistics
import subprocess
import sys
import textwrap

from . import cost, picture_data, record, recorded, summary
from .one import LIMIT
from .run import RUNS
from .scenarios import BY_KEY as SCENARIO
from .scenarios import SCENARIOS
from .tracker import DETECTION
from .treatments import BY_KEY as TREATMENT
from .treatments import TREATMENTS

PAGE = record.TREE / "docs" / "benchmark.md"
PICTURE = record.TREE / "docs" / "benchmark.svg"

_SHIPPED = "tailover"
# Columns are narrow: a remedy goes by its letter, which a list explains.
_LETTERS = {treatment.key: chr(ord("A") + number) for number, treatment in enumerate(TREATMENTS)}

_BY_SPEED = sorted(DETECTION, key=lambda name: DETECTION[name]["dark"])

_LATE = "The recipe had sent all by the backup when the first uplink died, {} in use at once. tailover moves nothing to an" \
    " uplink that is not proved open, and proves it a second or two after {}."
# So many times faster it is to be where mwan3's default tracking decides.
_WANTED = 10
# Why it must be so, where tailover as shipped is slower than another remedy beyond the spread, or not that much faster.
REASONS = {
    "reject": "mwan3's defaults notice this fault soonest, after 36 s. The router's own paths and control are good again"
    " after 3 to 4 s, and the peer hears of the new way at once; but it leaves an address that it trusts, until 6.5 s after"
    " its last answer, only for one that answers quicker. So the tailnet is back 3 to 6.5 s after the fault, by chance.",
    "carrier": "tailscaled moves by itself here, as its routes go with the carrier. tailover's cures come a second"
    " before that; the router's own paths are good at once, but the peer goes on sending to the old address until"
    " 6.5 s after its last answer from there. Remedies that do nothing, or something later, are sometimes luckier.",
    "both": _LATE.format("long before the backup was there; whatever comes back is", "its return"),
    "portal": _LATE.format("into the portal; what opens is", "the login"),
    "v4": "What is lost depends on the family that the peer's path had when IPv4 died: by IPv6 nothing is, by IPv4 four to"
    " six seconds with every remedy. The runs of a remedy are a throw of that coin.",
    "address": "Nobody tells of it, and tailscaled notices it by itself: without any remedy the tailnet is back 4 to 9 s"
    " later, by the phase of its own checks. tailover sees the new address 2 to 5 s after the change.",
    "killed": "procd starts tailscaled anew after 5 s, and every remedy waits for that. Where the first handshake with the"
    " peer is lost WireGuard's next comes 5 s later; tailover has the router begin it, which is lost less often: where the"
    " new tailscaled chooses another relay than the peer knows of, as it may here, where two are equally near.",
    "boot": "Control is back 3 to 5 s after the uplink with both. Where the first handshake with the peer is lost"
    " WireGuard's next comes 5 s later, which is chance with every remedy.",
}

_HEAD = """\
# What people use today, and tailover, side by side

The same outage for every remedy, in the lab with the real tailscaled, headscale and derper: two uplinks by ISPs
that drop foreign source addresses and the middle of TCP connections, as carrier-grade NAT does. A peer pings
the router over the tailnet four times a second in both families and holds four TCP connections into its LAN.

All of this page is made from [benchmark.csv](benchmark.csv) and [benchmark-cost.csv](benchmark-cost.csv) by
`python3 -m lab bench --page`. To repeat it, on Debian 12 or later, as root:

    make bench            # what is missing in benchmark.csv; takes up again where it was broken off
    make bench LABS=6     # the same in six labs beside each other
    make bench SHORT=1    # a few cells, once, in a quarter of an hour; records nothing

One cell is `python3 -m lab bench tailover --scenario blackhole --detection fast -n 1`.
"""

_TABLES = """\
## Seconds to the tailnet

From the fault, or from the return of an uplink where the scenario is about that, until both families are answered \
for good; 0 where nothing was lost. Medians, least and most in brackets. In rows with a star the seconds without an \
answer, all together: there is no instant from which on all is well.
"""


def render(rows, costs):
    """The page's text."""
    cells = summary.cells(rows)
    parts = [_HEAD, _made_with(rows), _missing(rows), _remedies()]
    parts += [f"![Seconds without the tailnet, by scenario and remedy]({PICTURE.name})\n"] if rows else []
    parts.append(_TABLES)
    parts += [_table(cells, detection) for detection in _BY_SPEED]
    parts += [_beyond(cells), _wrong(cells), _beside_the_real(cells), _details(cells), cost.render(costs)]
    return "\n".join(_wrapped(part) for part in parts if part)


def _wrapped(part):
    """Paragraphs within 116 columns; tables, lists, pictures and commands as they are."""
    lines = []
    for line in part.split("\n"):
        plain = line and line[0] not in "|#!- "
        lines += textwrap.wrap(line, 116, break_long_words=False, break_on_hyphens=False) if plain else [line]
    return "\n".join(lines)


def _made_with(rows):
    if not rows:
        return "Nothing was measured yet.\n"

    def all_of(name):
        return ", ".join(sorted({row[name] for row in rows}))

    dates = sorted(row["date"] for row in rows)
    loads = [float(row["load"]) for row in rows if row["load"]]
    labs = sorted({int(row["labs"]) for row in rows if row["labs"]})
    beside = load = ""
    if labs and labs != [1]:
        beside = f" As many as {labs[-1]} labs ran beside each other, each in namespaces of its own."
    if loads:
        load = (
            f" The machine's load average was {statistics.median(loads):.1f} ({min(loads):.1f}-{max(loads):.1f}) in the"
            f" {len(loads)} runs that noted it; a busy machine makes everybody slower."
        )
    return (
        f"{len(rows)} runs, {dates[0][:10]} to {dates[-1][:10]}; tailover {all_of('tailover')} (commits"
        f" {all_of('commit')}; the program's SHA-256 begins with {all_of('binary')}), tailscaled"
        f" {all_of('tailscaled')}, headscale {all_of('headscale')}.{beside}{load}\n"
    )


def _missing(rows):
    done = {(r["treatment"], r["scenario"], r["detection"]) for r in rows}
    cells = len(TREATMENTS) * len(SCENARIOS) * len(DETECTION)
    short = sum(cell.runs < RUNS for cell in summary.cells(rows).values())
    return (
        f"Of {cells} cells {cells - len(done)} were not run yet; {short} have fewer than the {RUNS} runs that a full"
        " bench has. A dash is a cell that was not run yet, the number of runs stands in the long table.\n"
    )


def _remedies():
    lines = ["| | remedy |", "|---|---|"]
    lines += [f"| {_LETTERS[t.key]} | {t.title} |" for t in TREATMENTS]
    fast, default = DETECTION["fast"], DETECTION["default"]
    return "\n".join([
        "## The remedies", "", *lines, "",
        "What is run stands in [lab/bench/recipes](../lab/bench/recipes), what of tailover is set in"
        " [lab/bench/treatments.py](../lab/bench/treatments.py). Remedies B, E and F hear of an outage from mwan3, G"
        " and H from netifd too, C and D ping by themselves, I and J watch by themselves. What mwan3 says and when"
        f" is played, not run: {fast['dark']:g} s after a blackhole with the fast tracking (interval 2, down 3),"
        f" {default['dark']:g} s with its defaults, as a real mwan3 2.12.2 was seen to"
        " (121 to 129 s); `connected` comes"
        f" {fast['back']:g} s and {default['back']:g} s after an uplink's return.", "",
        "A tailnet that is not back"
        f" {LIMIT:g} s after mwan3, or the remedy itself, could know of the outage is called \"never\", with the"
        " seconds that were watched.", "",
    ])


def _table(cells, detection):
    lines = [
        f"With mwan3's tracking {detection}:", "",
        "| | " + " | ".join(_LETTERS.values()) + " |", "|---" * (len(TREATMENTS) + 1) + "|",
    ]
    for scenario in SCENARIOS:
        row = [scenario.title + ("" if scenario.steady else " *")]
        for treatment in TREATMENTS:
            text = _short(cells.get((treatment.key, scenario.key, detection)), scenario)
            row.append(f"**{text}**" if treatment.key == _SHIPPED and text != "–" else text)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join([*lines, ""])


def _short(cell, scenario):
    if cell is None:
        return "–"
    return _spread(cell.ping, cell) if scenario.steady else _spread(cell.outage, cell)


def _spread(spread, cell, digits=1):
    def one(value):
        return "never" if value is None else f"{value:.{digits}f}"

    if spread.median is None and spread.least is None:
        return f"never ({cell.watched:.0f} s)"
    if cell.runs == 1 or one(spread.least) == one(spread.most):
        return one(spread.median)
    return f"{one(spread.median)} ({one(spread.least)}-{one(spread.most)})"


def _figure(scenario):
    return (lambda cell: cell.ping) if SCENARIO[scenario].steady else (lambda cell: cell.outage)


def beyond(cells):
    """[((scenario, detection), [other remedy])] in which tailover as shipped is slower beyond the spread. A
    single run has no spread: such cells are the second list."""
    judged, single = {}, {}
    for (treatment, scenario, detection), cell in sorted(cells.items()):
        ours = cells.get((_SHIPPED, scenario, detection))
        figure = _figure(scenario)
        if treatment != _SHIPPED and ours and summary.slower(figure(ours), figure(cell)):
            found = judged if min(ours.runs, cell.runs) > 1 else single
            found.setdefault((scenario, detection), []).append(treatment)
    return list(judged.items()), list(single.items())


def _beyond(cells):
    lines = ["## Where tailover as shipped is not the best", ""]
    judged, single = beyond(cells)
    if not judged:
        lines += ["In no cell that has more than one run is it slower than another remedy beyond the spread."]
    for (scenario, detection), treatments in judged:
        figure = _figure(scenario)
        ours = cells[_SHIPPED, scenario, detection]
        others = [(TREATMENT[key].title, cells[key, scenario, detection]) for key in treatments]
        text = ", ".join(f"{_spread(figure(cell), cell)} of {title} ({cell.runs} runs)" for title, cell in others)
        lines.append(
            f"- {SCENARIO[scenario].title}, {detection}: {_spread(figure(ours), ours)} ({ours.runs} runs) against"
            f" {text}. {REASONS.get(scenario, 'Why is not known yet.')}"
        )
    if single:
        names = ", ".join(f"{SCENARIO[scenario].title} ({detection})" for (scenario, detection), _ in single)
        lines += ["", f"Slower in a single run, which says nothing of the spread: {names}."]
    return "\n".join([*lines, "", *_tenfold(cells)])


def _tenfold(cells):
    """How much faster it is than the best of the others where mwan3's defaults decide."""
    lines = []
    for scenario in SCENARIOS:
        ours = cells.get((_SHIPPED, scenario.key, "default"))
        others = [
            cell.ping.median for (treatment, name, detection), cell in cells.items()
            if (name, detection) == (scenario.key, "default") and not TREATMENT[treatment].ours
        ]
        if not (ours and others and scenario.steady) or ours.ping.median in (None, 0.0):
            continue
        known = [value for value in others if value is not None]
        if not known:
            lines.append(f"- {scenario.title}: none of the {len(others)} others that were run came back.")
        elif min(known) > ours.ping.median:
            times = min(known) / ours.ping.median
            if times >= _WANTED:
                lines.append(f"- {scenario.title}: {times:.0f} times faster than the best of the others.")
            else:
                why = REASONS.get(scenario.key, "Why it is not more is not known yet.")
                lines.append(f"- {scenario.title}: {times:.1f} times faster than the best of the others. {why}")
    return ["With mwan3's default tracking:", "", *lines, ""] if lines else []


def _wrong(cells):
    lines = [
        "## Wrong acts", "",
        "A restart or `tailscale down` while no uplink reached the outside, and any act on a tailnet that was well on"
        " the best uplink that was open. None are: moving the packets of a family that is dead there, mending rules that"
        " were lost, and taking a steering away when main leads by the same uplink again. For tailover every"
        " cure of its history counts, for the others every command to tailscaled or its service.", "", "| remedy | runs | with a wrong act | such as |", "|---|---|---|---|",
    ]
    for treatment in TREATMENTS:
        mine = [(key, cell) for key, cell in cells.items() if key[0] == treatment.key]
        if mine:
            wrong = sum(cell.wrong_runs for _, cell in mine)
            runs = sum(cell.runs for _, cell in mine)
            examples = [
                f"{SCENARIO[scenario].title}: {cell.wrong[0]}"
                for (_, scenario, _), cell in sorted(mine, key=lambda pair: pair[0]) if cell.wrong
            ]
            lines.append(f"| {treatment.title} | {runs} | {wrong} | {'; '.join(examples[:2])} |")
    restarted = sorted({
        SCENARIO[scenario].title for (treatment, scenario, _), cell in cells.items()
        if treatment == _SHIPPED and cell.restarts.most
    })
    if any(treatment == _SHIPPED for treatment, _, _ in cells):
        lines += ["", f"tailover as shipped restarted tailscaled in: {', '.join(restarted) or 'no run'}."]
    return "\n".join([*lines, ""])


def _beside_the_real(cells):
    lines = [
        "## Beside a real OpenWrt", "",
        "Seconds to the tailnet on a real OpenWrt userland with mwan3 2.12.2 and the fast tracking"
        " ([faults.md](faults.md)), and here: to the tailnet, and all seconds without an answer.", "",
        "| scenario | remedy | there | here | lost here |", "|---|---|---|---|---|",
    ]
    for (treatment, scenario), there in recorded.REAL.items():
        cell = cells.get((treatment, scenario, "fast"))
        here = (_spread(cell.ping, cell), _spread(cell.outage, cell)) if cell else ("–", "–")
        lines.append(f"| {SCENARIO[scenario].title} | {TREATMENT[treatment].title} | {there} | {here[0]} | {here[1]} |")
    return "\n".join([*lines, "", recorded.WHY])


def _details(cells):
    lines = [
        "## Every cell", "",
        "Flows: how many of the TCP connections into the LAN were ended or carried nothing after the tailnet's return."
        " Outage: all seconds without an answer.", "",
        "| scenario | tracking | remedy | control s | tailnet s | outage s | restarts | flows lost"
        " | runs with a wrong act | runs |",
        "|---" * 10 + "|",
    ]
    for scenario in SCENARIOS:
        for detection in _BY_SPEED:
            for treatment in TREATMENTS:
                cell = cells.get((treatment.key, scenario.key, detection))
                if cell is None:
                    continue
                ping = _spread(cell.ping, cell) if scenario.steady else "–"
                control = _spread(cell.control, cell) if scenario.steady else "–"
                row = [scenario.title, detection, treatment.title, control, ping, _spread(cell.outage, cell),
                       _spread(cell.restarts, cell, 0), _spread(cell.flows_lost, cell, 0), str(cell.wrong_runs),
                       str(cell.runs)]
                lines.append("| " + " | ".join(row) + " |")
    return "\n".join([*lines, ""])


def write():
    """Writes page and picture; returns the exit code."""
    rows = record.read()
    PAGE.write_text(render(rows, cost.read()), encoding="utf-8")
    print(f"bench: {PAGE.relative_to(record.TREE)} is written")
    if not rows or picture_data.digest(rows) == picture_data.drawn(PICTURE):
        return 0
    # Only drawing needs the plotting library, which has an environment of its own.
    found = subprocess.run([record.TREE / "tools/plot.sh"], capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"bench: the picture is not drawn: {found.stderr.strip()}", file=sys.stderr)
        return 1
    return subprocess.run([found.stdout.strip(), "-m", "lab.bench.draw"], cwd=record.TREE, check=False).returncode


def check():
    """Whether both are what the tables say; returns the exit code."""
    rows = record.read()
    wrong = []
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != render(rows, cost.read()):
        wrong.append(PAGE)
    if rows and picture_data.digest(rows) != picture_data.drawn(PICTURE):
        wrong.append(PICTURE)
    for file in wrong:
        print(f"bench: {file.relative_to(record.TREE)} is not what docs/benchmark.csv says;"
              " run `python3 -m lab bench --page`", file=sys.stderr)
    return 1 if wrong else 0
