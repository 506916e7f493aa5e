"""The feed's Makefile, the packages for opkg, the feed's index and the source tarball."""

import argparse
import gzip
import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools/package"))
sys.path.insert(0, str(ROOT / "tests/tools"))
sys.dont_write_bytecode = True

import apk  # noqa: E402
import dist  # noqa: E402
import feed  # noqa: E402
import ipk  # noqa: E402
import recipe  # noqa: E402
import targets  # noqa: E402
from test_apk import furnish, package, programs  # noqa: E402


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class Makefile(Folder):
    def test_its_version_is_cargos(self):
        recipe.check_version()
        feed_ = self.folder / "net/tailover"
        shutil.copytree(recipe.FEED, feed_)
        makefile = feed_ / "Makefile"
        makefile.write_text(makefile.read_text().replace("PKG_VERSION:=", "PKG_VERSION:=9"))
        self.addCleanup(setattr, recipe, "FEED", recipe.FEED)
        recipe.FEED = feed_
        with self.assertRaisesRegex(recipe.Wrong, "PKG_VERSION is 9"):
            recipe.check_version()

    def test_the_variants_are_built_with_and_without_tls(self):
        for variant, wanted in (("full", False), ("mini", True)):
            said = recipe.make("compile", f"OUT={self.folder}", f"BUILD_VARIANT={variant}")
            self.assertEqual("--no-default-features" in said, wanted, said)
            self.assertIn("--locked", said)

    def test_what_is_shipped_is_installed_and_nothing_else(self):
        files = recipe.FEED / "files"
        shipped = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
        for name in ("tailover", "tailover-mini"):
            installed = {file.path: file for file in package(name).files}
            programs = {f"usr/sbin/{program}" for program in recipe.PROGRAMS}
            self.assertEqual(set(installed), shipped | programs)
            for path in shipped:
                self.assertEqual(installed[path].data, (files / path).read_bytes())
            # The settings may hold what others should not read; ubusd wants its file of root alone.
            self.assertEqual(installed["etc/config/tailover"].mode, 0o600)
            self.assertEqual(installed["usr/share/acl.d/tailover.json"].mode, 0o644)
            for path in ("usr/sbin/tailover", "etc/init.d/tailover", "etc/hotplug.d/ntp/90-tailover"):
                self.assertEqual(installed[path].mode, 0o755)

    def test_the_variants_exclude_each_other(self):
        full, mini = package("tailover"), package("tailover-mini")
        self.assertEqual((full.conflicts, mini.provides), (["tailover-mini"], ["tailover"]))
        self.assertEqual((full.depends, mini.depends), (["ca-bundle"], []))
        self.assertTrue(full.preferred and not mini.preferred)

    def test_the_scripts_for_monitoring_are_installed_and_nothing_else(self):
        made = {each.name: each for each in recipe.scripts()}
        self.assertEqual(list(made), [name for _, _, names in recipe.SCRIPTS for name in names])
        del made[recipe.APP]
        files = recipe.ROOT / "openwrt/utils/tailover-monitoring/files"
        shipped = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
        installed = {file.path: file for each in made.values() for file in each.files}
        self.assertEqual(set(installed), shipped)
        for path, file in installed.items():
            self.assertEqual(file.data, (files / path).read_bytes())
            self.assertEqual(file.mode, 0o755 if "libexec" in path else 0o644, path)
        for each in made.values():
            self.assertTrue(each.anywhere)
            self.assertIn("tailover", each.depends)

    def test_an_unknown_command_in_it_is_found(self):
        broken = self.folder / "net/tailover"
        shutil.copytree(recipe.FEED, broken)
        makefile = broken / "Makefile"
        wrong = makefile.read_text().replace("$(INSTALL_CONF) ./files", "$(INSTALL_CONF) ./filse")
        makefile.write_text(wrong)
        self.addCleanup(setattr, recipe, "FEED", recipe.FEED)
        recipe.FEED = broken
        with self.assertRaisesRegex(recipe.Wrong, "filse"):
            package()


APP = recipe.ROOT / "openwrt/applications" / recipe.APP


