"""Which of OpenWrt's architectures a target's binaries serve, and where those binaries are."""

import os
from pathlib import Path

import recipe


def host():
    """rustc's name of this machine's CPU, as tools/static.sh takes it."""
    machine = os.uname().machine
    if machine.startswith("arm"):
        return "armv7-unknown-linux-musleabihf"
    return f"{machine}-unknown-linux-musl"


def table():
    """tools/targets.tsv: target -> OpenWrt's names of package architectures."""
    lines = (recipe.ROOT / "tools/targets.tsv").read_text().splitlines()
    fields = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return {field[0]: field[4].split() for field in fields}


def arches(target):
    """The architectures of one target. Raises recipe.Wrong."""
    known = table()
    if target not in known:
        raise recipe.Wrong(f"{target} is not in tools/targets.tsv: {', '.join(known)}")
    return known[target]


def programs(target, variant):
    """The folder with the static binaries. Raises recipe.Wrong when they are not built."""
    folder = recipe.ROOT / "target/static"
    if target != host():
        folder /= target
    if variant == "mini":
        folder /= "mini"
    for name in recipe.PROGRAMS:
        if not (folder / name).is_file():
            mini = "--mini " if variant == "mini" else ""
            raise recipe.Wrong(f"there is no {folder / name}: tools/static.sh {mini}{target}")
    return Path(folder)
