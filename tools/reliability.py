#!/usr/bin/env python3
"""Long runs: what was run, how often, at which program. Writes docs/reliability.md.

    tools/reliability.py weeks COUNT     runs what is missing of the weeks 0 to COUNT-1, and records it
    tools/reliability.py mutants [NAME…] breaks each promise on purpose, and records what noticed
    tools/reliability.py promises [NAME…] the same without the record, the weeks that noticed then first, as CI does
    tools/reliability.py take KIND FILE  copies the rows of one kind of run from another clone's record
    tools/reliability.py page            docs/reliability.md from docs/reliability.json
    tools/reliability.py check           compares the two; fails when the page is not what the record gives

docs/reliability.json has a key for each kind of run. Each row also has `commit` (its first seven digits)
and `day` (YYYY-MM-DD):

    weeks      {"PROGRAM from SEED": {count, inputs, cures, seconds, program}}: weeks of tests/weeks that
               broke no promise; PROGRAM is a hash of what they were built of, SEED the first of them
    mutants    {NAME: {promise, caught, by, after}}: `by` is what the simulation said, `after` the number
               of the week that said it
    survivors  {FILE: {program, made, caught, survived}}: tools/survivors.py has what they are
    fuzz       {TARGET: {inputs, seconds, reached}}: what tools/fuzz.py gave to a parser, in CPU seconds
    troubles   {"TROUBLE at MOMENT": {survived, said, program}}: faults put into a router of the lab
    kills      {"seed SEED": {count, said, program}}: tailover killed so often at a random instant
    endurance  {"COUNT in a row": {count, said, program}}: failovers and failbacks of the lab, one after the other
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import survivors  # noqa: E402
from lab import cargo, record  # noqa: E402

PAGE = ROOT / "docs/reliability.md"
# What the simulation is built of.
SOURCES = ["src/core", "tests/weeks", "tests/world"]
# Weeks between two notes in the record.
CHUNK = 10_000
# Weeks in which a broken promise must show itself.
ENOUGH = 10_000


class Failed(Exception):
    """What a person has to know; ends the program with code 1."""


def program(root=ROOT):
    """A hash of the names and bytes of all that the simulation is built of."""
    digest = hashlib.sha256()
    for place in SOURCES:
        for path in sorted((root / place).rglob("*")):
            if path.is_file():
                name = path.relative_to(root)
                digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def build(root, target):
    """The test program of the weeks; None when it cannot be built, which is told."""
    words = ["cargo", "test", "-p", "tailover-weeks", "--profile", "weeks", "--test", "weeks", "--no-run",
             "--message-format", "json"]
    env = os.environ | {"CARGO_TARGET_DIR": str(target)}
    told = subprocess.run(words, cwd=root, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if told.returncode:
        return None
    return cargo.executable(told.stdout, "weeks")


def live(binary, first, count, threads=2):
    """(figures, None) when all of them kept the promises, else (None, what the first that did not says)."""
    env = os.environ | {"WEEKS_FROM": str(first), "WEEKS": str(count), "WEEKS_THREADS": str(threads),
                        "RUST_BACKTRACE": "0"}
    run = subprocess.run([binary, "--nocapture"], env=env, capture_output=True, text=True, check=False)
    text = run.stdout + run.stderr
    if run.returncode:
        return None, text
    told = re.search(r"lived through, (\d+) cures, (\d+) inputs, ([\d.]+) s", text)
    if not told:
        raise Failed(f"the weeks said nothing:\n{text}")
    cures, inputs, seconds = told.groups()
    return {"count": count, "cures": int(cures), "inputs": int(inputs), "seconds": float(seconds)}, None


def missing(rows, program_, count):
    """The stretches of weeks below `count` that this program has not lived through: (first, how many)."""
    done = sorted((int(name.split()[-1]), row["count"]) for name, row in rows.items()
                  if row["program"] == program_)
    at = 0
    for first, many in done:
        if first > at:
            yield at, min(first, count) - at
        at = max(at, first + many)
        if at >= count:
            return
    if at < count:
        yield at, count - at


def weeks(count):
    """Lives through what is missing, and notes it chunk by chunk."""
    now = program()
    binary = build(ROOT, ROOT / "target")
    if binary is None:
        raise Failed("the weeks cannot be built")
    for first, many in list(missing(record.noted("weeks"), now, count)):
        for at in range(first, first + many, CHUNK):
            figures, broken = live(binary, at, min(CHUNK, first + many - at),
                                   int(os.environ.get("WEEKS_THREADS", "2")))
            if broken:
                raise Failed(broken)
            grow(now, at, figures)
            print(f"weeks: {at} to {at + figures['count'] - 1} in {figures['seconds']} s", flush=True)


def grow(now, at, figures):
    """Adds a chunk to the row that ends where it begins, or makes a new one."""
    for name, row in record.noted("weeks").items():
        first = int(name.split()[-1])
        if row["program"] == now and first + row["count"] == at:
            total = {key: round(row[key] + figures[key], 1) for key in figures}
            return record.note("weeks", name, program=now, **total)
    return record.note("weeks", f"{now} from {at}", program=now, **figures)


def mutants(names):
    """Breaks the core in each way of the list, and notes what the weeks say to it."""
    def ask(mutant, binary):
        caught, week, by = first_to_notice(binary, mutant.sign, 0, ENOUGH)
        record.note("mutants", mutant.name, promise=mutant.promise, caught=caught, by=by, after=week, what=mutant.what)
        return caught, by

    break_all(names, ask)


def promises(names):
    """Breaks the core in each way of the list. The week that noticed it last is asked first, as it mostly does again."""
    rows = record.noted("mutants")

    def ask(mutant, binary):
        then = rows.get(mutant.name, {}).get("after", 0)
        for first, count in ((then, 1), (0, ENOUGH)):
            caught, _, by = first_to_notice(binary, mutant.sign, first, count)
            if caught:
                break
        return caught, by

    break_all(names, ask)


def break_all(names, ask):
    """Prints for each broken core what `ask` gives of it: whether the weeks noticed, and by what. Fails where not."""
    missed = []
    for mutant, binary in broken_cores(names):
        caught, by = ask(mutant, binary)
        print(f"{mutant.name}: {'caught' if caught else 'NOT CAUGHT'}: {by}", flush=True)
        if not caught:
            missed.append(mutant.name)
    if missed:
        raise Failed(f"not caught by the promise that they break: {', '.join(missed)}")


def broken_cores(names):
    """Each change of the list that has one of these names, or any, with the test program of a core that has it."""
    import mutants as list_
    unknown = set(names) - {m.name for m in list_.MUTANTS}
    if unknown:
        raise Failed(f"no such mutant: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for mutant in list_.MUTANTS:
            if names and mutant.name not in names:
                continue
            copy(root)
            try:
                mutant.apply(root)
            except ValueError as e:
                raise Failed(f"tools/mutants.py no longer fits the core: {e}") from e
            binary = build(root, root / "target")
            if binary is None:
                raise Failed(f"{mutant.name} cannot be built")
            yield mutant, binary


def first_to_notice(binary, sign, first, count):
    """(noticed by that sign, number of the week, what it says) of the first of these weeks that is broken."""
    _, broken = live(binary, first, count, int(os.environ.get("WEEKS_THREADS", "2")))
    said = re.search(r"^week (\d+): (.*)$", broken or "", re.MULTILINE)
    if not said:
        return False, ENOUGH, "nothing"
    by = said.group(2)[:160]
    return sign in by, int(said.group(1)), by


def take(kind, file):
    """Copies the rows of a run that was done elsewhere, with the commit and the day that they have there."""
    rows = json.loads(Path(file).read_text()).get(kind)
    if not rows:
        raise Failed(f"{file} has no rows of {kind}")
    record.put(kind, rows)


def copy(root):
    """A workspace of the simulation alone; what was built there before stays, so that little is built anew."""
    for place in SOURCES:
        shutil.rmtree(root / place, ignore_errors=True)
        shutil.copytree(ROOT / place, root / place)
    shutil.copy(ROOT / "Cargo.lock", root / "Cargo.lock")
    (root / "Cargo.toml").write_text('[workspace]\nmembers = ["tests/weeks"]\nresolver = "2"\n\n'
                                     '[profile.weeks]\ninherits = "dev"\nopt-level = 3\ndebug = false\n')


def figure(rows, count=lambda row: 1):
    return f"{sum(count(row) for row in rows.values()):,}" if rows else "none yet"


def ratio(rows, good):
    """`18 of 20`, or that there are none."""
    return f"{sum(bool(row[good]) for row in rows.values())} of {len(rows)}" if rows else "none yet"


def noticed(rows):
    """`30 of 34 (1 of 29 files)`."""
    caught, made = (sum(row[key] for row in rows.values()) for key in ("caught", "made"))
    return f"{caught} of {made} ({len(rows)} of {len(survivors.files())} files)" if rows else "none yet"


def counted(data, key):
    return figure(data.get(key, {}), lambda row: row["count"])


def table(data):
    fuzz, weeks_ = data.get("fuzz", {}), data.get("weeks", {})
    rows = [
        ("histories of a simulated week, no promise broken", figure(weeks_, lambda r: r["count"]),
         "`tools/reliability.py weeks 1000000`"),
        ("inputs that the core took in them", figure(weeks_, lambda r: r["inputs"]), "the same"),
        ("cures in them", figure(weeks_, lambda r: r["cures"]), "the same"),
        ("promises broken on purpose, and noticed", ratio(data.get("mutants", {}), "caught"),
         "`tools/reliability.py mutants`"),
        ("changes to the core by cargo-mutants, noticed by a test of the core", noticed(data.get("survivors", {})),
         "`tools/survivors.py`"),
        ("inputs given to the parsers by the fuzzer, no crash, no hang",
         figure(fuzz, lambda r: r["inputs"]), "`tools/fuzz.py --seconds 1800 --record`"),
        ("faults put into a router of the lab, and survived", ratio(data.get("troubles", {}), "survived"),
         "`python3 -m lab troubles --record`"),
        ("kills of tailover at a random instant, the tailnet well after each", counted(data, "kills"),
         "`LAB_RECORD=1 python3 -m lab test --all killed_at_random`"),
        ("failovers and failbacks of the lab in a row, with memory, rules and descriptors flat",
         counted(data, "endurance"), "`LAB_RECORD=1 python3 -m lab test --all endurance`"),
    ]
    lines = ["| what | how many | again |", "|---|--:|---|"]
    return lines + [f"| {what} | {many} | {again} |" for what, many, again in rows]


INTRO = """\
# Reliability: what was run, how often

