"""How cost grows: benches/growth under valgrind, whose counts do not depend on the machine's speed."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .. import cargo
from . import cost
from .record import TREE

# case: (sizes, how often it is done beyond what a first time costs, subject in words)
_CASES = {
    "pulse": ((1, 2, 6, 15, 30, 60), 200, "a reading of the counters, {} uplinks"),
    "failover": ((2, 6, 15, 30, 60), 3, "a failover decided, {} uplinks"),
    "burst": ((10, 100, 1_000, 10_000), 2, "{:,} events within a second"),
    "peers": ((1, 10, 100, 1_000), 10, "the networks of {:,} peers read"),
}
_TIMED = 5
_HOW = (
    "Instructions: valgrind's callgrind, one time more and one time less, so what starts the program is not in it;"
    " the router around the core is a model whose own instructions count too. Heap: the most that was held at once,"
    " valgrind's dhat, the model's included. Time: this machine's ({cpu}), the least of {timed} runs;"
    " inputs: what the core was given and decided on. `cargo bench --bench growth` has the same by divan."
)


def measure(say):
    """Builds the program, runs each case, and replaces the rows; returns the exit code."""
    if not shutil.which("valgrind"):
        say("bench: how cost grows is not measured: valgrind is missing")
        return 1
    program = _build()
    rows = []
    for case, (sizes, times, words) in _CASES.items():
        for size in sizes:
            subject = words.format(size)
            nanoseconds, inputs = _timed(program, case, size, times)
            rows.append((subject, "instructions", f"{_instructions(program, case, size, times):,}", ""))
            if case != "peers":
                # There the model, which holds all it says, would be nearly all of it.
                rows.append((subject, "heap", f"{_heap(program, case, size) / 1000:.0f}", "kB"))
            rows.append((subject, "time", f"{nanoseconds / 1000:,.1f}", "µs"))
            if inputs:
                # `pulse` tells of all its times, the others of one.
                each = inputs / times if case == "pulse" else inputs
                rows.append((subject, "inputs", f"{each:,.0f}", ""))
                rows.append((subject, "decisions", f"{each * 1e9 / nanoseconds:,.0f}", "a second"))
            say(f"{subject}: " + ", ".join(f"{row[1]} {row[2]} {row[3]}" for row in rows if row[0] == subject))
    how = _HOW.format(cpu=_cpu(), timed=_TIMED)
    cost.replace("growth", [(*row, how) for row in rows])
    return 0


def _cpu():
    names = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    return names[0] if names else os.uname().machine


def _build():
    words = ["cargo", "bench", "--locked", "--bench", "growth", "--no-run", "--message-format=json"]
    done = subprocess.run(words, cwd=TREE, stdout=subprocess.PIPE, text=True, check=True)
    return cargo.executable(done.stdout, "growth")


def _run(program, *words):
    command = [*program, "--count", *map(str, words)]
    return subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True)


def _timed(program, case, size, times):
    runs = [tuple(map(int, _run([program], case, size, times).stdout.split())) for _ in range(_TIMED)]
    return min(nanoseconds for nanoseconds, _ in runs), runs[0][1]


def _instructions(program, case, size, times):
    """Of one time: what `times` more of them take, without the router that is made for each."""
    once, more = (_counted(program, case, size, number) for number in (1, 1 + times))
    each = round((more - once) / times)
    made = {"failover": size, "burst": 2}.get(case)
    return each - _instructions(program, "settled", made, times) if made else each


def _counted(program, case, size, times):
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program]
        said = _run(tool, case, size, times).stderr
    return int(re.search(r"Collected : (\d+)", said)[1])


def _heap(program, case, size):
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=dhat", f"--dhat-out-file={folder}/out", program]
        said = _run(tool, case, size, 3).stderr
    return int(re.search(r"At t-gmax:\s+([\d,]+) bytes", said)[1].replace(",", ""))
