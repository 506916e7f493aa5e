"""What tools/ decides: sizes against the budget, licences, versions, the lists of CPUs."""

import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

import cross  # noqa: E402
import licences  # noqa: E402
import release  # noqa: E402
import size  # noqa: E402
import trim  # noqa: E402

BUDGET = {"growth": 3, "default": {"both": {"goal": 1500, "limit": 2000},
                                   "package": {"goal": 400, "limit": 1000}}}


def entry(**changes):
    return {"both": 1000, "gzip": 500, "package": None, "std": "from source, rustc 1.96.0",
            "words": ""} | changes


def problems(now, recorded):
    return size.problems("mips", "default", now, recorded, BUDGET)


class Place(unittest.TestCase):
    """A test with files of its own in place of the tree's."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def put(self, module, name, value):
        """Sets a module's value for the test."""
        self.addCleanup(setattr, module, name, getattr(module, name))
        setattr(module, name, value)

    def changelog(self, text):
        path = self.folder / "CHANGELOG.md"
        path.write_text(text)
        for module in (cross, release):
            self.put(module, "CHANGELOG", path)
        return path


class Size(Place):
    def test_within_the_budget(self):
        self.assertEqual(problems(entry(both=2000, gzip=1000), None), [])

    def test_a_byte_more_is_over_it(self):
        self.assertIn("2,000 allowed", problems(entry(both=2001), None)[0])
        self.assertIn("1,000 allowed", problems(entry(gzip=1001), None)[0])

    def test_a_package_counts_more_than_its_estimate(self):
        self.assertEqual(problems(entry(gzip=1001, package=999), None), [])
        self.assertEqual(len(problems(entry(gzip=500, package=1001), None)), 1)

    def test_a_missed_goal_is_named(self):
        self.assertEqual(cross.over_goal("default", entry(both=1500, gzip=400), BUDGET), [])
        self.assertEqual(cross.over_goal("default", entry(both=1800, gzip=500), BUDGET),
                         ["both by 20 %", "package by 25 %"])

    def test_growth_needs_a_new_word_in_the_changelog(self):
        recorded = entry(words="before")
        self.assertEqual(problems(entry(both=1030, words=""), recorded), [])
        for silent in ("", "before"):
            found = problems(entry(both=1031, words=silent), recorded)
            self.assertIn("3.1 % more", found[0])
        self.assertEqual(problems(entry(both=1031, words="new"), recorded), [])

    def test_another_kind_of_standard_library_is_not_compared(self):
        recorded = entry()
        prebuilt = entry(both=1500, std="prebuilt, rustc 1.96.0")
        self.assertEqual(problems(prebuilt, recorded), [])
        self.assertEqual(len(problems(entry(both=1500, std="from source, rustc 1.97.0"), recorded)), 1)

    def test_only_a_line_about_the_size_under_unreleased_is_a_word(self):
        self.changelog("# C\n\n## [Unreleased]\n\n- Colour.\n\n## [1.0.0]\n\n- The size grew.\n")
        self.assertEqual(cross.changelog_words(), "")
        self.changelog("## [Unreleased]\n\n- The size grew by a tenth.\n\n## [1.0.0]\n")
        first = cross.changelog_words()
        self.assertNotEqual(first, "")
        self.changelog("## [Unreleased]\n\n- The size grew by a tenth.\n- Its size again.\n")
        self.assertNotIn(cross.changelog_words(), ("", first))

    def test_whose_a_symbol_is(self):
        for symbol, owner in {
            "tailover::core::machine::step": "tailover",
            "<tailover::config::Settings as core::fmt::Debug>::fmt": "tailover",
            "core::ptr::drop_in_place<rustls::conn::Connection>": "rustls",
            "<&mut serde_json::Value as core::fmt::Display>::fmt": "serde_json",
            "alloc::vec::Vec<T,A>::push": "alloc",
            "ring_core_0_17_14__LIMBS_add_mod": "ring",
            "memcpy": "C: musl and the compiler's own",
        }.items():
            self.assertEqual(size.crate(symbol), owner, symbol)