This page is made by `tools/reliability.py page` from `docs/reliability.json`, which the commands of the table fill.
"""

WEEKS = """\
## A week from a number

`tests/weeks/` makes a week in the life of a router of a number: what kind of router it is, and what happens to it
when. The real core lives through it against the modelled router of `tests/world/`, with time that jumps from one
event to the next. Uplinks go dark, come back, show a portal, lose one family, their carrier, their address; tailscaled
crashes, hangs, is stopped, restarted, loses its kernel state; the daemon is killed or not given the CPU; the router
boots; its clock goes back; events are lost, come twice and come late. Then all causes go, and within a bounded time
the tailnet must be well, nothing steered, nothing done any more, and no memory grown.

`TAILOVER_SEED=N cargo test -p tailover-weeks --profile weeks -- --nocapture` tells the story of one week. A week that
breaks a promise prints its number, and the shortest story that breaks it still.

`tests/weeks/idle.rs` has the same router idle for three days under an allocator that counts: what is held at the end of
an hour is the same, to the byte, on the second day and on the third (`cargo test -p tailover-weeks --test idle`).

What the model leaves out: flows that mwan3's marks hold (F5), which the core's own tests cover; tailscaled's
preferences and login; anything that `src/watch` and `src/cure` get wrong, for which there is the lab. A tailscaled
that this run of the daemon never saw online is not held to be curable: that it is offline is no fault by itself.
"""

MUTANTS = """\
## Broken on purpose