class App(Folder):
    """The LuCI app: the same for every CPU."""

    def setUp(self):
        super().setUp()
        self.app = recipe.read_app()

    def test_what_is_in_its_folder_is_installed_and_nothing_else(self):
        parts = {"www": APP / "htdocs", "": APP / "root"}
        wanted = {
            str(Path(place) / path.relative_to(part)): path.read_bytes()
            for place, part in parts.items()
            for path in part.rglob("*")
            if path.is_file()
        }
        self.assertEqual({file.path: file.data for file in self.app.files}, wanted)
        self.assertEqual({file.mode for file in self.app.files}, {0o644})
        self.assertTrue(any(path.startswith("usr/share/rpcd/acl.d/") for path in wanted))

    def test_it_goes_with_either_variant_of_the_program_on_any_cpu(self):
        self.assertEqual(self.app.depends, ["luci-base", "tailover"])
        self.assertEqual(package("tailover-mini").provides, ["tailover"])
        name = f"luci-app-tailover_{recipe.version()}-r1_all.ipk"
        self.assertEqual({ipk.name(self.app, arch) for arch in ("mips_24kc", "x86_64")}, {name})
        self.assertEqual(ipk.make(self.app, "mips_24kc"), ipk.make(self.app, "x86_64"))
        self.assertEqual(apk.make(self.app, "mips_24kc"), apk.make(self.app, "x86_64"))

    def test_its_package_for_opkg(self):
        with tarfile.open(fileobj=io.BytesIO(ipk.make(self.app, "x86_64"))) as outer:
            inner = outer.extractfile("./control.tar.gz").read()
        with tarfile.open(fileobj=io.BytesIO(inner)) as control:
            text = control.extractfile("./control").read().decode()
            script = control.extractfile("./postinst-pkg").read().decode()
        fields = dict(re.findall(r"^(\S+): +(.*)$", text, re.MULTILINE))
        told = {key: fields[key] for key in ("Package", "Architecture", "Depends", "Section", "SourceName")}
        self.assertEqual(told, {"Package": "luci-app-tailover", "Architecture": "all", "Section": "luci",
                                "Depends": "luci-base, tailover", "SourceName": "luci-app-tailover"})
        self.assertIn("rpcd reload", script)

    def test_its_version_is_cargos(self):
        app = self.folder / "luci-app"
        app.mkdir()
        (app / "Makefile").write_text("PKG_VERSION:=9\n")
        self.addCleanup(setattr, recipe, "SCRIPTS", recipe.SCRIPTS)
        # An absolute path stands for itself.
        recipe.SCRIPTS = [(app, "luci", (recipe.APP,))]
        with self.assertRaisesRegex(recipe.Wrong, "PKG_VERSION is 9 in .*luci-app"):
            recipe.check_version()

    def test_it_is_packed_beside_the_program_and_stands_in_the_index(self):
        spec = importlib.util.spec_from_file_location("packer", ROOT / "tools/package/__main__.py")
        packer = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(packer)
        self.addCleanup(setattr, targets, "programs", targets.programs)
        targets.programs = lambda target, variant: programs(self.folder)
        said = argparse.Namespace(what="feed", target="x86_64-unknown-linux-musl", variant="mini",
                                  out=self.folder / "out")
        lines = list(packer._run(said))
        self.assertTrue(any("luci-app-tailover" in line for line in lines), lines)
        index = (self.folder / "out/x86_64/Packages").read_text()
        self.assertEqual(re.findall(r"^Package: (.*)$", index, re.MULTILINE),
                         sorted([*(name for _, _, names in recipe.SCRIPTS for name in names), "tailover-mini"]))


