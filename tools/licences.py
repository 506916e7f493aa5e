#!/usr/bin/env python3
"""The licences of all that is linked into the programs.

    tools/licences.py list          writes docs/licences.md
    tools/licences.py check         compares that page, and each licence with what deny.toml allows
    tools/licences.py texts FILE    the licence texts of all of it, for a release or a package

Cargo's metadata name the crates of every CPU in tools/targets.tsv. What only builds (procedural macros,
build scripts) or only tests is left out.
"""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import cross
from cross import ROOT, Failed, targets

PAGE = ROOT / "docs/licences.md"


def crates():
    """The linked crates as cargo's metadata have them, by name, without our own."""
    words = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for row in targets():
        words += ["--filter-platform", row["target"]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip())
    data = json.loads(done.stdout)
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    is_macro = lambda id_: any("proc-macro" in target["kind"] for target in packages[id_]["targets"])
    ours = next(id_ for id_, package in packages.items() if package["name"] == "tailover")
    found, left = set(), [ours]
    while left:
        id_ = left.pop()
        if id_ in found or is_macro(id_):
            continue
        found.add(id_)
        left += [link["pkg"] for link in nodes[id_]["deps"]
                 if any(kind["kind"] is None for kind in link["dep_kinds"])]
    return sorted((packages[id_] for id_ in found - {ours}), key=lambda p: (p["name"], p["version"]))


def allowed(expression, allow):
    """Whether an SPDX expression can be kept with the licences of a list."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)

    def either():
        good = both()
        while tokens and tokens[0] in ("OR", "/"):
            tokens.pop(0)
            # Not `good or both()`: the rest has to be read in any case.
            good = both() or good
        return good

    def both():
        good = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            good = one() and good
        return good

    def one():
        name = tokens.pop(0)
        if name == "(":
            good = either()
            tokens.pop(0)
            return good
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            name += " WITH " + tokens.pop(0)
        return name in allow

    try:
        return either() and not tokens
    except IndexError:
        return False


def page(packages):
    lines = [f"| `{p['name']}` | {p['version']} | {p['license']} |" for p in packages]
    return "\n".join(["""# Licences of what is linked in

tailover itself is under the MIT licence. The programs contain these crates as well, which this page lists
for all CPUs and with TLS; `make licences` writes it, and `make lint` compares it with Cargo.lock and each
licence with what `deny.toml` allows. The texts are gathered by `tools/licences.py texts FILE`.

| crate | version | licence |
|---|---|---|""", *lines, """
Not from Cargo.lock: Rust's standard library (MIT OR Apache-2.0), with compiler-builtins (MIT AND Apache-2.0
WITH LLVM-exception), and musl (MIT), which every static program has in it.
"""])


def texts(packages, file):
    """One file with each crate's own licence files. A crate without any is named with its expression."""
    parts = []
    for package in packages:
        folder = Path(package["manifest_path"]).parent
        name = re.compile(r"(?i)(licen[cs]e|copying|unlicense|notice)")
        files = sorted(path for path in folder.iterdir() if path.is_file() and name.match(path.name))
        parts.append(f"==== {package['name']} {package['version']}: {package['license']}\n")
        parts += [f"---- {path.name}\n{path.read_text(errors='replace').strip()}\n" for path in files]
        if not files:
            parts.append("(its package has no licence file)\n")
    Path(file).write_text("\n".join(parts))


def main(words):
    match words:
        case ["list"]:
            PAGE.write_text(page(crates()))
        case ["texts", file]:
            texts(crates(), file)
        case ["check"]:
            packages = crates()
            allow = tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"]
            refused = [f"{p['name']}: {p['license']}" for p in packages
                       if not allowed(p["license"] or "", allow)]
            if refused:
                raise Failed("deny.toml does not allow: " + ", ".join(refused))
            if not PAGE.exists() or PAGE.read_text() != page(packages):
                raise Failed("docs/licences.md is not that of Cargo.lock: run `make licences`")
        case _:
            raise Failed(__doc__.strip())


if __name__ == "__main__":
    cross.program("licences", main)