class Trim(Place):
    @staticmethod
    def elf(order, bits):
        """A file of one class and byte order: header, one program header, 8 bytes it names, 9 it does not."""
        word, header, entry = ("I", 52, 32) if bits == 32 else ("Q", 64, 56)
        ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1 if order == "<" else 2, 1]) + bytes(9)
        places = struct.pack(f"{order}HHI{word}{word}{word}", 2, 8, 1, 0, header, header + entry + 8)
        counts = struct.pack(f"{order}IHHHHHH", 0, header, entry, 1, 40, 7, 6)
        segment = bytearray(entry)
        struct.pack_into(order + word, segment, 4 if bits == 32 else 8, header + entry)
        struct.pack_into(order + word, segment, 16 if bits == 32 else 32, 8)
        return ident + places + counts + bytes(segment) + b"segment." + b"sections."

    def test_what_no_segment_names_goes_away_in_every_class_and_order(self):
        for order in "<>":
            for bits in (32, 64):
                with self.subTest(order=order, bits=bits):
                    out = trim.trimmed(self.elf(order, bits))
                    self.assertTrue(out.endswith(b"segment."))
                    self.assertEqual(trim.trimmed(out), out)
                    self.assertEqual(struct.unpack_from(f"{order}HH", out, len(out) - 8 - (
                        36 if bits == 32 else 60)), (0, 0))

    def test_a_program_of_this_machine_still_runs(self):
        path = self.folder / "busybox"
        before = Path("/bin/busybox").read_bytes()
        path.write_bytes(before)
        path.chmod(0o755)
        trim.main([path])
        self.assertLess(path.stat().st_size, len(before))
        said = subprocess.run([path, "echo", "still here"], capture_output=True, text=True)
        self.assertEqual(said.stdout, "still here\n")

    def test_what_is_no_whole_program_stays_as_it_is(self):
        whole = self.elf("<", 32)
        for data in (b"", b"#!/bin/sh\n", whole[:60], whole[:-12], whole[:44] + bytes(2) + whole[46:]):
            with self.subTest(length=len(data)), self.assertRaises(ValueError):
                trim.trimmed(data)


class Licences(unittest.TestCase):
    def test_expressions(self):
        allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
        for expression, good in {
            "MIT": True,
            "GPL-3.0": False,
            "MIT OR GPL-3.0": True,
            "GPL-3.0 OR MIT": True,
            "MIT/Apache-2.0": True,
            "MIT AND ISC": False,
            "(MIT OR ISC) AND Apache-2.0": True,
            "(GPL-3.0 OR ISC) AND MIT": False,
            "Apache-2.0 WITH LLVM-exception OR ISC": True,
            "ISC WITH LLVM-exception": False,
            "": False,
            "MIT MIT": False,
            "(MIT": False,
        }.items():
            self.assertEqual(licences.allowed(expression, allow), good, expression)


class Release(Place):
    def setUp(self):
        super().setUp()
        (self.folder / "Cargo.toml").write_text(
            '[package]\nname = "tailover"\nversion = "0.1.0"\n\n'
            '[dependencies]\nlog = { version = "0.1.0" }\n')
        (self.folder / "Cargo.lock").write_text(
            '[[package]]\nname = "log"\nversion = "0.1.0"\n\n'
            '[[package]]\nname = "tailover"\nversion = "0.1.0"\n')
        self.makefile = self.folder / "openwrt/net/tailover/Makefile"
        self.makefile.parent.mkdir(parents=True)
        self.makefile.write_text("PKG_NAME:=tailover\nPKG_VERSION:=0.1.0\nPKG_RELEASE:=1\n")
        scripts = self.folder / "openwrt/utils/tailover-monitoring/Makefile"
        scripts.parent.mkdir(parents=True)
        scripts.write_text("PKG_VERSION:=0.1.0\n")
        self.put(release, "ROOT", self.folder)

    def test_every_place_and_the_changelog_are_set_and_nothing_else(self):
        log = self.changelog("# Changelog\n\n## [Unreleased]\n\n### Added\n\n- All.\n")
        release.set_version("0.2.0")
        self.assertEqual(release.current(), "0.2.0")
        self.assertIn('log = { version = "0.1.0" }', (self.folder / "Cargo.toml").read_text())
        self.assertIn('name = "log"\nversion = "0.1.0"', (self.folder / "Cargo.lock").read_text())
        self.assertIn("PKG_VERSION:=0.2.0\nPKG_RELEASE:=1", self.makefile.read_text())
        self.assertRegex(log.read_text(), r"## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added")
        self.assertEqual(release.notes("0.2.0"), "### Added\n\n- All.")
        self.assertEqual(release.notes("Unreleased"), "")

    def test_what_is_refused_changes_nothing(self):
        cases = [("0.2", "- All."), ("0.0.9", "- All."), ("0.2.0", ""),
                 ("0.3.0", "- All.\n\n## [0.3.0] - 2026-01-01")]
        for version, text in cases:
            self.changelog(f"# Changelog\n\n## [Unreleased]\n\n{text}\n")
            with self.assertRaises(cross.Failed, msg=version):
                release.set_version(version)
            self.assertEqual(release.current(), "0.1.0")

    def test_places_that_differ_are_named(self):
        self.makefile.write_text("PKG_VERSION:=0.1.1\n")
        with self.assertRaisesRegex(cross.Failed, "Makefile 0.1.1"):
            release.current()


