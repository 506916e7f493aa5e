#!/usr/bin/env python3
"""Changes the core in every way that cargo-mutants knows, and notes which changes no test of the core notices.

    tools/survivors.py [FILE…]      files of src/core; default: those that have changed since they were tried
    tools/survivors.py slow [FILE…] what survived unexplained meets the slow tests too
    tools/survivors.py list         the survivors that docs/survivors.toml does not explain

The core and its tests are built apart from the rest of the program: its unit tests, tests/histories, tests/weeks.
All changes of the core take an hour of processor time with the unit tests, so the others are for what those let
pass; what is done is noted file by file. JOBS=... (2) files are tried at once. Rows of docs/reliability.json, under
`survivors`: {FILE: {program, made, caught, survived: [CHANGE]}}. `program` is a hash of the file without its tests;
`made` leaves out what does not compile; a change that makes the tests run on and on is caught.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, Queue

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab import record  # noqa: E402
from lab.sandbox import DIES_WITH_US  # noqa: E402

CORE = ROOT / "src/core"
EXPLAINED = ROOT / "docs/survivors.toml"
# The first of the weeks; a hundred take some 2 s.
WEEKS = {"WEEKS": "100", "WEEKS_THREADS": "1"}
# Built and run in a second or two; they notice nearly all.
UNIT = ["--lib"]
TESTS = ["--lib", "--tests"]
# Those that take longer than all others together: histories left to chance, and a day without events.
SLOW = ["--skip", "invented::", "--skip", "an_idle_day"]
# The unit tests take less than a second, the quick ones some 4 s, the slow ones 25 s.
UNIT_S, QUICK_S, SLOW_S = 30, 60, 240
MANIFEST = """\
[package]
name = "core_alone"
version = "0.1.0"
edition = "2021"
autotests = false

[[test]]
name = "histories"
path = "tests/histories/main.rs"

[[test]]
name = "weeks"
path = "tests/weeks/weeks.rs"

[[test]]
name = "idle"
path = "tests/weeks/idle.rs"

# Without LTO between its parts a changed core is built anew in a third of the time.
[profile.mutants]
inherits = "dev"
opt-level = 1
lto = "off"
incremental = true
debug = false

# Of the unit tests alone, which take no time however they are built.
[profile.units]
inherits = "dev"
debug = false
incremental = true
"""


class Failed(Exception):
    """What a person has to know; ends the program with code 1."""


def lay(folder):
    """The core and its tests as a crate of their own, where cargo-mutants finds each file."""
    shutil.copytree(CORE, folder / "src/core")
    (folder / "src/lib.rs").write_text("pub mod core;\n")
    for place in ("tests/weeks", "tests/world", "tests/histories"):
        shutil.copytree(ROOT / place, folder / place)
    shutil.copy(ROOT / "Cargo.lock", folder / "Cargo.lock")
    with (folder / "tests/histories/main.rs").open("a") as main_:
        main_.write("\nextern crate core_alone as tailover;\n")
    weeks = tomllib.loads((ROOT / "tests/weeks/Cargo.toml").read_text())
    needs = "".join(f"\n[{kind}]\n" + "".join(f"{name} = {value(need)}\n" for name, need in weeks[kind].items())
                    for kind in ("dependencies", "dev-dependencies"))
    (folder / "Cargo.toml").write_text(MANIFEST + needs)


def value(need):
    """A dependency's requirement as TOML."""
    if isinstance(need, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(part)}" for key, part in need.items()) + " }"
    return json.dumps(need)


def program(file):
    """A hash of the file without its tests, which stand at its end or in a file of their own."""
    text = re.sub(r"#\[cfg\(test\)\]\nmod \w+;\n", "", (CORE / file).read_text())
    return hashlib.sha256(text.partition("\n#[cfg(test)]")[0].strip().encode()).hexdigest()[:12]


def files():
    """The core's files, from its top, without tests and the samples that these are made of."""
    paths = (path.relative_to(CORE) for path in sorted(CORE.rglob("*.rs")))
    return [str(path) for path in paths if not {"tests", "tests.rs", "sample.rs"} & set(path.parts)]


def change(name):
    """`src/core/a.rs:1:2: replace x with y` without what moves with every edit: the place in the file."""
    return re.sub(r"^[^:]*:\d+:\d+: ", "", name)


