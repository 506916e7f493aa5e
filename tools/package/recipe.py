"""What a package holds, read from the feed's Makefiles: its fields, scripts and files.

GNU make evaluates openwrt/net/tailover/Makefile, and those of the LuCI app and of the collectors, in a
stand-in for OpenWrt's build tree (tools/openwrt) and carries out their install steps; so there is one
description of each package.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FEED = ROOT / "openwrt/net/tailover"
APP = "luci-app-tailover"
# Packages of scripts, the same on every CPU: their folder in openwrt/, the feed that OpenWrt's build tree
# would have it from, and their names.
SCRIPTS = [
    (f"applications/{APP}", "luci", (APP,)),
    ("utils/tailover-monitoring", "packages", ("prometheus-node-exporter-lua-tailover", "tailover-collectd")),
]
STAND_IN = ROOT / "tools/openwrt"
PROGRAMS = ("tailover", "tailover-fetch")


class Wrong(Exception):
    """Something that has to be put right first; the text says what."""


@dataclass(frozen=True)
class File:
    """A file of the package. `path` begins without a slash, `mode` has the permissions alone."""

    path: str
    mode: int
    data: bytes


@dataclass(frozen=True)
class Package:
    """A package as its Makefile describes it, without an architecture."""

    name: str
    # Of the program and of the package: 0.1.0-r1.
    version: str
    title: str
    description: str
    section: str
    license: str
    maintainer: str
    url: str
    # user:group that the installation makes.
    users: str
    depends: list
    provides: list
    conflicts: list
    conffiles: list
    # postinst, prerm, … -> text; of the package alone, without OpenWrt's usual steps.
    scripts: dict
    # Sorted by path.
    files: list
    # It is the one meant where several provide its name.
    preferred: bool
    # Seconds since 1970, for all times in the package.
    epoch: int
    # Where OpenWrt's build tree would have it from.
    origin: str
    # It runs on any CPU.
    anywhere: bool

    @property
    def folders(self):
        """Every folder that a file is in, from the root (""), sorted."""
        found = {""}
        for file in self.files:
            found.update(str(parent) for parent in Path(file.path).parents if str(parent) != ".")
        return sorted(found)


def make(goal, *variables, folder=None):
    """Runs the Makefile of the folder (the feed's) in the stand-in; returns what it prints."""
    folder = folder or FEED
    command = ["make", "-s", "--no-print-directory", "-C", folder, f"TOPDIR={STAND_IN}"]
    command += [f"INCLUDE_DIR={STAND_IN / 'include'}", *variables, goal]
    # Not the variables of a make that has called this one.
    clean = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    done = subprocess.run(list(map(str, command)), env=clean, capture_output=True, text=True)
    if done.returncode != 0:
        raise Wrong(f"{folder / 'Makefile'}: {done.stderr.strip()}")
    return done.stdout


def read(programs, name):
    """The package `name` of the feed, with the programs of that folder."""
    with tempfile.TemporaryDirectory() as scratch:
        bin_ = Path(scratch) / "install/bin"
        bin_.mkdir(parents=True)
        for program in PROGRAMS:
            shutil.copy(programs / program, bin_)
        make(f"stage-{name}", f"OUT={scratch}", f"PKG_INSTALL_DIR={bin_.parent}")
        return _staged(Path(scratch) / name, "feeds/packages/net/tailover")


def scripts():
    """The packages that need no programs."""
    packages = []
    for place, feed, names in SCRIPTS:
        with tempfile.TemporaryDirectory() as scratch:
            make("stage", f"OUT={scratch}", folder=ROOT / "openwrt" / place)
            packages += [_staged(Path(scratch) / name, f"feeds/{feed}/{place}") for name in names]
    return packages


def read_app():
    """The LuCI app's package."""
    return next(package for package in scripts() if package.name == APP)


def _staged(folder, origin):
    field = {file.name: file.read_text().strip() for file in (folder / "fields").iterdir()}
    root = folder / "root"
    files = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Wrong(f"{path}: neither a file nor a folder")
        if path.is_file():
            name = str(path.relative_to(root))
            files.append(File(name, path.stat().st_mode & 0o777, path.read_bytes()))
    return Package(
        name=folder.name,
        version=f"{field['VERSION']}-r{field['RELEASE']}",
        title=field["TITLE"],
        description="\n".join(line.strip() for line in field["description"].splitlines()),
        section=field["SECTION"],
        license=field["LICENSE"],
        maintainer=field["MAINTAINER"],
        url=field["URL"],
        users=field["USERID"],
        # `@` stands before a condition on the router's CPU, `+` before a package to choose along.
        depends=[word.lstrip("+") for word in field["DEPENDS"].split() if not word.startswith("@")],
        provides=field["PROVIDES"].split(),
        conflicts=field["CONFLICTS"].split(),
        conffiles=field["conffiles"].split(),
        scripts={
            name: field[name] + "\n"
            for name in ("preinst", "postinst", "prerm", "postrm")
            if field[name]
        },
        files=sorted(files, key=lambda file: file.path),
        preferred=field["DEFAULT_VARIANT"] == "1",
        epoch=epoch(),
        origin=origin,
        anywhere=field["PKGARCH"] == "all",
    )


def epoch():
    """SOURCE_DATE_EPOCH, or the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or git("log", "-1", "--format=%ct"))


def git(*words):
    """What git prints in this repository."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def version():
    """The version of Cargo.toml."""
    return re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def check_version():
    """Raises Wrong unless the Makefiles have Cargo.toml's version."""
    for folder in (FEED, *(ROOT / "openwrt" / place for place, _, _ in SCRIPTS)):
        told = re.search(r"^PKG_VERSION:=(.*)$", (folder / "Makefile").read_text(), re.MULTILINE)[1]
        if told != version():
            raise Wrong(f"PKG_VERSION is {told} in {folder / 'Makefile'}, and {version()} in Cargo.toml")
