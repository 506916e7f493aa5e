"""Tests of tools/reliability.py: what it counts, and that the core can still be broken on purpose."""

import json
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

import fuzz  # noqa: E402
import mutants  # noqa: E402
import reliability  # noqa: E402
import survivors  # noqa: E402


class Reliability(unittest.TestCase):
    def test_each_mutant_changes_the_core_of_now(self):
        for mutant in mutants.MUTANTS:
            with self.subTest(mutant.name), tempfile.TemporaryDirectory() as folder:
                shutil.copytree(ROOT / "src/core", Path(folder) / "src/core")
                mutant.apply(folder)

    def test_a_mutant_that_no_longer_fits_is_an_error(self):
        lost = mutants.Mutant("lost", "", "", "", (("ladder.rs", "no such text", ""),))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "src/core", Path(folder) / "src/core")
            self.assertRaisesRegex(ValueError, "lost: 0 times in src/core/ladder.rs", lost.apply, folder)

    def test_the_names_of_mutants_and_their_promises(self):
        names = [mutant.name for mutant in mutants.MUTANTS]
        self.assertEqual(len(names), len(set(names)))
        promises = " ".join(mutant.promise for mutant in mutants.MUTANTS)
        for wanted in ("1:", "2:", "3:", "4:", "6:", "7:", "bounded time", "silent", "unsteered", "memory"):
            self.assertIn(wanted, promises)

    def promises(self, weeks):
        """Runs it with one broken core; `weeks` gives what a stretch of them says. Returns the stretches asked for."""
        asked = []

        def live(_binary, first, count, _threads):
            asked.append((first, count))
            return None, weeks(first, count)

        mutant = mutants.Mutant("sly", "", "", "promise 1:", ())
        with mock.patch.object(reliability, "broken_cores", lambda _: [(mutant, "weeks")]), \
                mock.patch.object(reliability, "live", live), mock.patch("builtins.print"), \
                mock.patch.object(reliability.record, "noted", lambda _: {"sly": {"after": 77}}):
            try:
                reliability.promises([])
            except reliability.Failed as problem:
                return asked, str(problem)
        return asked, None

    def test_the_week_that_noticed_a_broken_promise_before_is_asked_first(self):
        everything = (0, reliability.ENOUGH)
        says = "week 77: promise 1: a cure"
        self.assertEqual(self.promises(lambda *_: says), ([(77, 1)], None))
        later = lambda _first, count: says if count > 1 else None  # noqa: E731
        self.assertEqual(self.promises(later), ([(77, 1), everything], None))
        for nothing in (None, "week 77: promise 2: another"):
            asked, problem = self.promises(lambda *_, said=nothing: said)
            self.assertEqual(asked, [(77, 1), everything])
            self.assertIn("not caught by the promise that they break: sly", problem)

    def test_only_what_is_missing_is_run(self):
        rows = {"p from 0": {"program": "p", "count": 10}, "p from 20": {"program": "p", "count": 5},
                "other from 10": {"program": "other", "count": 10}}
        self.assertEqual(list(reliability.missing(rows, "p", 40)), [(10, 10), (25, 15)])
        self.assertEqual(list(reliability.missing(rows, "p", 22)), [(10, 10)])
        self.assertEqual(list(reliability.missing(rows, "p", 10)), [])

    def test_the_page_counts_what_the_record_has(self):
        data = {"weeks": {"p from 0": {"count": 1000, "inputs": 5, "cures": 7}, "q from 0": {"count": 2, "inputs": 1, "cures": 1}},
                "troubles": {"a at b": {"survived": True, "said": ""}, "c at d": {"survived": False, "said": "it | fell"}},
                "kills": {"seed 1": {"count": 200, "said": "200 kills"}}}
        page = reliability.page(data)
        for wanted in ("| 1,002 |", "| 8 |", "| 1 of 2 |", "| 200 |", "- 200 kills", "- c at d: it / fell"):
            self.assertIn(wanted, page)
        self.assertIn("| none yet |", reliability.page({}))

    def test_rows_taken_from_another_clone_keep_their_commit_and_day(self):
        here = {"weeks": {"p from 0": {"count": 1, "commit": "a"}}, "fuzz": {"x": {"inputs": 1}}}
        there = {"weeks": {"p from 9": {"count": 2, "commit": "b", "day": "2026-01-02"}}, "fuzz": {"x": {"inputs": 2}}}
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "here.json", Path(folder) / "there.json"
            ours.write_text(json.dumps(here))
            theirs.write_text(json.dumps(there))
            with mock.patch.object(reliability.record, "_FILE", ours):
                reliability.take("weeks", theirs)
                self.assertEqual(reliability.record.read(), {"weeks": here["weeks"] | there["weeks"], "fuzz": here["fuzz"]})
                self.assertRaisesRegex(reliability.Failed, "there.json has no rows of kills", reliability.take, "kills", theirs)

    def test_a_page_of_another_record_is_noticed(self):
        reliability.check()
        kept = reliability.PAGE
        with tempfile.NamedTemporaryFile("w") as other:
            other.write("another page")
            other.flush()
            reliability.PAGE = Path(other.name)
            try:
                self.assertRaisesRegex(reliability.Failed, "tools/reliability.py page", reliability.check)
            finally:
                reliability.PAGE = kept


