"""The rows of docs/benchmark.csv: what was measured, when, and with what."""

import csv
import fcntl
import hashlib
import os
import subprocess
from datetime import datetime, timezone
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
FILE = TREE / "docs" / "benchmark.csv"

COLUMNS = [
    "date", "commit", "binary", "tailover", "tailscaled", "headscale", "treatment", "scenario", "detection",
    "run", "seed", "limit", "control", "ping", "outage", "watched", "restarts", "flows", "flows_lost", "wrong",
    "load", "labs",
]
# What a figure says that is no number.
NEVER = "never"


def read(file=FILE):
    """All rows, oldest first."""
    if not file.exists():
        return []
    with open(file, newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table, restval=""))


def append(row, file=FILE):
    """One more row. A file that was broken off in the middle of a line gets a new one."""
    with open(file, "a+", newline="", encoding="utf-8") as table:
        # Other labs write too; the lock goes with the file's closing.
        fcntl.flock(table, fcntl.LOCK_EX)
        fresh = table.seek(0, os.SEEK_END) == 0
        if not fresh:
            table.seek(table.tell() - 1)
            if table.read(1) != "\n":
                table.write("\n")
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def seconds(value):
    """A figure as it stands in a row."""
    return NEVER if value is None else f"{value:.2f}"


def number(text):
    """The same back: None for never."""
    return None if text == NEVER else float(text)


def versions(router, binaries):
    """What is compared here: commit, versions, and the program's digest. Inside of the sandbox."""
    tailover = router.run(["tailover", "--version"]).split()[-1]
    tailscaled = router.run([binaries / "tailscaled", "--version"]).split()[0]
    headscale = router.run([binaries / "headscale", "version"]).split()[2].lstrip("v")
    program = (binaries.parent.parent.parent / "target/lab/bin/tailover").read_bytes()
    return {
        "commit": commit(), "binary": hashlib.sha256(program).hexdigest()[:12], "tailover": tailover,
        "tailscaled": tailscaled, "headscale": headscale,
    }


def commit():
    """The commit that is checked out, short."""
    asked = ["git", "-c", "safe.directory=*", "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(asked, cwd=TREE, capture_output=True, text=True, check=True).stdout.strip()


def row(known, cell, result, limit, labs):
    """A row from the versions, (treatment, scenario, detection, run, seed), the figures, the limit, and how
    many labs ran beside each other."""
    treatment, scenario, detection, run, seed = cell
    return known | {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"), "treatment": treatment,
        "scenario": scenario, "detection": detection, "run": run, "seed": seed, "limit": f"{limit:.0f}",
        "control": seconds(result.control), "ping": seconds(result.ping), "outage": f"{result.outage:.2f}",
        "watched": f"{result.watched:.1f}", "restarts": result.restarts, "flows": result.flows,
        "flows_lost": result.flows_lost, "wrong": "; ".join(result.wrong),
        # Of the last minute: others may use the machine too.
        "load": f"{os.getloadavg()[0]:.1f}", "labs": labs,
    }
