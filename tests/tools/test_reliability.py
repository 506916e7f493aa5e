"""Tests of tools/reliability.py: what it counts, and that the core can still be broken on purpose."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

import fuzz  # noqa: E402
import mutants  # noqa: E402
import reliability  # noqa: E402


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