def summed(*passes):
    """One row of the outcomes that cargo-mutants notes of one file; a later pass has the last word."""
    last = {}
    for outcomes in passes:
        for outcome in outcomes:
            if outcome["scenario"] != "Baseline":
                last[outcome["scenario"]["Mutant"]["name"]] = outcome["summary"]
    kinds = list(last.values())
    survived = sorted(change(name) for name, kind in last.items() if kind == "MissedMutant")
    caught = kinds.count("CaughtMutant") + kinds.count("Timeout")
    return {"made": caught + len(survived), "caught": caught, "survived": survived}


def missed(outcomes):
    """The full names, with their places, of what no test noticed."""
    return [o["scenario"]["Mutant"]["name"] for o in outcomes if o["summary"] == "MissedMutant"]


def only(names):
    """The flags that have cargo-mutants make these changes alone: full names, or ends of names."""
    return ["--re", "|".join(f"{re.escape(name)}$" for name in sorted(set(names)))]


def try_file(folder, file):
    """Makes every change to that file of the laid out core; returns its row."""
    unit = change_all(folder, file, UNIT_S, UNIT)
    if not missed(unit):
        return summed(unit)
    return summed(unit, change_all(folder, file, QUICK_S, [*TESTS, "--", *SLOW], only(missed(unit))))


def try_slowly(folder, file):
    """Makes again what survived unexplained; returns the file's row, in which what is noticed now counts as such."""
    row = record.noted("survivors")[file]
    left = {name for _, name in unexplained({file: row}, explained())}
    found = summed(change_all(folder, file, SLOW_S, TESTS, only(f": {name}" for name in left)))
    survived = sorted([name for name in row["survived"] if name not in left] + found["survived"])
    return {"made": row["made"], "caught": row["made"] - len(survived), "survived": survived}


def profile(tests):
    return "units" if tests == UNIT else "mutants"


def change_all(folder, file, seconds, tests, flags=()):
    """Runs cargo-mutants on one file; returns its outcomes."""
    out = folder / "out" / file.replace("/", "_")
    out.mkdir(parents=True, exist_ok=True)
    words = [*DIES_WITH_US, "cargo", "mutants", "--file", f"src/core/{file}", "--profile", profile(tests), "--output",
             out, "--timeout", str(seconds), "--in-place", "--no-times", "--colors", "never", *flags]
    # What comes after `--` is for running the tests alone; of a unit test nothing else is to be built.
    words += ["--cargo-arg=--lib"] if tests == UNIT else ["--", *tests]
    done = subprocess.run(words, cwd=folder, env=os.environ | WEEKS, capture_output=True, text=True,
                          check=False)
    # 2: some survived; 3: some ran on and on. Without any change the same tests must pass, else all would look
    # noticed: then it is 4.
    if done.returncode not in (0, 2, 3):
        raise Failed(f"cargo mutants on {file}: code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    found = out / "mutants.out/outcomes.json"
    return json.loads(found.read_text())["outcomes"] if found.exists() else []


def work(folder, queue, attempt):
    """Lays the core out there and tries file after file."""
    lay(folder)
    while True:
        try:
            file = queue.get_nowait()
        except Empty:
            return
        row = attempt(folder, file)
        record.note("survivors", file, program=program(file), **row)
        print(f"survivors: {file}: {row['caught']} of {row['made']} changes noticed", flush=True)


def explained():
    """{FILE: {CHANGE: why no test can or need notice it}}."""
    return tomllib.loads(EXPLAINED.read_text()) if EXPLAINED.exists() else {}


def unexplained(rows, reasons):
    """(file, change) of each survivor without a reason."""
    return [(file, name) for file, row in sorted(rows.items()) for name in row["survived"]
            if not reasons.get(file, {}).get(name)]


def main(words):
    if words == ["list"]:
        for file, name in unexplained(record.noted("survivors"), explained()):
            print(f"{file}: {name}")
        return
    known = record.noted("survivors")
    fresh = {file for file in files() if known.get(file, {}).get("program") == program(file)}
    if slowly := words[:1] == ["slow"]:
        left = sorted(fresh & {file for file, _ in unexplained(known, explained())})
        chosen = [file for file in left if not words[1:] or file in words[1:]]
    else:
        chosen = words or sorted(set(files()) - fresh)
    if unknown := set(chosen) - set(files()):
        raise Failed(f"no such file in src/core: {', '.join(sorted(unknown))}")
    queue = Queue()
    for file in chosen:
        queue.put(file)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor() as pool:
        jobs = [pool.submit(work, Path(place) / f"core{number}", queue, try_slowly if slowly else try_file)
                for number in range(min(int(os.environ.get("JOBS", "2")), len(chosen)))]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failed as problem:
        sys.exit(f"survivors: {problem}")
