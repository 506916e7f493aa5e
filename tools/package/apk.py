"""Packages as apk-tools 3 wants them (OpenWrt from 25.12), unsigned.

What is in them beside the files is as OpenWrt's include/package-pack.mk puts it: lists in
/lib/apk/packages, which `default_postinst` and `default_prerm` read, and the scripts that call these.
"""

import hashlib

import adb

_LISTS = "lib/apk/packages"
_HEAD = """\
[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{package}"
"""


def name(package, arch):
    """The file's name. apk finds a package of an index by it; the architecture is the folder's."""
    del arch
    return f"{package.name}-{package.version}.apk"


def make(package, arch):
    """The package's bytes."""
    files = {file.path: (file.mode, file.data) for file in package.files}
    files |= _lists(package)
    tree = {}
    for path in sorted(files):
        folder, _, base = path.rpartition("/")
        mode, data = files[path]
        tree.setdefault(folder, []).append((base, mode, package.epoch, data))
        while folder:
            folder = folder.rpartition("/")[0]
            tree.setdefault(folder, [])
    provides = [(other, package.version) for other in package.provides]
    info = {
        "name": package.name,
        "version": package.version,
        "description": " ".join(package.description.split()),
        # apk's word for it (include/package-pack.mk).
        "arch": "noarch" if package.anywhere else arch,
        "license": package.license,
        "origin": package.origin,
        "maintainer": package.maintainer,
        "url": package.url,
        "installed-size": sum(len(data) for _, data in files.values()),
        "depends": [(other, None) for other in package.depends],
        "provides": provides,
    }
    if package.preferred:
        info["provider-priority"] = 100
    return adb.package(info, sorted(tree.items()), _scripts(package))


def _lists(package):
    """/lib/apk/packages/NAME.*: what is installed, what is configuration, whom it needs."""
    base = f"{_LISTS}/{package.name}"
    texts = {"list": "".join(f"/{file.path}\n" for file in package.files)}
    if package.conffiles:
        digest = {f"/{file.path}": hashlib.sha256(file.data).hexdigest() for file in package.files}
        texts["conffiles"] = "".join(f"{path}\n" for path in package.conffiles)
        static = [path for path in package.conffiles if path in digest]
        texts["conffiles_static"] = "".join(f"{path} {digest[path]}\n" for path in static)
    if package.users:
        texts["rusers"] = f"{package.users}\n"
    return {f"{base}.{end}": (0o644, text.encode()) for end, text in texts.items()}


def _scripts(package):
    head = _HEAD.format(package=package.name)
    own = {name: _body(text) for name, text in package.scripts.items()}
    skip = '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n'
    install = skip + head + "add_group_and_user\ndefault_postinst\n" + own.get("postinst", "")
    scripts = {
        "post-install": install,
        # apk runs nothing of the old package in an upgrade, and does not stop its service.
        "post-upgrade": "export PKG_UPGRADE=1\n" + install,
        "pre-deinstall": head + "default_prerm\n" + own.get("prerm", ""),
    }
    if "preinst" in own:
        scripts["pre-install"] = own["preinst"]
        scripts["pre-upgrade"] = "export PKG_UPGRADE=1\n" + own["preinst"]
    if "postrm" in own:
        scripts["post-deinstall"] = own["postrm"]
    return {name: "#!/bin/sh\n" + text for name, text in scripts.items()}


def _body(script):
    return "".join(line for line in script.splitlines(True) if not line.startswith("#!"))
