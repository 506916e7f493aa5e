"""The source tarball that the feed's Makefile names, and its SHA-256.

All that git tracks but the feed's Makefile: that one has the tarball's hash in it, and a release may
set it without another tarball. For the same reason the times are those of the last commit that
touched anything else.
"""

import gzip
import hashlib
import io
import subprocess
import tarfile

import recipe

_LEFT_OUT = "openwrt/net/tailover/Makefile"


def make(out):
    """Writes the tarball of HEAD into the folder; returns its path and its SHA-256."""
    base = f"tailover-{recipe.version()}"
    changed = recipe.git("log", "-1", "--format=%ct", "--", ".", f":(exclude){_LEFT_OUT}")
    archive = subprocess.run(
        ["git", "-C", recipe.ROOT, "archive", "--format=tar", "HEAD^{tree}"],
        check=True,
        capture_output=True,
    ).stdout
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0, compresslevel=9) as stream,
        tarfile.open(fileobj=io.BytesIO(archive)) as tree,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for entry in sorted(tree.getmembers(), key=lambda entry: entry.name):
            if entry.name == _LEFT_OUT:
                continue
            plain = tarfile.TarInfo(f"{base}/{entry.name}")
            plain.type, plain.linkname, plain.size = entry.type, entry.linkname, entry.size
            # git knows of a file's mode only whether it is executable.
            plain.mode = 0o755 if entry.mode & 0o100 else 0o644
            plain.mtime = int(changed)
            plain.uname = plain.gname = "root"
            tar.addfile(plain, tree.extractfile(entry) if entry.isfile() else None)
    file = out / f"{base}.tar.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed.getvalue())
    return file, hashlib.sha256(packed.getvalue()).hexdigest()
