#!/usr/bin/env python3
"""Makes a release: version, changelog, packages, checksums, bill of materials, tag. It pushes nothing.

    tools/release.py places          every place a version stands in; code 1 when they differ
    tools/release.py make VERSION    the release, into target/release/VERSION
    tools/release.py set VERSION     only its first step: writes the version and the changelog's heading

`make` can be run again when a later step has failed: what is done is passed over. The tag comes last.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone

import cross
from cross import CHANGELOG, ROOT, Failed, git

# A file, and what stands before the version in it.
PLACES = [
    ("Cargo.toml", r'^\[package\]\nname = "tailover"\nversion = "'),
    ("Cargo.lock", r'^name = "tailover"\nversion = "'),
    ("openwrt/**/Makefile", r"^PKG_VERSION:="),
]
VERSION = r"\d+\.\d+\.\d+"
# The folders of target/ that are gathered.
GATHERED = ["packages", "dist"]
CYCLONEDX = "0.5.9"


def run(*words):
    words = [str(word) for word in words]
    print("release:", " ".join(words), flush=True)
    if subprocess.run(words, cwd=ROOT).returncode:
        raise Failed(f"{' '.join(words)} failed")


def places():
    """(file, pattern of the version there, the version), one for each place."""
    found = []
    for name, before in PLACES:
        for path in sorted(ROOT.glob(name)):
            pattern = re.compile(f"({before})({VERSION})", re.M)
            match = pattern.search(path.read_text())
            if not match:
                raise Failed(f"{path.relative_to(ROOT)} has no version where it should be")
            found.append((path, pattern, match.group(2)))
    return found


def current():
    """The one version that stands in all places."""
    versions = {version for _, _, version in places()}
    if len(versions) != 1:
        raise Failed("versions differ: " + ", ".join(
            f"{path.relative_to(ROOT)} {version}" for path, _, version in places()))
    return versions.pop()


def notes(heading):
    """The changelog's text under a heading, or None where there is no such heading."""
    pattern = rf"^## \[{re.escape(heading)}\][^\n]*\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, CHANGELOG.read_text(), re.M | re.S)
    return found.group(1).strip() if found else None


def number(version):
    return [int(part) for part in version.split(".")]


def set_version(version):
    """Writes the version in every place, and turns the changelog's Unreleased into it."""
    if not re.fullmatch(VERSION, version):
        raise Failed(f"{version} is not of the form 1.2.3")
    if number(version) < number(current()):
        raise Failed(f"{version} is older than {current()}")
    if notes(version) is not None:
        raise Failed(f"CHANGELOG.md has {version} already")
    if not notes("Unreleased"):
        raise Failed("CHANGELOG.md has nothing under [Unreleased]")
    for path, pattern, _ in places():
        path.write_text(pattern.sub(rf"\g<1>{version}", path.read_text(), count=1))
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    text = CHANGELOG.read_text()
    heading = "## [Unreleased]\n"
    CHANGELOG.write_text(text.replace(heading, f"{heading}\n## [{version}] - {today}\n", 1))


def clean():
    if git("status", "--porcelain").strip():
        raise Failed("the tree has changes that are not committed")


def sbom(folder, version):
    """A CycloneDX bill of materials of what is linked in, by cargo-cyclonedx."""
    tool = ROOT / "target/tools/bin/cargo-cyclonedx"
    if not tool.exists():
        run("cargo", "install", "--locked", "--root", ROOT / "target/tools", "--version", CYCLONEDX,
            "cargo-cyclonedx")
    # It writes a file of this name beside the manifest of each crate of the workspace.
    name = "sbom-of-release"
    # Else the file has the moment and a random number in it.
    time = f"SOURCE_DATE_EPOCH={git('log', '-1', '--format=%ct').strip()}"
    words = [tool, "cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps", "--target",
             "x86_64-unknown-linux-musl", "--override-filename", name]
    try:
        for program, features in (("tailover", []), ("tailover-mini", ["--no-default-features"])):
            run("env", time, *words, *features)
            shutil.copy(ROOT / f"{name}.json", folder / f"{program}-{version}.cdx.json")
    finally:
        for made in git("ls-files", "--others", "--", f"*{name}.json").split():
            (ROOT / made).unlink()


def gather(folder, version):
    """The binaries and packages, the licences, and a checksum of every file."""
    for row in cross.targets():
        for variant, name in (("default", "tailover"), ("mini", "tailover-mini")):
            source = cross.folder(row["target"], variant)
            archive = f"{name}-{version}-{row['target']}.tar.gz"
            # The same bytes for the same files: no time, no owner, a fixed order.
            run("sh", "-c", 'tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$1" -cf - '
                'tailover tailover-fetch | gzip -9n >"$2"', "tar", source, folder / archive)
    for kind in GATHERED:
        source = ROOT / "target" / kind
        if source.is_dir():
            shutil.copytree(source, folder / kind, dirs_exist_ok=True)
    run(sys.executable, ROOT / "tools/licences.py", "texts", folder / "licences.txt")
    (folder / "notes.md").write_text(notes(version) + "\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}" for path in files]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def make(version):
    tag = f"v{version}"
    if git("tag", "--list", tag).strip():
        raise Failed(f"{tag} is there already")
    clean()
    if current() != version or notes(version) is None:
        set_version(version)
        git("commit", "-qam", f"release: {version}")
    run("make", "cross-all")
    if git("status", "--porcelain").strip():
        git("commit", "-qam", f"docs: what {version} takes on each CPU")
    folder = ROOT / "target/release" / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Packages of a former version must not come along.
    for kind in GATHERED:
        shutil.rmtree(ROOT / "target" / kind, ignore_errors=True)
    run("make", "dist")
    for row in cross.targets():
        for variant in ("full", "mini"):
            run("make", "feed", f"TARGET={row['target']}", f"VARIANT={variant}")
    sbom(folder, version)
    gather(folder, version)
    clean()
    # Else git takes the changelog's headings for comments.
    git("tag", "-a", tag, "--cleanup=whitespace", "-m", f"tailover {version}\n\n{notes(version)}")
    print(f"release: {tag}, and {folder.relative_to(ROOT)}; now push the commits and the tag")


def main(words):
    match words:
        case ["places"]:
            for path, _, version in places():
                print(f"{path.relative_to(ROOT)}: {version}")
            current()
        case ["set", version]:
            set_version(version)
        case ["make", version]:
            make(version)
        case _:
            raise Failed(__doc__.strip())


if __name__ == "__main__":
    cross.program("release", main)
