"""The packages for apk-tools 3: by a reader of the tests' own, by a dump that the real `apk` has made, and
by `apk` itself where it is on PATH."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools/package"))
sys.path.insert(0, str(ROOT / "tests/tools"))
sys.dont_write_bytecode = True

import adb  # noqa: E402
import adb_reader  # noqa: E402
import apk  # noqa: E402
import feed  # noqa: E402
import recipe  # noqa: E402

# What `apk adbdump` of apk-tools 3.0.6 has printed of fixture().
RECORDED = ROOT / "tests/fixtures/package/fixture.adbdump"
APK = shutil.which("apk")
_EPOCH = 1_800_000_000


def programs(folder):
    """Stand-ins for the static binaries: scripts that note how they were called."""
    for name in recipe.PROGRAMS:
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>/calls\n')
        program.chmod(0o755)
    return folder


def package(name="tailover", version=None):
    """The feed's package with stand-ins for its programs."""
    with tempfile.TemporaryDirectory() as folder:
        read = recipe.read(programs(Path(folder)), name)
    changed = {"epoch": _EPOCH} | ({"version": version} if version else {})
    return recipe.Package(**{**vars(read), **changed})


def furnish(root, *programs):
    """A router's root for the packages' scripts: busybox, further programs, and OpenWrt's functions as far
    as these scripts call them. What is called is in /calls."""
    for name in ("bin", "dev", "etc", "lib", "tmp", "var/run/tailover"):
        (root / name).mkdir(parents=True)
    (root / "dev/null").touch()
    for program in (shutil.which("busybox"), *programs):
        shutil.copy(program, root / "bin")
        # Debian's is not static.
        needed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", needed):
            (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library[1:])
    for name in ("gzip", "rm", "sh", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "lib/functions.sh").write_text(
        "usual() { echo \"$1 ${pkgname:-$(basename ${2%.*})} ${PKG_UPGRADE:-0}\" >>/calls; }\n"
        "basename() { /bin/busybox basename $1; }\n"
        'own() { local file="/usr/lib/opkg/info/tailover.$1-pkg"; [ ! -f "$file" ] || ( . "$file" ); }\n'
        'add_group_and_user() { echo "users $pkgname" >>/calls; }\n'
        'default_postinst() { usual postinst "$1"; own postinst; }\n'
        'default_prerm() { own prerm; usual prerm "$1"; }\n'
        'killall() { echo "killall $*" >>/calls; }\n'
        "pidof() { return 1; }\n"
    )


def fixture():
    """A package with every kind of value that the writer makes: short and long texts, numbers of 28
    and of 32 bits, an empty file, a folder without files, dependencies with and without a version."""
    folders = [
        ("", []),
        ("etc", []),
        ("etc/one", [("empty", 0o600, _EPOCH, b""), ("file", 0o4755, 5, b"data\n" * 60)]),
        ("usr", [("zeros", 0o644, (1 << 28) - 1, bytes(70_000))]),
    ]
    info = {
        "name": "fixture",
        "version": "1.2.3-r4",
        "description": "A package for a test.",
        "arch": "x86_64",
        "license": "MIT",
        "installed-size": 1 << 28,
        "provider-priority": 100,
        "depends": [("zlib", None), ("busybox", None)],
        "provides": [("other", "1.2.3-r4")],
    }
    long = "#!/bin/sh\n" + "echo a line of a long script\n" * 12
    return adb.package(info, folders, {"post-install": long, "pre-deinstall": "#!/bin/sh\nexit 0\n"})