class Fuzz(unittest.TestCase):
    def test_each_target_has_a_small_corpus(self):
        self.assertGreaterEqual(len(fuzz.targets()), 10)
        self.assertEqual(sorted(fuzz.targets()), sorted(path.name for path in fuzz.CORPUS.iterdir()))
        for name in fuzz.targets():
            files = list((fuzz.CORPUS / name).iterdir())
            self.assertTrue(0 < len(files) <= fuzz.KEPT_FILES, name)
            self.assertLessEqual(sum(path.stat().st_size for path in files), fuzz.KEPT, name)


if __name__ == "__main__":
    unittest.main()


class Survivors(unittest.TestCase):
    def outcome(self, place, summary):
        return {"scenario": {"Mutant": {"name": f"src/core/a.rs:{place}: replace < with <= in f"}}, "summary": summary}

    def test_what_does_not_compile_is_not_counted_and_what_runs_on_is_caught(self):
        told = [{"scenario": "Baseline", "summary": "Success"}, self.outcome("1:2", "CaughtMutant"),
                self.outcome("3:4", "Timeout"), self.outcome("5:6", "Unviable"), self.outcome("7:8", "MissedMutant")]
        self.assertEqual(survivors.summed(told), {"made": 3, "caught": 2, "survived": ["replace < with <= in f"]})

    def test_a_survivor_needs_a_reason_of_its_own(self):
        rows = {"a.rs": {"survived": ["x", "y"]}, "b.rs": {"survived": ["x"]}}
        self.assertEqual(survivors.unexplained(rows, {"a.rs": {"x": "why"}, "b.rs": {"x": ""}}),
                         [("a.rs", "y"), ("b.rs", "x")])

    def test_the_reasons_are_of_survivors_that_there_are(self):
        rows = reliability.record.noted("survivors")
        for file, reasons in survivors.explained().items():
            for name in reasons:
                self.assertIn(name, rows[file]["survived"])

    def test_a_file_is_the_same_program_whatever_its_tests(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(survivors, "CORE", Path(folder)):
            def program(text):
                (Path(folder) / "a.rs").write_text(text)
                return survivors.program("a.rs")

            alone = program("fn a() {}\n")
            self.assertEqual(program("fn a() {}\n\n#[cfg(test)]\nmod tests;\n"), alone)
            self.assertEqual(program("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n"), alone)
            self.assertEqual(program("#[cfg(test)]\nmod sample;\nfn a() {}\n"), alone)
            self.assertNotEqual(program("fn a() { b() }\n"), alone)

    def under_a_cargo(self, script, tests):
        """What `change_all` does where that script is the cargo; its words are in the file `words`."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "cargo").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{folder}/words\n{script}\n")
            (folder / "cargo").chmod(0o755)
            with mock.patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
                survivors.change_all(folder, "a.rs", 30, tests)
            return (folder / "words").read_text().splitlines()

    def test_where_the_tests_fail_without_a_change_nothing_is_noted(self):
        with self.assertRaisesRegex(survivors.Failed, "a.rs: code 4\ncargo test failed"):
            self.under_a_cargo("echo cargo test failed >&2; exit 4", survivors.UNIT)

    def test_no_flag_is_given_twice(self):
        for tests in (survivors.UNIT, survivors.TESTS):
            words = self.under_a_cargo("exit 2", tests)
            self.assertEqual(sum("--lib" in word for word in words), 1, words)

    def test_the_core_is_laid_out_with_all_that_its_tests_need(self):
        with tempfile.TemporaryDirectory() as folder:
            survivors.lay(Path(folder))
            manifest = (Path(folder) / "Cargo.toml").read_text()
            for wanted in ("tests/histories/main.rs", "tests/weeks/weeks.rs", 'proptest = { version = "1"', "fastrand"):
                self.assertIn(wanted, manifest)
            self.assertEqual((Path(folder) / "src/lib.rs").read_text(), "pub mod core;\n")
            self.assertIn("verdict/mod.rs", survivors.files())
            for test in ("machine/tests.rs", "verdict/tests/mod.rs", "verdict/tests/portal.rs", "machine/sample.rs"):
                self.assertTrue((survivors.CORE / test).exists(), test)
                self.assertNotIn(test, survivors.files())