Each of these changes makes the core break one of its promises. The simulation must notice each by itself, by that
promise, within {enough:,} weeks. CI breaks them all anew each time (`make promises`).

| change | what it breaks | noticed as | in week |
|---|---|---|--:|"""

SURVIVORS = """\
## Broken by a machine

cargo-mutants makes every change that it knows to a file of the core, one at a time: another operator, a function that
gives nothing, a condition turned round. The core's unit tests, `tests/histories/` or a hundred of the weeks must notice.
What survives is listed by `tools/survivors.py list`, unless `docs/survivors.toml` says why nothing need notice it. A
file that is not here, or was changed since, has yet to be tried.

| file | changes | noticed | survived, unexplained |
|---|--:|--:|--:|"""

FUZZ = """\
## Hostile bytes

Each kind of bytes that comes from outside has a function in `src/hostile.rs`, which libFuzzer feeds, guided by the
code that it reaches. A panic, an overflow, 5 s without an end or 400 MB of memory is a failure; where what was read can
be written again, it must read the same. `make fuzz` gives each 20 s, as CI does.

| bytes | inputs | minutes in all | places reached |
|---|--:|--:|--:|"""

OTHERS = """\
## What others do

Read in their repositories in November 2026; no figures of theirs are known to us.

{others}"""


def page(data):
    parts = [INTRO, "\n".join(table(data)) + "\n", WEEKS]
    if data.get("mutants"):
        lines = [MUTANTS.format(enough=ENOUGH)]
        for name, row in sorted(data["mutants"].items()):
            by = row["by"] if row["caught"] else f"**not noticed** ({row['by']})"
            lines.append(f"| {row['what']} | {row['promise']} | {short(by)} | {row['after']:,} |")
        parts.append("\n".join(lines) + "\n")
    if tried := data.get("survivors"):
        lines, left = [SURVIVORS], survivors.unexplained(tried, survivors.explained())
        for file, row in sorted(tried.items()):
            unexplained = sum(of == file for of, _ in left)
            lines.append(f"| src/core/{file} | {row['made']} | {row['caught']} | {unexplained} |")
        parts.append("\n".join(lines) + "\n")
    if data.get("fuzz"):
        lines = [FUZZ]
        for name, row in sorted(data["fuzz"].items()):
            lines.append(f"| {name} | {row['inputs']:,} | {row['seconds'] / 60:.1f} | {row['reached']:,} |")
        parts.append("\n".join(lines) + "\n")
    said = [row["said"] for key in ("kills", "endurance") for row in data.get(key, {}).values()]
    if said:
        parts.append("## What the long runs of the lab said\n\n" + "\n".join(f"- {text}" for text in said) + "\n")
    failed = [(name, row["said"]) for name, row in data.get("troubles", {}).items() if not row["survived"]]
    if failed:
        rows = [f"- {name}: {short(said)}" for name, said in sorted(failed)]
        parts.append("## What did not go well the last time\n\n" + "\n".join(rows) + "\n")
    parts.append(OTHERS.format(others=(ROOT / "tools/reliability-others.md").read_text()))
    return "\n".join(parts)


def short(text):
    """What fits into a cell: the words before any figures of the state, without what would end the cell."""
    text = re.split(r" at \d+(?:\.\d+)?s|: \w+ \{|: Quiet|\n", text)[0]
    return text.replace("|", "/")[:120]


def write():
    PAGE.write_text(page(record.read()))


def check():
    if not PAGE.exists() or PAGE.read_text() != page(record.read()):
        raise Failed("docs/reliability.md is not what docs/reliability.json gives: `tools/reliability.py page`")


def main(words):
    sys.dont_write_bytecode = True
    match words:
        case ["weeks", count]:
            weeks(int(count))
            write()
        case ["mutants", *names]:
            mutants(names)
            write()
        case ["promises", *names]:
            promises(names)
        case ["take", kind, file]:
            take(kind, file)
            write()
        case ["page"]:
            write()
        case ["check"]:
            check()
        case _:
            raise Failed(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failed as e:
        sys.exit(f"reliability: {e}")