class Ipk(Folder):
    def test_twice_the_same_bytes(self):
        self.assertEqual(ipk.make(package(), "mips_24kc"), ipk.make(package(), "mips_24kc"))

    def test_its_form_is_opkgs(self):
        made = package()
        with tarfile.open(fileobj=io.BytesIO(ipk.make(made, "mips_24kc"))) as outer:
            names = [entry.name for entry in outer]
            self.assertEqual(names, ["./debian-binary", "./data.tar.gz", "./control.tar.gz"])
            self.assertEqual(outer.extractfile("./debian-binary").read(), b"2.0\n")
            inner = {name: outer.extractfile(name).read() for name in names[1:]}
        for data in inner.values():
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for entry in tar:
                    self.assertTrue(entry.name == "." or entry.name.startswith("./"), entry.name)
                    self.assertEqual((entry.uid, entry.gid, entry.mtime), (0, 0, made.epoch))
            # No name and no time of the packing (RFC 1952).
            self.assertEqual((data[3], data[4:8]), (0, bytes(4)))

    @unittest.skipUnless(shutil.which("busybox"), "needs busybox")
    def test_installed_by_an_independent_unpacker(self):
        made = package()
        file = self.folder / "made.ipk"
        file.write_bytes(ipk.make(made, "mips_24kc"))
        script = (
            "mkdir control root\n"
            "busybox tar xzf made.ipk\n"
            "busybox tar xzf control.tar.gz -C control\n"
            "busybox tar xzf data.tar.gz -C root\n"
        )
        subprocess.run(["busybox", "ash", "-ec", script], cwd=self.folder, check=True)
        for wanted in made.files:
            path = self.folder / "root" / wanted.path
            self.assertEqual(path.read_bytes(), wanted.data)
            self.assertEqual(path.stat().st_mode & 0o777, wanted.mode, wanted.path)
        control = self.folder / "control"
        fields = dict(re.findall(r"^(\S+): +(.*)$", (control / "control").read_text(), re.MULTILINE))
        told = {key: fields[key] for key in ("Package", "Version", "Architecture", "Depends", "Conflicts")}
        wanted = {"Package": "tailover", "Version": f"{recipe.version()}-r1", "Architecture": "mips_24kc"}
        self.assertEqual(told, wanted | {"Depends": "ca-bundle", "Conflicts": "tailover-mini"})
        self.assertEqual((control / "conffiles").read_text(), "/etc/config/tailover\n")
        size = len(gzip.decompress((self.folder / "data.tar.gz").read_bytes()))
        self.assertEqual(int(fields["Installed-Size"]), size)
        for script in ("postinst", "prerm", "postinst-pkg", "prerm-pkg"):
            self.assertTrue(os.access(control / script, os.X_OK), script)


    def test_a_package_of_scripts_is_for_all(self):
        for made in recipe.scripts():
            self.assertEqual(ipk.name(made, "mips_24kc"), f"{made.name}_{recipe.version()}-r1_all.ipk")
            data = ipk.make(made, "mips_24kc")
            self.assertEqual(data, ipk.make(made, "x86_64"))
            with tarfile.open(fileobj=io.BytesIO(data)) as outer:
                control = gzip.decompress(outer.extractfile("./control.tar.gz").read())
            self.assertIn(b"\nArchitecture: all\n", control)
            self.assertIn(f"\nSource: {made.origin}\n".encode(), control)


OPKG = shutil.which("opkg")


@unittest.skipUnless(OPKG and os.geteuid() == 0 and shutil.which("busybox"),
                     "needs `opkg` (OpenWrt's) on PATH, root and busybox")
class RealOpkg(Folder):
    """With the program itself, in a root of its own."""

    def setUp(self):
        super().setUp()
        self.root = self.folder / "root"
        furnish(self.root, OPKG)
        for folder in ("etc/opkg", "var/lock", "usr/lib/opkg"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "etc/opkg.conf").write_text("dest root /\nlists_dir ext /tmp\narch mips_24kc 10\n")

    def opkg(self, *words):
        """Runs opkg in the root; returns what it prints and what the scripts called."""
        calls = self.root / "calls"
        calls.write_text("")
        command = ["chroot", self.root, f"/bin/{Path(OPKG).name}", *words]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout, calls.read_text()

    def put(self, made):
        """Writes a package into the root's /tmp; returns its path there."""
        file = f"/tmp/{ipk.name(made, 'mips_24kc')}"
        (self.root / file[1:]).write_bytes(ipk.make(made, "mips_24kc"))
        return file

    def test_installed_upgraded_and_removed(self):
        made = package()
        bundle = recipe.Package(**{**vars(made), "name": "ca-bundle", "depends": [], "conflicts": [],
                                   "conffiles": [], "scripts": {}, "files": []})
        self.opkg("install", self.put(bundle))
        said, calls = self.opkg("install", self.put(made))
        self.assertIn("Installing tailover", said)
        self.assertEqual(calls, "postinst tailover 0\nkillall -s HUP ubusd\n")
        for file in made.files:
            self.assertEqual((self.root / file.path).read_bytes(), file.data)
        config = self.root / "etc/config/tailover"
        config.write_text("config tailover 'main'\n\toption hold '60'\n")
        # The old package's prerm stops the service and must not clean up: the next one takes over.
        _, calls = self.opkg("install", self.put(package(version="0.9.9-r1")))
        self.assertEqual(calls, "prerm tailover 1\npostinst tailover 1\nkillall -s HUP ubusd\n")
        self.assertIn("hold '60'", config.read_text())
        self.assertIn("0.9.9-r1", self.opkg("list-installed")[0])
        _, calls = self.opkg("remove", "tailover")
        self.assertEqual(calls, "tailover cleanup\nprerm tailover 0\n")
        found = {path for path in self.root.rglob("*tailover*") if path.is_file()}
        found = {path for path in found if path.parent != self.root / "tmp"}
        # A changed setting stays, and so does what the upgrade has put beside it.
        self.assertEqual(found, {config, config.with_name("tailover-opkg")})

    def refuses(self, file):
        """Has opkg install what it must not; returns why it does not."""
        command = ["chroot", self.root, f"/bin/{Path(OPKG).name}", "install", file]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_another_routers_package_is_refused(self):
        file = "/tmp/other.ipk"
        (self.root / file[1:]).write_bytes(ipk.make(package(), "x86_64"))
        self.refuses(file)
        self.assertFalse((self.root / "usr/sbin/tailover").exists())

    def test_only_one_variant_can_be_there(self):
        full, mini = package("tailover"), package("tailover-mini")
        full = recipe.Package(**{**vars(full), "depends": []})
        self.opkg("install", self.put(mini))
        self.assertIn("conflict", self.refuses(self.put(full)))
        self.opkg("remove", "tailover-mini")
        self.opkg("install", self.put(full))
        self.assertIn("already provided by", self.refuses(self.put(mini)))


