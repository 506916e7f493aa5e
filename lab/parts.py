"""Builds the real parts: tailscaled (of three kinds), tailscale, derper, headscale.

The Go modules in lab/go pin them. A part is built again only when its module's
go.mod or go.sum, or the flags below, have changed.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from .paths import BIN, TREE

GO_MINIMUM = (1, 26)

# What OpenWrt's package leaves out too, and no part of what the lab looks at.
# ts_include_cli makes tailscaled answer as `tailscale` when called by that name.
TAILSCALED_TAGS = ",".join(
    [
        "ts_include_cli",
        "ts_omit_aws",
        "ts_omit_bird",
        "ts_omit_completion",
        "ts_omit_kube",
        "ts_omit_systray",
        "ts_omit_taildrop",
        "ts_omit_tap",
        "ts_omit_tpm",
    ]
)

# What tailscale's own `build_dist.sh --extra-small` leaves out and tailover has use for; the rest
# would only take the lab's own tools away.
SMALL_TAGS = "ts_omit_debug,ts_omit_health,ts_omit_ipnbus," + TAILSCALED_TAGS


class PartsError(Exception):
    """A part could not be built. The text says which and why."""


@dataclass(frozen=True)
class Part:
    """One program: the module folder that pins it, its package, its tags, and
    whether only rare scenarios need it."""

    name: str
    module: str
    package: str
    tags: str = ""
    rare: bool = False


PARTS = [
    Part("tailscaled", "tailscale", "tailscale.com/cmd/tailscaled", TAILSCALED_TAGS),
    # The router's tailscaled in the scenarios that need another one; `tailscale` is the new one's.
    Part("tailscaled-old", "tailscale-old", "tailscale.com/cmd/tailscaled", TAILSCALED_TAGS, True),
    Part("tailscaled-small", "tailscale", "tailscale.com/cmd/tailscaled", SMALL_TAGS, True),
    Part("derper", "tailscale", "tailscale.com/cmd/derper"),
    Part("wireguard-go", "wireguard", "golang.zx2c4.com/wireguard", rare=True),
    Part("headscale", "headscale", "github.com/juanfont/headscale/cmd/headscale"),
]


def build_all(jobs=2, rare=False):
    """Builds what is missing or outdated into target/lab/bin; with `rare` also what
    only rare scenarios need."""
    BIN.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part.rare and not rare:
            continue
        stamp = BIN / f".{part.name}.stamp"
        want = _fingerprint(part)
        if (BIN / part.name).exists() and stamp.exists() and stamp.read_text() == want:
            print(f"parts: {part.name} is up to date", flush=True)
            continue
        print(f"parts: building {part.name} (minutes the first time)", flush=True)
        _build(part, jobs)
        stamp.write_text(want)
    cli = BIN / "tailscale"
    if not cli.is_symlink():
        cli.symlink_to("tailscaled")


def missing():
    """Names of the parts that are not built and that every run needs."""
    return [part.name for part in PARTS if not part.rare and not (BIN / part.name).exists()]


def _fingerprint(part):
    digest = hashlib.sha256(f"{part.package} {part.tags}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((TREE / "lab" / "go" / part.module / name).read_bytes())
    return digest.hexdigest()


def _build(part, jobs):
    go = _find_go()
    # Without cgo no C compiler is needed and the programs run in any namespace.
    environment = os.environ | {"CGO_ENABLED": "0"}
    command = [go, "build", "-mod=readonly", "-trimpath", f"-p={jobs}"]
    command.append("-ldflags=" + " ".join(_link_flags(part)))
    if part.tags:
        command.append(f"-tags={part.tags}")
    command += ["-o", str(BIN / part.name), part.package]
    where = TREE / "lab" / "go" / part.module
    result = subprocess.run(command, cwd=where, env=environment)
    if result.returncode != 0:
        raise PartsError(f"go build of {part.package} failed with {result.returncode}")


def _link_flags(part):
    flags = ["-s", "-w"]
    if part.module.startswith("tailscale"):
        # Else a build outside of a release calls itself ERR-BuildInfo.
        pin = (TREE / "lab" / "go" / part.module / "go.mod").read_text()
        version = re.search(r"^\s*(?:require )?tailscale\.com v(\S+)", pin, re.MULTILINE)
        if version:
            for stamp in ("longStamp", "shortStamp"):
                flags += ["-X", f"tailscale.com/version.{stamp}={version[1]}"]
    return flags


def _find_go():
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and os.access(candidate, os.X_OK):
            break
    else:
        raise PartsError("no go on PATH; Go %d.%d or later is needed" % GO_MINIMUM)
    text = subprocess.run(
        [candidate, "env", "GOVERSION"], capture_output=True, text=True, check=True
    ).stdout.strip()
    numbers = tuple(int(n) for n in text.removeprefix("go").split(".")[:2] if n.isdigit())
    if numbers < GO_MINIMUM:
        raise PartsError("%s is too old; Go %d.%d or later is needed" % ((text,) + GO_MINIMUM))
    return candidate
