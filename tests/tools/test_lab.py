"""What the lab decides for itself: which lab runs which scenario, and how a lab that is not well is brought back."""

import io
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True

from lab import commands, scenarios, turns, world  # noqa: E402
from lab.hosts import HostError  # noqa: E402


class Turns(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        put = mock.patch.object(turns, "FILE", Path(folder.name) / "lab/turns.jsonl")
        put.start()
        self.addCleanup(put.stop)
        turns.begin()

    def test_each_scenario_is_taken_by_one_lab(self):
        all_of = [SimpleNamespace(name=f"scenario{n}") for n in range(50)]
        with ThreadPoolExecutor() as pool:
            labs = list(pool.map(lambda _: list(turns.shared(all_of)), range(4)))
        self.assertEqual(sorted(s.name for lab in labs for s in lab), sorted(s.name for s in all_of))

    def test_a_lab_takes_no_more_than_it_runs(self):
        mine = turns.shared([SimpleNamespace(name=n) for n in "abc"])
        self.assertEqual(next(mine).name, "a")
        other = turns.shared([SimpleNamespace(name=n) for n in "abc"])
        self.assertEqual([s.name for s in other], ["b", "c"])

    def test_a_new_start_forgets_the_last(self):
        turns.note(("passed", 1.0, "a", "well"))
        turns.begin()
        self.assertEqual(turns.rows(), [])

    def tell(self, *results):
        names = [s.name for s in scenarios.SCENARIOS if not s.rare][:2]
        for result, name in zip(results, names):
            turns.note((result, 1.0, name, "text"))
        said = io.StringIO()
        with redirect_stdout(said):
            code = commands.tell(SimpleNamespace(names=names, all=False))
        return code, said.getvalue()

    def test_all_that_passed_is_a_success(self):
        code, said = self.tell("passed", "passed")
        self.assertEqual(code, 0)
        self.assertIn("2 passed, 0 failed, 0 skipped", said)

    def test_one_that_failed_is_a_failure(self):
        self.assertEqual(self.tell("passed", "failed")[0], 1)

    def test_one_that_no_lab_has_ended_is_a_failure(self):
        code, said = self.tell("passed")
        self.assertEqual(code, 1)
        self.assertIn("no lab has come to its end", said)


class Settling(unittest.TestCase):
    """A world of which only the healing is real."""

    def settle(self, healed_by):
        place = world.World.__new__(world.World)
        place.kind, place.isps = "direct", {}
        place.router = place.internet = place.node = mock.Mock()
        done = []

        def heal(name):
            done.append(name)
            if name == "nudge":
                raise HostError("no netmap")

        place._healthy = lambda: healed_by in done
        place._nudge_and_renew = lambda: heal("nudge")
        place._start_anew = lambda: heal("anew")
        place.describe = lambda: "as it is"
        with mock.patch.object(world.byhand, "unsteer"), mock.patch.object(world, "wait_until", self.look):
            place.settle("direct")
        return done

    @staticmethod
    def look(condition, _patience, what):
        if not condition():
            raise TimeoutError(what)

    def test_what_cannot_be_nudged_begins_anew(self):
        self.assertEqual(self.settle(healed_by="anew"), ["nudge", "anew"])

    def test_what_is_not_well_then_is_told(self):
        with self.assertRaisesRegex(TimeoutError, "a healthy tailnet: as it is"):
            self.settle(healed_by=None)


if __name__ == "__main__":
    unittest.main()
