#!/usr/bin/env python3
"""The size of the static binaries: keeps it within the budget, and shows what takes the room.

    tools/size.py check [TARGET...]   compares what was built for them (default: for this machine's CPU) with
                                      tools/size-budget.toml and with the sizes that docs/cpus.json has
    tools/size.py show [TARGET]       what takes the room, by crate; builds once more, with symbols

A growth over the budget's percentage is let through when CHANGELOG.md has a line under Unreleased with the
word `size` in it that was not there when the sizes were recorded.
"""

import re
import subprocess
from collections import Counter

import cross
from cross import ROOT, Failed


def problems(target, variant, entry, recorded, budget):
    """What is wrong with a variant's sizes, as sentences. `entry` are the present ones, `recorded` those
    of docs/cpus.json, or None."""
    found = []
    for what, size in cross.counted(entry).items():
        limit = budget[variant][what]["limit"]
        if size > limit:
            found.append(f"{target}, {variant}: {what}: {size:,} bytes, {limit:,} allowed")
    # Another standard library is another size.
    if recorded and recorded["std"].split(",")[0] == entry["std"].split(",")[0]:
        more = 100 * (entry["both"] - recorded["both"])
        if more > budget["growth"] * recorded["both"] and entry["words"] in ("", recorded["words"]):
            found.append(f"{target}, {variant}: both: {entry['both']:,} bytes are "
                         f"{more / recorded['both']:.1f} % more than the {recorded['both']:,} recorded, and "
                         f"CHANGELOG.md says nothing new about the size")
    return found


def check(target, variant):
    """Compares the binaries that are there."""
    entry = cross.sizes(target, variant)
    recorded = cross.record().get(target, {}).get(variant)
    budget = cross.budget()
    found = problems(target, variant, entry, recorded, budget)
    if found:
        raise Failed("\n      ".join(found))
    missed = cross.over_goal(variant, entry, budget)
    print(f"size: {target}, {variant}: {entry['both']:,} bytes, gzip {entry['gzip']:,}: within the limit"
          + (f", over the goal: {', '.join(missed)}" if missed else ""))


def crate(symbol):
    """The crate that a demangled symbol belongs to."""
    # What drops a value belongs to the value's type, what is called on one too.
    name = re.sub(r"^core::ptr::drop_in_place(::)?<", "<", symbol)
    name = re.sub(r"^(<|&|\*|\[|\(|mut |const |dyn |impl )+", "", name)
    path = re.match(r"([a-z_][a-z0-9_]*)(\[[0-9a-f]+\])?::", name)
    if path:
        return path.group(1)
    if "ring_core" in symbol:
        return "ring"
    return "core" if symbol.startswith("<") or "::" in symbol else "C: musl and the compiler's own"


def show(target):
    """Prints the bytes of each crate in each program."""
    subprocess.run([ROOT / "tools/static.sh", "--symbols", target], check=True)
    for name in cross.PROGRAMS:
        binary = cross.folder(target, "default") / "symbols" / name
        said = subprocess.run(["nm", "-C", "-S", "--defined-only", binary], capture_output=True, text=True,
                              check=True).stdout
        sums, seen = Counter(), set()
        for line in said.splitlines():
            fields = line.split(" ", 3)
            # B: memory that is zero at start takes no room in the file. Two names can be one function.
            if len(fields) == 4 and fields[2] not in "bB" and fields[0] not in seen:
                seen.add(fields[0])
                sums[crate(fields[3])] += int(fields[1], 16)
        whole = (cross.folder(target, "default") / name).stat().st_size
        sums["no symbol: texts, tables"] = max(0, whole - sum(sums.values()))
        print(f"\n{name}, {target}: {whole:,} bytes")
        for label, size in sums.most_common():
            if size >= 512:
                print(f"  {size:>9,}  {100 * size / whole:4.1f} %  {label}")


def main(arguments):
    match arguments:
        case ["check", *targets]:
            for target in targets or [cross.host()]:
                for variant in ("default", "mini"):
                    if (cross.folder(target, variant) / "std").exists():
                        check(target, variant)
        case ["show"]:
            show(cross.host())
        case ["show", target]:
            show(target)
        case _:
            raise Failed(__doc__.strip())


if __name__ == "__main__":
    cross.program("size", main)
