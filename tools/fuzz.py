#!/usr/bin/env python3
"""Gives hostile bytes to everything that reads bytes from outside, guided by coverage (libFuzzer).

    tools/fuzz.py [--seconds 20] [--jobs 2] [--record] [--keep] [TARGET...]     default: all of them

Each target (src/hostile.rs) gets so many seconds of its own. A crash, a hang of 5 s, or more than 400 MB of
memory fails, and names the file with the bytes. --keep adds what reached new code to fuzz/corpus, as small as
does the same; --record adds CPU seconds and inputs to docs/reliability.json. `seeds` instead of a target writes
the recordings of the real thing into the corpora.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab import record  # noqa: E402

CORPUS = ROOT / "fuzz/corpus"
FOLDER = ROOT / "target/fuzz"
# The pass of LLVM that libFuzzer wants. No sanitizer of memory: the crate has no unsafe code.
FLAGS = ["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4",
         "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table",
         "-Cllvm-args=-sanitizer-coverage-trace-compares", "-Ccodegen-units=4"]
MEMORY_MB = 400
HANG_S = 5
# libFuzzer's exit code for that, and how long an input is given that is tried once more by itself.
LATE = 70
PATIENCE_S = 60
LONGEST = 8192
# A corpus in git is small: bytes and files of a target, and bytes of one input.
KEPT = 50_000
KEPT_FILES = 100
KEPT_INPUT = 4096


class Failed(Exception):
    """The text says what and where."""


def targets():
    """The names, as src/hostile.rs has them."""
    text = (ROOT / "src/hostile.rs").read_text()
    table = text[text.index("pub const TARGETS"):text.index("];")]
    return re.findall(r'\("([a-z-]+)",', table)


def build():
    """Builds the one program; returns its path."""
    host = next(line.split()[1] for line in subprocess.run(
        ["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.splitlines() if line.startswith("host"))
    # With a target named, the flags do not concern build scripts.
    environment = os.environ | {"RUSTFLAGS": " ".join(FLAGS), "CARGO_TARGET_DIR": str(FOLDER)}
    subprocess.run(["cargo", "build", "--locked", "--release", "--quiet", "--target", host, "--manifest-path",
                    ROOT / "fuzz/Cargo.toml"], env=environment, check=True)
    return FOLDER / host / "release/hostile"


def run(program, name, seconds, keep):
    """One target for so long. Returns its row; raises Failed."""
    found = FOLDER / "found" / name
    new = FOLDER / "corpus" / name
    for folder in (found, new):
        folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HOSTILE": name}
    end, left, took, inputs = time.monotonic() + seconds, seconds, 0.0, 0
    while left > 0:
        command = [program, new, CORPUS / name, f"-max_total_time={left}", f"-rss_limit_mb={MEMORY_MB}",
                   f"-timeout={HANG_S}", f"-max_len={LONGEST}", f"-artifact_prefix={found}/", "-print_final_stats=1",
                   "-verbosity=1"]
        code, said, used = timed(command, environment)
        stood = code == LATE and not hangs(program, said, environment)
        if code and not stood:
            last = "\n".join(line for line in said.splitlines() if "#" not in line[:1])[-2500:]
            raise Failed(f"{name}: code {code}; the bytes are in {found.relative_to(ROOT)}\n{last}")
        took += used
        inputs += int((re.search(r"stat::number_of_executed_units:\s*(\d+)", said) or [0, 0])[1])
        left = round(end - time.monotonic()) if stood else 0
    coverage = re.findall(r"\bcov: (\d+)", said)
    if not coverage or int(coverage[-1]) < 20 or not inputs:
        raise Failed(f"{name}: nothing was reached, so nothing was tested: {said[-500:]}")
    if keep:
        minimise(program, name, new)
    return {"seconds": round(took, 1), "inputs": inputs, "reached": int(coverage[-1])}


def hangs(program, said, environment):
    """Whether the input that libFuzzer gave up takes so long by itself: it looks at the clock, and a busy machine may
    have let the program stand."""
    unit = re.search(r"Test unit written to (\S+)", said)
    if not unit:
        return True
    code, _, took = timed([program, f"-timeout={PATIENCE_S}", unit[1]], environment)
    return code != 0 or took > HANG_S


def timed(command, environment):
    """Runs it: its exit code, what it said, and the seconds of CPU time it took, which a busy machine does not change."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return child.returncode, said.read().decode(errors="replace"), used.ru_utime + used.ru_stime


