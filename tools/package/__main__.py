"""Packs what the feed's Makefile installs, without an OpenWrt build tree.

    python3 tools/package ipk|apk|feed [--target TARGET] [--variant full|mini] [--out FOLDER]
    python3 tools/package dist [--out FOLDER]

The static binaries come from target/static (tools/static.sh), the rest from openwrt. The packages that run on
any CPU, the LuCI app and the collectors, are put beside them.
Times within are SOURCE_DATE_EPOCH, or those of the last commit: built twice, the bytes are the same.
"""

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import apk
import dist
import feed
import ipk
import recipe
import targets


def main():
    words = argparse.ArgumentParser(prog="tools/package", description=__doc__.split("\n")[0])
    words.add_argument("what", choices=["ipk", "apk", "feed", "dist"])
    words.add_argument("--target", default=targets.host(), help="rustc's name, the host's by default")
    words.add_argument("--variant", choices=["full", "mini"], default="full")
    words.add_argument("--out", type=Path, help="where the results go")
    said = words.parse_args()
    try:
        recipe.check_version()
        for line in _run(said):
            print(line)
    except (recipe.Wrong, OSError, subprocess.CalledProcessError) as problem:
        sys.exit(f"package: {problem}")


def _run(said):
    if said.what == "dist":
        file, digest = dist.make(said.out or recipe.ROOT / "target/dist")
        yield f"{digest}  {file}"
        return
    out = said.out or recipe.ROOT / "target/packages" / said.target
    kinds = {"ipk": [ipk], "apk": [apk], "feed": [ipk, apk]}[said.what]
    programs = targets.programs(said.target, said.variant)
    program = recipe.read(programs, {"full": "tailover", "mini": "tailover-mini"}[said.variant])
    packages = [program, *recipe.scripts()]
    for arch in targets.arches(said.target):
        folder = out / arch
        folder.mkdir(parents=True, exist_ok=True)
        for kind, package in itertools.product(kinds, packages):
            file = folder / kind.name(package, arch)
            file.write_bytes(kind.make(package, arch))
            yield f"package: {file}, {file.stat().st_size} bytes"
        if said.what == "feed":
            yield from feed.make(folder)


if __name__ == "__main__":
    main()
