#!/usr/bin/env python3
"""Builds tailover for other CPUs, runs it there under an emulator, and writes the table of results.

    tools/cross.py build TARGET [--quick]   one target; --quick: the default variant, without the tests
    tools/cross.py all [--no-tests]         every target of tools/targets.tsv that is not done yet
    tools/cross.py table                    docs/cpus.md from docs/cpus.json
    tools/cross.py check                    compares cross.toml and docs/cpus.md with what they are made of

What was found is recorded in docs/cpus.json, one entry for each target. An entry holds for the sources
that it was made from: `all` passes over a target whose entry is complete and of the present sources.
"""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ROOT / "tools/targets.tsv"
RECORD = ROOT / "docs/cpus.json"
TABLE = ROOT / "docs/cpus.md"
BUDGET = ROOT / "tools/size-budget.toml"
CHANGELOG = ROOT / "CHANGELOG.md"
# The shipped configuration, wherever the packages have it.
CONFIG = next(ROOT.glob("openwrt/**/etc/config/tailover"))
PROGRAMS = ("tailover", "tailover-fetch")
# Tests that fail because of the emulator: CPUs ("" for all), the version of qemu that is right or None, the test.
EMULATOR_FAULTS = [
    # SO_ERROR's number is not translated (mended by "linux-user: Fix SO_ERROR return code of getsockopt()",
    # February 2023), which only shows where errors have other numbers.
    ("mips", [8], "net::socket::tests::a_closed_port_is_refused"),
    # It refuses netlink sockets but for a few families (linux-user/syscall.c, do_socket).
    ("", None, "net::sock_diag::tests::this_kernel_tells_of_data_and_not_of_the_handshake"),
    # The kernel writes addresses into /proc/net/tcp in its own byte order, which is not the program's then.
    ("mips-", None, "watch::sockets::tests::finds_its_own_connections"),
    ("powerpc-", None, "watch::sockets::tests::finds_its_own_connections"),
]
# The step of a target that fails when its tests do.
TESTS = "its tests"
# Seconds that building and running a target's tests may take on a busy machine. A test that hangs must
# not hold up the other CPUs.
TESTS_MOST = 3600
# What the binaries and the results are made from.
SOURCES = ["src", "Cargo.toml", "Cargo.lock", "tests/time64.rs", "tests/recordings", "tools/static.sh",
           "tools/trim.py", "tools/mended-rustc.sh", "tools/zig.sh", "tools/zig-powerpc.sh"]
# The keys of cross's configuration file, from its src/cross_toml.rs of commit 8c1a8aa (August 2026).
CROSS_KEYS = {
    "build": {"build-std", "zig", "default-target", "pre-build", "dockerfile", "env"},
    "target": {"build-std", "zig", "image", "runner", "pre-build", "dockerfile", "env"},
    "env": {"volumes", "passthrough"},
}


class Failed(Exception):
    """What a person has to know; ends the program with code 1."""


def targets():
    """Every line of the list, as {target, cpu, qemu, since, arch, openwrt}, in its order."""
    names = ("target", "cpu", "qemu", "since", "arch", "openwrt")
    rows = []
    for line in TARGETS.read_text().splitlines():
        if line and not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != len(names):
                raise Failed(f"{TARGETS.name}: {len(fields)} fields in: {line}")
            rows.append(dict(zip(names, fields)))
    return rows


def git(*words):
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True,
                          check=True).stdout


def sources():
    """A hash of the names and bytes of all that the binaries and results are made from."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES)
    digest = hashlib.sha256()
    for name in sorted(set(names.split("\0")) - {""}):
        path = ROOT / name
        if path.is_file():
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def commit():
    """The commit, with a + where a source differs from it."""
    changed = git("status", "--porcelain", "--", *SOURCES).strip()
    return git("rev-parse", "--short=7", "HEAD").strip() + ("+" if changed else "")


def record():
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def save(entries):
    order = [row["target"] for row in targets()]
    kept = {name: entries[name] for name in order if name in entries}
    new = RECORD.with_suffix(".new")
    new.write_text(json.dumps(kept, indent=1) + "\n")
    new.rename(RECORD)


def host():
    """The target that this machine runs without an emulator, as tools/static.sh has it."""
    machine = os.uname().machine
    return {"armv7l": "armv7-unknown-linux-musleabihf"}.get(machine, f"{machine}-unknown-linux-musl")


def folder(target, variant):
    """Where tools/static.sh puts a target's binaries: the convention that the packages use too."""
    base = ROOT / "target/static"
    base = base if target == host() else base / target
    return base if variant == "default" else base / "mini"