class Format(unittest.TestCase):
    maxDiff = None

    def test_the_fixture_is_what_apk_has_read_in_it(self):
        self.assertEqual(adb_reader.dump(adb_reader.read(fixture())), RECORDED.read_text())

    def test_a_changed_byte_is_found(self):
        whole = bytearray(zlib.decompress(fixture()[4:], -15))
        for place in (30, len(whole) // 2, len(whole) - 4):
            changed = bytearray(whole)
            changed[place] ^= 1
            packed = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = b"ADBd" + packed.compress(bytes(changed)) + packed.flush()
            with self.assertRaises(Exception, msg=f"byte {place}"):
                adb_reader.read(data)


class Content(unittest.TestCase):
    def setUp(self):
        self.package = package()
        self.read = adb_reader.read(apk.make(self.package, "mips_24kc"))
        self.files = {
            f"{folder.get('name', '')}/{file['name']}": file
            for folder in self.read["paths"]
            for file in folder.get("files", [])
        }

    def test_a_package_of_scripts_has_no_architecture(self):
        for made in recipe.scripts():
            info = adb_reader.read(apk.make(made, "mips_24kc"))["info"]
            self.assertEqual((info["name"], info["arch"]), (made.name, "noarch"))

    def test_twice_the_same_bytes(self):
        self.assertEqual(apk.make(package(), "mips_24kc"), apk.make(self.package, "mips_24kc"))

    def test_the_luci_app_is_for_any_cpu(self):
        info = adb_reader.read(apk.make(recipe.read_app(), "mips_24kc"))["info"]
        told = {key: info[key] for key in ("name", "arch", "origin")}
        self.assertEqual(told, {"name": "luci-app-tailover", "arch": "noarch",
                                "origin": "feeds/luci/applications/luci-app-tailover"})

    def test_it_says_what_the_feed_says(self):
        info = self.read["info"]
        self.assertEqual(info["version"], f"{recipe.version()}-r1")
        self.assertEqual((info["arch"], info["depends"]), ("mips_24kc", ["ca-bundle"]))
        mini = adb_reader.read(apk.make(package("tailover-mini"), "mips_24kc"))["info"]
        self.assertEqual(mini["provides"], [f"tailover={recipe.version()}-r1"])
        self.assertNotIn("depends", mini)

    def test_all_files_are_there_and_listed(self):
        listed = self.files["lib/apk/packages/tailover.list"]["data"].decode().split()
        self.assertEqual(listed, [f"/{file.path}" for file in self.package.files])
        for file in self.package.files:
            self.assertEqual(self.files[file.path]["data"], file.data, file.path)
            self.assertEqual(self.files[file.path]["acl"]["mode"], file.mode, file.path)
        conffiles = self.files["lib/apk/packages/tailover.conffiles"]["data"]
        self.assertEqual(conffiles, b"/etc/config/tailover\n")

    def test_an_upgrade_is_told_from_an_installation(self):
        scripts = self.read["scripts"]
        self.assertNotIn("PKG_UPGRADE=1", scripts["post-install"])
        self.assertIn("export PKG_UPGRADE=1\n", scripts["post-upgrade"])
        self.assertIn("tailover cleanup", scripts["pre-deinstall"])


@unittest.skipUnless(APK, "there is no `apk` (apk-tools 3) on PATH")
class RealApk(unittest.TestCase):
    """With the program itself."""

    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def apk(self, *words):
        """Runs apk; returns what it prints."""
        done = subprocess.run([APK, *map(str, words)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def put(self, package, arch="x86_64"):
        """Writes a package; returns its path."""
        file = self.folder / apk.name(package, arch)
        file.write_bytes(apk.make(package, arch))
        return file

    def test_the_recorded_dump_is_still_its_word(self):
        file = self.folder / "fixture.apk"
        file.write_bytes(fixture())
        self.assertEqual(self.apk("adbdump", file), RECORDED.read_text())
        self.assertIn("OK", self.apk("verify", "--allow-untrusted", file))

    def test_its_own_writer_makes_the_same_of_the_same(self):
        made = package()
        root = self.folder / "files"
        lists = {f"{path}": entry for path, entry in apk._lists(made).items()}
        for path, (mode, data) in ({f.path: (f.mode, f.data) for f in made.files} | lists).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(mode)
            os.utime(target, (_EPOCH, _EPOCH))
        for path in [root, *root.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        words = ["mkpkg", "-F", root, "-o", self.folder / "own.apk"]
        info = {"name": made.name, "version": made.version, "arch": "x86_64", "license": made.license}
        info |= {"description": " ".join(made.description.split())}
        info |= {"origin": "feeds/packages/net/tailover", "depends": " ".join(made.depends)}
        info |= {"provider-priority": "100"}
        for key, value in info.items():
            words += ["-I", f"{key}:{value}"]
        for name, text in apk._scripts(made).items():
            (self.folder / name).write_text(text)
            words += ["-s", f"{name}:{self.folder / name}"]
        self.apk(*words)
        own, ours = self.folder / "own.apk", self.put(made)
        # The identity is a digest of the bytes, and apk puts the same values at other places.
        dumps = [re.sub("  hashes: .*\n", "", self.apk("adbdump", file)) for file in (ours, own)]
        self.assertEqual(*dumps)

    def test_unsigned_it_is_taken_only_when_asked_so_and_from_the_index_too(self):
        channel = self.folder / "feed"
        channel.mkdir()
        bundle = channel / "ca-bundle-1-r1.apk"
        self.apk("mkpkg", "-I", "name:ca-bundle", "-I", "version:1-r1", "-I", "arch:x86_64", "-o", bundle)
        file = self.put(package()).rename(channel / apk.name(package(), "x86_64"))
        words = ["add", "--initdb", "--arch", "x86_64", "--no-scripts", "--no-network"]
        refused = [APK, *words, "--root", self.folder / "a", bundle, file]
        done = subprocess.run(list(map(str, refused)), capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("UNTRUSTED", done.stdout + done.stderr)
        feed.make(channel)
        index = ["--repository", channel / "packages.adb", "tailover"]
        root = self.folder / "b"
        root.mkdir()
        self.apk(*words, "--root", root, "--allow-untrusted", *index)
        self.assertTrue((root / "usr/sbin/tailover").is_file())

    def test_only_one_variant_can_be_there(self):
        full = self.put(recipe.Package(**{**vars(package()), "depends": []}))
        mini = self.put(package("tailover-mini"))
        root = self.folder / "root"
        root.mkdir()
        words = ["--root", root, "--arch", "x86_64", "--no-scripts", "--no-network", "--allow-untrusted"]
        self.apk("add", *words, "--initdb", full)
        second = subprocess.run(list(map(str, [APK, "add", *words, mini])), capture_output=True, text=True)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn("conflicts: tailover", second.stdout + second.stderr)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("busybox"), "needs root and busybox")
    def test_installed_upgraded_and_removed(self):
        root = self.folder / "root"
        furnish(root)
        calls = root / "calls"
        bundle = self.folder / "bundle.apk"
        self.apk("mkpkg", "-I", "name:ca-bundle", "-I", "version:1-r1", "-I", "arch:x86_64", "-o", bundle)
        first, second = self.put(package()), self.put(package(version="0.9.9-r1"))
        common = ["--root", root, "--arch", "x86_64", "--allow-untrusted", "--no-network"]
        self.apk("add", *common, "--initdb", bundle, first)
        self.assertEqual(calls.read_text(), "users tailover\npostinst tailover 0\nkillall -s HUP ubusd\n")
        self.assertEqual((root / "usr/sbin/tailover").stat().st_mode & 0o777, 0o755)
        config = root / "etc/config/tailover"
        config.write_text("config tailover 'main'\n\toption hold '60'\n")
        calls.unlink()
        self.apk("add", *common, second)
        self.assertEqual(calls.read_text(), "users tailover\npostinst tailover 1\nkillall -s HUP ubusd\n")
        self.assertIn("hold '60'", config.read_text())
        self.assertIn("0.9.9-r1", self.apk("list", "--root", root, "--installed", "tailover"))
        calls.unlink()
        self.apk("del", "--root", root, "--no-network", "tailover")
        self.assertEqual(calls.read_text(), "prerm tailover 0\ntailover cleanup\n")
        # What its owner has changed below /etc stays.
        self.assertEqual([path for path in root.rglob("*tailover*") if path.is_file()], [config])


if __name__ == "__main__":
    unittest.main()