class Feed(Folder):
    def test_the_index_tells_name_size_and_digest(self):
        for name in ("tailover", "tailover-mini"):
            made = package(name)
            (self.folder / ipk.name(made, "x86_64")).write_bytes(ipk.make(made, "x86_64"))
        feed.make(self.folder)
        index = (self.folder / "Packages").read_text()
        self.assertEqual(gzip.decompress((self.folder / "Packages.gz").read_bytes()).decode(), index)
        entries = index.strip().split("\n\n")
        self.assertEqual([entry.split("\n")[0] for entry in entries],
                         ["Package: tailover-mini", "Package: tailover"])
        for entry in entries:
            fields = dict(re.findall(r"^(\S+): +(.*)$", entry, re.MULTILINE))
            data = (self.folder / fields["Filename"]).read_bytes()
            self.assertEqual(int(fields["Size"]), len(data))
            self.assertEqual(fields["SHA256sum"], hashlib.sha256(data).hexdigest())
        sums = subprocess.run(["sha256sum", "-c", "sha256sums"], cwd=self.folder, capture_output=True)
        self.assertEqual(sums.returncode, 0, sums.stdout)
        self.assertEqual(len(sums.stdout.splitlines()), 4)


class Targets(unittest.TestCase):
    def test_every_target_has_architectures_and_none_has_two(self):
        table = targets.table()
        arches = [arch for served in table.values() for arch in served]
        self.assertEqual(len(arches), len(set(arches)))
        self.assertTrue(all(table.values()))
        self.assertEqual(targets.arches("mips-unknown-linux-musl"), ["mips_24kc"])
        with self.assertRaises(recipe.Wrong):
            targets.arches("vax-unknown-netbsd")


class Dist(Folder):
    def test_the_tarball_is_the_tree_without_the_feeds_makefile(self):
        file, digest = dist.make(self.folder)
        again, same = dist.make(self.folder / "again")
        self.assertEqual((digest, file.read_bytes()), (same, again.read_bytes()))
        self.assertEqual(hashlib.sha256(file.read_bytes()).hexdigest(), digest)
        base = f"tailover-{recipe.version()}/"
        with tarfile.open(file) as tar:
            names = {entry.name.removeprefix(base) for entry in tar if entry.isfile()}
            lock = tar.extractfile(f"{base}Cargo.lock").read()
        tracked = set(recipe.git("ls-tree", "-r", "--name-only", "HEAD").splitlines())
        self.assertEqual(names, tracked - {"openwrt/net/tailover/Makefile"})
        self.assertEqual(lock.decode().strip(), recipe.git("show", "HEAD:Cargo.lock"))


if __name__ == "__main__":
    unittest.main()