def numbers(version):
    return [int(part) for part in version.split(".")]


def runner(row):
    """(words that run a program of the target, how the table calls it); None: not possible, and why."""
    if row["target"] == host():
        return [], "native"
    name, *rest = row["qemu"].split()
    words = [name + "-static", *rest]
    try:
        said = subprocess.run([words[0], "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Failed(f"{words[0]} is needed (Debian's package qemu-user-static)") from None
    version = re.search(r"version (\d+(?:\.\d+)*)", said.stdout).group(1)
    if numbers(version) < numbers(row["since"]):
        return None, f"not run: qemu {version} is older than {row['since']}"
    return words, f"qemu {version}"


def sizes(target, variant):
    """What the table says of a variant that was built: bytes of each binary, of both together, of both
    compressed (what a package has at least) and of the package; and the standard library in it."""
    data = {name: (folder(target, variant) / name).read_bytes() for name in PROGRAMS}
    entry = {name: len(bytes_) for name, bytes_ in data.items()}
    entry["both"] = sum(entry.values())
    entry["gzip"] = sum(len(gzip.compress(bytes_, 9, mtime=0)) for bytes_ in data.values())
    entry["package"] = packages(target, variant)
    entry["std"] = (folder(target, variant) / "std").read_text().split(" (")[0].strip()
    entry["words"] = changelog_words()
    return entry


def budget():
    """tools/size-budget.toml: {growth, default, mini}, each variant {both, package}, each {goal, limit}."""
    return tomllib.loads(BUDGET.read_text())


def counted(entry):
    """What the budget is about: {both, package}, the package by its estimate where there is none."""
    return {"both": entry["both"], "package": entry["package"] or entry["gzip"]}


def over_goal(variant, entry, bounds):
    """By how much a variant misses the goals, as words."""
    return [f"{what} by {100 * (size - bounds[variant][what]['goal']) / bounds[variant][what]['goal']:.0f} %"
            for what, size in counted(entry).items() if size > bounds[variant][what]["goal"]]


def changelog_words():
    """A hash of CHANGELOG.md's lines about the size under Unreleased; empty where there is none."""
    text = CHANGELOG.read_text() if CHANGELOG.exists() else ""
    section = re.search(r"^## \[?Unreleased\]?.*?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    lines = [line for line in (section.group(1) if section else "").splitlines()
             if re.search(r"\bsize\b", line, re.I)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8] if lines else ""


def packages(target, variant):
    """Bytes of the target's largest .ipk in target/packages (`make ipk`), or None where there is none that
    is as new as the binaries."""
    name = "tailover" if variant == "default" else "tailover-mini"
    row = next(row for row in targets() if row["target"] == target)
    built = max((folder(target, variant) / program).stat().st_mtime for program in PROGRAMS)
    found = [path.stat() for arch in row["arch"].split()
             for path in (ROOT / "target/packages").rglob(f"{name}_*_{arch}.ipk")]
    return max((entry.st_size for entry in found if entry.st_mtime >= built), default=None)


def says(words, code, part):
    """Runs a program and compares its exit code, and that its words have a part."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    text = done.stdout + done.stderr
    if done.returncode != code or part not in text:
        raise Failed(f"{' '.join(map(str, words))}: code {done.returncode}, not {code} with "
                     f"{part!r}: {text.strip()[:400]}")


def smoke(row, variant, run):
    """Starts both programs and has a good and a bad configuration read."""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    for name in PROGRAMS:
        says([*run, folder(row["target"], variant) / name, "--version"], 0, f"{name} {version}")
    tailover = [*run, folder(row["target"], variant) / "tailover", "--config"]
    says([*tailover, CONFIG, "run", "--test"], 0, "can be used")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as bad:
        bad.write("config tailover 'main'\n\toption hold 'soon'\n")
        bad.flush()
        says([*tailover, bad.name, "run", "--test"], 2, f"{bad.name}:2: option 'hold' is 'soon'")


def static(*words, env=None, most=None):
    """tools/static.sh; gives what it printed, which is shown as well. It may take `most` seconds."""
    limit = ["timeout", str(most)] if most else []
    with subprocess.Popen([*limit, ROOT / "tools/static.sh", *words], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, **(env or {})}) as process:
        lines = []
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    if process.returncode:
        raise Failed(f"tools/static.sh {' '.join(words)}: code {process.returncode}")
    return "".join(lines)


def build(row, variant):
    """Builds a variant with its packages for opkg and gives its sizes."""
    static(*(["--mini"] if variant == "mini" else []), row["target"])
    named = {"default": "full", "mini": "mini"}[variant]
    if subprocess.run([sys.executable, ROOT / "tools/package", "ipk", "--target", row["target"],
                       "--variant", named], stdout=subprocess.DEVNULL).returncode:
        raise Failed("tools/package failed")
    return sizes(row["target"], variant)


def skipped(row, how):
    """The tests that cannot pass with this emulator; `how` is what `runner` calls it."""
    version = re.search(r"qemu ([\d.]+)", how)
    return [test for cpu, right, test in EMULATOR_FAULTS
            if version and row["target"].startswith(cpu)
            and (right is None or numbers(version.group(1)) < right)]


def tests(row, run, how):
    """Runs the unit tests; gives how many passed, and how many were left out because of the emulator."""
    env = {}
    if run:
        name = row["target"].upper().replace("-", "_")
        env[f"CARGO_TARGET_{name}_RUNNER"] = " ".join(run)
    skip = skipped(row, how)
    words = ["--tests", row["target"], "--", *(word for test in skip for word in ("--skip", test))]
    said = static(*words, env=env, most=TESTS_MOST)
    return sum(int(number) for number in re.findall(r"(\d+) passed", said)), len(skip)


def quick(row):
    """Builds the default variant of a target and starts it; records nothing."""
    build(row, "default")
    run, how = runner(row)
    if run is not None:
        smoke(row, "default", run)
    print(f"cross: {row['target']}: {how}")


def make(row, with_tests=True):
    """Builds and runs one target and records what came of it, also when a part fails."""
    target = row["target"]
    print(f"cross: {target}", flush=True)
    entry = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "commit": commit(),
             "sources": sources(), "done": False, "failed": "building"}
    try:
        run, entry["runner"] = runner(row)
        for variant in ("default", "mini"):
            entry[variant] = build(row, variant)
        if run is not None:
            entry["failed"] = "starting"
            for variant in ("default", "mini"):
                smoke(row, variant, run)
            entry["failed"] = TESTS
            entry["tests"] = None
            if with_tests:
                entry["tests"], entry["skipped"] = tests(row, run, entry["runner"])
        del entry["failed"]
        entry["done"] = run is None or with_tests
    finally:
        save({**record(), target: entry})
        table()


def is_done(target):
    entry = record().get(target, {})
    return bool(entry.get("done")) and entry["sources"] == sources()


def every(with_tests=True):
    """Every target that is not done; one that fails does not keep the others from being built."""
    failed = []
    for row in targets():
        if is_done(row["target"]):
            print(f"cross: {row['target']} is done for these sources")
            continue
        try:
            make(row, with_tests)
        except (Failed, subprocess.TimeoutExpired) as error:
            print(f"cross: {row['target']}: {error}", file=sys.stderr)
            failed.append(row["target"])
    if failed:
        raise Failed("failed: " + ", ".join(failed))


def result(entry):
    """The table's cell about running the programs."""
    if "failed" in entry:
        how = entry.get("runner", "")
        return f"{how + ': starts; ' if entry['failed'] == TESTS else ''}failed: {entry['failed']}"
    if "tests" not in entry:
        return entry["runner"]
    if entry["tests"] is None:
        return f"{entry['runner']}: starts; tests not run"
    left_out = f", {entry['skipped']} left out" if entry.get("skipped") else ""
    return f"{entry['runner']}: starts, {entry['tests']} tests{left_out}"


def rows():
    """The table, as text."""
    number = lambda value: f"{value:,}" if value else "-"
    entries = record()
    lines = ["| CPU | OpenWrt | tailover | tailover-fetch | both | package | mini: both | package | run "
             "| made |",
             "|---|---|--:|--:|--:|--:|--:|--:|---|---|"]
    for row in targets():
        entry = entries.get(row["target"])
        cells = [f"{row['cpu']}<br>`{row['target']}`",
                 f"{row['openwrt']}<br>{', '.join(f'`{arch}`' for arch in row['arch'].split())}"]
        if not entry or "mini" not in entry:
            what = result(entry) if entry else "not built"
            lines.append("| " + " | ".join(cells + ["-"] * 6 + [what, "-"]) + " |")
            continue
        default, mini = entry["default"], entry["mini"]
        cells += [number(default[name]) for name in PROGRAMS]
        for variant in (default, mini):
            package = variant["package"] or variant["gzip"]
            cells += [number(variant["both"]), number(package) + ("" if variant["package"] else " (gzip)")]
        cells += [result(entry), f"{entry['date']}, {entry['commit']}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goals():
    """A sentence for each variant about the goals of tools/size-budget.toml, as list items."""
    bounds = budget()
    lines = []
    for variant in ("default", "mini"):
        built = [entry[variant] for entry in record().values() if variant in entry]
        met = sum(not over_goal(variant, entry, bounds) for entry in built)
        both, package = (bounds[variant][what]["goal"] for what in ("both", "package"))
        lines.append(f"- The goal for {variant}, both at most {both:,} bytes and the package {package:,}, is met "
                     f"for {met} of {len(built)} CPUs built.")
    return "\n".join(lines)


def page():
    return f"""# CPUs: sizes, and what ran where

This page is made by `tools/cross.py table` from `docs/cpus.json`, which `make cross-all` fills.

{rows()}

- Sizes are bytes. *package* is the largest .ipk of the CPU where one was built, else, marked gzip, both
  binaries compressed with gzip -9.
{goals()}
- *mini* is built without TLS (`--no-default-features`).
- *run*: `starts` is that both programs of both variants print their version, and `tailover run --test`
  takes the shipped configuration and refuses a wrong one. `tests` is the number of unit tests that passed,
  all that need no network, with one that sets and reads a time of 2040; `left out` are those that cannot
  pass because of the emulator (`EMULATOR_FAULTS` in `tools/cross.py`). `native` is without an emulator.
- *made*: when, and from which commit; + where the sources had changes on top of it.
- An emulator proves instructions and calls of the kernel, and neither the kernel of a router nor its speed.
"""


def table():
    TABLE.write_text(page())


def check():
    """cross.toml has only what cross knows, and exactly our targets; the page is the generated one."""
    config = tomllib.loads((ROOT / "cross.toml").read_text())
    unknown = [key for key in config if key not in ("build", "target")]
    tables = [("build", config.get("build", {}), "build")]
    tables += [(f"target.{name}", keys, "target")
               for name, keys in config.get("target", {}).items()]
    for where, keys, kind in tables:
        unknown += [f"{where}.{key}" for key in keys if key not in CROSS_KEYS[kind]]
        unknown += [f"{where}.env.{key}" for key in keys.get("env", {}) if key not in CROSS_KEYS["env"]]
    if unknown:
        raise Failed(f"cross.toml: cross does not know {', '.join(unknown)}")
    ours = {row["target"] for row in targets()}
    theirs = set(config.get("target", {}))
    if ours != theirs:
        raise Failed(f"cross.toml and tools/targets.tsv differ in {', '.join(sorted(ours ^ theirs))}")
    if not TABLE.exists() or TABLE.read_text() != page():
        raise Failed("docs/cpus.md is not what `tools/cross.py table` makes")


def main(words):
    known = {row["target"]: row for row in targets()}
    match words:
        case ["build", target, *rest] if rest in ([], ["--quick"]):
            if target not in known:
                raise Failed(f"{target} is not one of: {' '.join(known)}")
            quick(known[target]) if rest else make(known[target])
        case ["all", *rest] if rest in ([], ["--no-tests"]):
            every(with_tests=not rest)
        case ["table"]:
            table()
        case ["check"]:
            check()
        case _:
            raise Failed(__doc__.strip())


def program(name, start):
    """Starts a tool with its arguments; what a person has to know is its last line, behind its name."""
    try:
        start(sys.argv[1:])
    except Failed as error:
        sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    program("cross", main)