def minimise(program, name, new):
    """Puts the fewest inputs that reach the same into the corpus, as far as there is room."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder)
        command = [program, "-merge=1", f"-max_len={KEPT_INPUT}", small, CORPUS / name, new]
        subprocess.run(command, env=os.environ | {"HOSTILE": name}, capture_output=True, check=True)
        files = sorted(small.iterdir(), key=lambda path: (path.stat().st_size, path.name))
        for old in (CORPUS / name).iterdir():
            old.unlink()
        room = KEPT
        # The largest reach most at once; what there is no room for is found again.
        for file in reversed(files):
            room -= file.stat().st_size
            if room < 0 or len(list((CORPUS / name).iterdir())) >= KEPT_FILES:
                break
            put(name, file.read_bytes())


def put(name, data):
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def note(name, row):
    """Adds what was done to what was done before."""
    before = record.noted("fuzz").get(name, {"seconds": 0, "inputs": 0})
    record.note("fuzz", name, seconds=round(before["seconds"] + row["seconds"], 1),
                inputs=before["inputs"] + row["inputs"], reached=row["reached"])


def seeds():
    """What the recordings of the real thing have for each target, as pairs of name and bytes."""
    recordings = ROOT / "tests/recordings"
    for path in sorted((recordings / "ubus-wire").glob("*.json")):
        for frame in json.loads(path.read_text()).get("frames", []):
            data = bytes.fromhex(frame["hex"])
            if len(data) <= KEPT_INPUT:
                yield "ubus-wire", data
                yield "blobmsg", data[12:]
    for kind in ("nftables", "sock-diag"):
        for path in sorted((recordings / kind).glob("*.bin")):
            yield "netlink", path.read_bytes()
    for path in sorted(recordings.glob("tailscale*/*")):
        data = path.read_bytes()
        if path.suffix == ".http":
            yield "localapi-http", data
            yield "localapi-json", data.partition(b"\r\n\r\n")[2]
        elif path.suffix in (".json", ".jsonl"):
            for line in (data.splitlines() if path.suffix == ".jsonl" else [data]):
                if len(line) <= KEPT_INPUT:
                    yield "localapi-json", line
    for path in sorted(recordings.glob("traces/*/*.json")):
        yield "ubus-data", path.read_bytes()
    for path in sorted(recordings.glob("traces/*/*")):
        for line in path.read_bytes().splitlines() if path.name in ("listen", "subscribe") else []:
            yield "ubus-data", line[line.index(b"{"):] if b"{" in line else line
    for path in sorted((ROOT / "tests/fixtures/config").glob("*/*")):
        if not path.suffix:
            yield "uci", path.read_bytes()
    yield "stun", bytes.fromhex("0101000c2112a442" + "00" * 12 + "00200008000112345e12a443")
    yield "dns", b"\x09tail.test" + bytes.fromhex("000781800001000100000000") + b"\x04tail\x04test\0" + bytes.fromhex(
        "00010001c00c000100010000003c0004cb007101")
    yield "hotplug", b"connected\0wan\0eth1\0" + b"1"
    yield "hotplug", b"stratum\0ntp"
    yield "history", b'{"trigger":"x","boot":"b","uptime":1.0,"time":1,"run":"old"}\nb 1.0\n'
    yield "worker", b'[1,"resolve","a.test"]'
    yield "worker", b'[1,"addresses",["192.0.2.1"]]'
    yield "worker", b'[1,"response",[200,[["a","b"]],"00"]]'
    yield "worker", b'[1,"error",["timeout","x"]]'
    for path in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/dev", "/proc/self/stat"):
        yield "proc", Path(path).read_bytes()[:600]
    yield "proc", (b"ipv4 2 udp 17 119 src=192.0.2.2 dst=198.51.100.1 sport=41641 dport=3478 [UNREPLIED] "
                   b"src=198.51.100.1 dst=192.0.2.2 sport=3478 dport=41641 mark=256 zone=0 use=2\n")


def main(words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args(words)
    if options.targets == ["seeds"]:
        for name, data in seeds():
            put(name, data)
        return
    names = options.targets or targets()
    unknown = set(names) - set(targets())
    if unknown:
        raise Failed(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(targets())}")
    program = build()
    shutil.rmtree(FOLDER / "found", ignore_errors=True)
    problems, noting = [], Lock()

    def one(name):
        try:
            row = run(program, name, options.seconds, options.keep)
        except Failed as problem:
            problems.append(str(problem))
            return
        print(f"fuzz: {name:14} {row['inputs']:>11,} inputs in {row['seconds']:.0f} s of CPU time, "
              f"{row['reached']} places reached", flush=True)
        with noting:
            if options.record:
                note(name, row)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, names))
    if problems:
        raise Failed("\n".join(problems))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failed as problem:
        sys.exit(f"fuzz: {problem}")
    except subprocess.CalledProcessError as problem:
        sys.exit(f"fuzz: {problem}")
