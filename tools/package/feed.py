"""The index of a folder of packages: Packages, Packages.gz, sha256sums, and packages.adb where apk is.

Packages is what opkg reads (OpenWrt's scripts/ipkg-make-index.sh): each package's control file with the
name, size and digest of its file.
"""

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile


def make(folder):
    """Writes the index of the packages in the folder; returns lines for the user."""
    index = "".join(f"{_entry(file)}\n" for file in sorted(folder.glob("*.ipk")))
    (folder / "Packages").write_text(index)
    with open(folder / "Packages.gz", "wb") as out:
        with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0) as packed:
            packed.write(index.encode())
    lines = [f"feed: {folder / 'Packages'}, {index.count('Package: ')} packages"]
    apks = sorted(folder.glob("*.apk"))
    if apks and shutil.which("apk"):
        # Only apk-tools knows how to write it; unsigned, as the packages are.
        command = ["apk", "mkndx", "--allow-untrusted", "--output", folder / "packages.adb", *apks]
        subprocess.run(command, check=True, capture_output=True)
        lines.append(f"feed: {folder / 'packages.adb'}")
    elif apks:
        lines.append("feed: no packages.adb, as there is no `apk` (apk-tools 3) on PATH")
    named = [file for file in sorted(folder.iterdir()) if file.name != "sha256sums"]
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in named)
    (folder / "sha256sums").write_text(sums)
    return lines


def _entry(file):
    data = file.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as outer:
        inner = outer.extractfile("./control.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as control:
        text = control.extractfile("./control").read().decode()
    added = {
        "Filename": file.name,
        "Size": len(data),
        "SHA256sum": hashlib.sha256(data).hexdigest(),
    }
    lines = "".join(f"{key}: {value}\n" for key, value in added.items())
    return text.replace("Description:", lines + "Description:", 1)