class Cross(Place):
    def test_cross_toml_with_another_target_or_an_unknown_key_is_refused(self):
        text = (ROOT / "cross.toml").read_text()
        self.put(cross, "ROOT", self.folder)
        for wrong, word in [
            (text.replace("[target.mips-unknown-linux-musl]", "[target.mips64-unknown-linux-muslabi64]"),
             "mips64-unknown-linux-muslabi64"),
            (text + '\nxargo = "no"\n', "xargo"),
            (text.replace("passthrough", "pass-through"), "pass-through"),
        ]:
            (self.folder / "cross.toml").write_text(wrong)
            with self.assertRaisesRegex(cross.Failed, word):
                cross.check()

    def test_an_entry_of_other_sources_or_half_an_entry_is_made_again(self):
        self.put(cross, "RECORD", self.folder / "cpus.json")
        present = cross.sources()
        for value, done in [({"done": True, "sources": present}, True),
                            ({"done": False, "sources": present}, False),
                            ({"done": True, "sources": "other"}, False)]:
            cross.save({"mips-unknown-linux-musl": value})
            self.assertEqual(cross.is_done("mips-unknown-linux-musl"), done, value)
        self.assertFalse(cross.is_done("x86_64-unknown-linux-musl"))

    def test_the_table_tells_what_did_not_run(self):
        ran = {"runner": "qemu 7.2.22", "tests": 7}
        for value, cell in [(ran, "qemu 7.2.22: starts, 7 tests"),
                            (ran | {"tests": None}, "qemu 7.2.22: starts; tests not run"),
                            (ran | {"skipped": 1}, "qemu 7.2.22: starts, 7 tests, 1 left out"),
                            (ran | {"failed": "its tests"}, "qemu 7.2.22: starts; failed: its tests"),
                            (ran | {"failed": "starting"}, "failed: starting"),
                            ({"runner": "not run: qemu 7.2.22 is older than 8.1"},
                             "not run: qemu 7.2.22 is older than 8.1")]:
            self.assertEqual(cross.result(value), cell)

    def test_only_the_emulator_that_is_wrong_excuses_a_test(self):
        mips, arm = {"target": "mips-unknown-linux-musl"}, {"target": "armv7-unknown-linux-musleabi"}
        self.put(cross, "EMULATOR_FAULTS", [("mips", [8], "one"), ("", None, "two"), ("mips-", None, "three")])
        self.assertEqual(cross.skipped(mips, "qemu 7.2.22"), ["one", "two", "three"])
        self.assertEqual(cross.skipped(mips, "qemu 8.0.0"), ["two", "three"])
        self.assertEqual(cross.skipped(mips, "native"), [])
        self.assertEqual(cross.skipped(arm, "qemu 7.2.22"), ["two"])

    def test_a_program_that_says_something_else_fails(self):
        with self.assertRaisesRegex(cross.Failed, "code 0, not 2"):
            cross.says(["true"], 2, "")
        with self.assertRaisesRegex(cross.Failed, "tailover 0.1.0"):
            cross.says(["echo", "tailover 0.2.0"], 0, "tailover 0.1.0")


if __name__ == "__main__":
    unittest.main()
