"""Packages as opkg wants them (OpenWrt up to 24.10).

A tar.gz of ./debian-binary, ./data.tar.gz and ./control.tar.gz; names relative, all of root
(OpenWrt's scripts/ipkg-build; what the control file says is include/package-pack.mk's).
"""

import gzip
import io
import tarfile

# `default_postinst` and `default_prerm` of OpenWrt's /lib/functions.sh enable, start and stop the
# service, run what is in uci-defaults and then the package's own script, NAME-pkg.
_USUAL = """\
#!/bin/sh
{skip}[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
default_{name} $0 $@
"""
_SKIP = '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n'


def name(package, arch):
    """The file's name."""
    return f"{package.name}_{package.version}_{_arch(package, arch)}.ipk"


def make(package, arch):
    """The package's bytes."""
    times = package.epoch
    data = _tar(((file.path, file.mode, file.data) for file in package.files), times, package.folders)
    control = {"control": (0o644, _control(package, arch, len(data)).encode())}
    control["postinst"] = (0o755, _USUAL.format(skip=_SKIP, name="postinst").encode())
    control["prerm"] = (0o755, _USUAL.format(skip="", name="prerm").encode())
    if package.conffiles:
        lines = "".join(f"{path}\n" for path in sorted(package.conffiles))
        control["conffiles"] = (0o644, lines.encode())
    for script, text in package.scripts.items():
        file = f"{script}-pkg" if script in ("postinst", "prerm") else script
        control[file] = (0o755, text.encode())
    parts = [
        ("debian-binary", 0o644, b"2.0\n"),
        ("data.tar.gz", 0o644, _gzip(data)),
        (
            "control.tar.gz",
            0o644,
            _gzip(_tar(((key, *control[key]) for key in sorted(control)), times, [""])),
        ),
    ]
    return _gzip(_tar(parts, times, []))


def _arch(package, arch):
    return "all" if package.for_all else arch


def _control(package, arch, size):
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Depends": ", ".join(package.depends),
        "Conflicts": ", ".join(package.conflicts),
        "Provides": ", ".join(package.provides),
        "Source": f"feeds/packages/{package.folder}",
        "SourceName": package.folder.split("/")[1],
        "License": package.license,
        "LicenseFiles": "LICENSE",
        "Section": package.section,
        "Require-User": package.users,
        "SourceDateEpoch": str(package.epoch),
        "URL": package.url,
        "Maintainer": package.maintainer,
        "Architecture": _arch(package, arch),
        "Installed-Size": str(size),
    }
    lines = [f"{key}: {value}" for key, value in fields.items() if value]
    lines.append("Description:  " + package.description.replace("\n", "\n "))
    return "\n".join(lines) + "\n"


def _tar(files, times, folders):
    """A tar of (path, mode, data), the folders (from "") among them in the order of names."""
    entries = {path: (mode, data) for path, mode, data in files}
    order = list(entries)
    if folders:
        entries |= {folder: (0o755, None) for folder in folders}
        order = sorted(entries)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in order:
            mode, data = entries[path]
            info = tarfile.TarInfo(f"./{path}")
            info.mode, info.mtime = mode, times
            info.uname = info.gname = "root"
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _gzip(data):
    """Without a name and a time, as `gzip -n`."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", filename="", mtime=0, compresslevel=9) as file:
        file.write(data)
    return out.getvalue()
