"""The bench's judgement of a run, and the page that is made of its table."""

import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True

from lab import cargo  # noqa: E402
from lab.bench import cost, figures, page, picture_data, record, run, summary  # noqa: E402
from lab.bench.observer import Sample  # noqa: E402
from lab.bench.scenarios import SCENARIOS  # noqa: E402
from lab.bench.treatments import TREATMENTS  # noqa: E402


class Outside:
    """A truth that a test writes down: (since, isps that are open), faults, dead control ports."""

    def __init__(self, spans=((0, ("isp1", "isp2")),), faults=(), doomed=(), half=(), losses=0):
        self.spans, self.faults, self.doomed, self.half, self.losses = spans, faults, doomed, half, losses

    def open_at(self, when):
        return [isps for since, isps in self.spans if since <= when][-1]

    def dead(self, when, isp, family):
        return isp not in self.open_at(when) or (isp, family) in self.half

    def outside_down(self, when, margin=0.0):
        return not self.open_at(when) and not self.open_at(when - margin)

    def dead_ports(self, when):
        return {port for since, port in self.doomed if since <= when}

    def fault_within(self, when, seconds):
        return any(when - seconds <= fault <= when for fault in self.faults)


def pings(start, end, lost=()):
    """Four a second, those within one of the spans unanswered."""
    times = [start + n / 4 for n in range(int((end - start) * 4))]
    return [(t, None if any(a <= t < b for a, b in lost) else t + 0.02) for t in times]


def control(start, end, isp="isp1", egress=None, online=True, port=1):
    """Looks at control, four a second."""
    flow = (isp, port, egress or isp)
    return [Sample(start + n / 4, online, (flow,)) for n in range(int((end - start) * 4))]


def seen(lost=(), samples=None, acts=(), truth=None, end=40.0, lost6=None):
    both = {4: pings(-10, end, lost), 6: pings(-10, end, lost if lost6 is None else lost6)}
    samples = control(-10, end) if samples is None else samples
    return figures.Seen(0.0, end, both, samples, list(acts), truth or Outside())


class Figures(unittest.TestCase):
    def test_a_gap_that_ends_is_seconds_and_one_that_does_not_is_never(self):
        self.assertAlmostEqual(figures.of(seen(lost=[(0, 5)])).ping, 5.02)
        self.assertIsNone(figures.of(seen(lost=[(0, 100)])).ping)
        self.assertEqual(figures.of(seen()).ping, 0.0)

    def test_a_later_gap_counts_and_a_hiccup_does_not(self):
        self.assertAlmostEqual(figures.of(seen(lost=[(0, 3), (9, 14)])).ping, 14.02)
        self.assertAlmostEqual(figures.of(seen(lost=[(0, 3), (9, 9.5)])).ping, 3.02)

    def test_the_worse_family_counts(self):
        figure = figures.of(seen(lost=[(0, 2)], lost6=[(0, 6)]))
        self.assertAlmostEqual(figure.ping, 6.02)
        self.assertAlmostEqual(figure.outage, 6.0)

    def test_what_was_lost_before_the_fault_is_not_counted(self):
        self.assertEqual(figures.of(seen(lost=[(-8, -2)])).outage, 0.0)

    def test_control_over_a_dead_uplink_is_none(self):
        dark = Outside(((-99, ("isp1", "isp2")), (0, ("isp2",))))
        self.assertIsNone(figures.of(seen(truth=dark)).control)
        moved = control(-10, 7) + control(7, 40, "isp2")
        self.assertAlmostEqual(figures.of(seen(truth=dark, samples=moved)).control, 7.0)

    def test_control_that_leaves_by_the_other_uplink_is_none(self):
        self.assertIsNone(figures.of(seen(samples=control(-10, 40, "isp2", egress="isp1"))).control)

    def test_control_that_nobody_acknowledges_is_none(self):
        unheard = [Sample(n / 4, True, (("isp1", 1, None),)) for n in range(160)]
        self.assertIsNone(figures.of(seen(samples=unheard)).control)

    def test_a_forgotten_connection_is_none(self):
        truth = Outside(doomed=[(0, 1)])
        self.assertIsNone(figures.of(seen(truth=truth)).control)
        renewed = control(-10, 6) + control(6, 40, port=2)
        self.assertAlmostEqual(figures.of(seen(truth=truth, samples=renewed)).control, 6.0)

    def test_a_renewal_is_no_loss_of_control_and_a_restart_is(self):
        renewed = control(-10, 5) + control(5, 6, online=False) + control(6, 40)
        self.assertEqual(figures.of(seen(samples=renewed)).control, 0.0)
        restarted = control(-10, 5) + control(5, 9, online=False) + control(9, 40)
        self.assertAlmostEqual(figures.of(seen(samples=restarted)).control, 9.0)


class WrongActs(unittest.TestCase):
    def wrong(self, *acts, **more):
        return figures.wrong_acts(seen(acts=acts, **more))

    def test_a_restart_while_the_outside_is_down(self):
        down = Outside(((-99, ("isp1", "isp2")), (0, ())), faults=[0])
        for what in ("restart", "down"):
            self.assertEqual(len(self.wrong((5.0, what), truth=down, lost=[(0, 99)])), 1, what)
        self.assertEqual(self.wrong((5.0, "debug rebind"), truth=down, lost=[(0, 99)]), [])
        self.assertEqual(self.wrong((5.0, "mend"), truth=down, lost=[(0, 99)]), [])

    def test_any_act_on_a_healthy_tailnet(self):
        self.assertEqual(len(self.wrong((20.0, "debug rebind"))), 1)

    def test_none_on_one_that_is_not(self):
        self.assertEqual(self.wrong((20.0, "restart"), lost=[(10, 25)]), [])
        self.assertEqual(self.wrong((20.0, "renew"), samples=control(-10, 40, online=False)), [])

    def test_the_way_back_to_a_better_uplink_is_right(self):
        self.assertEqual(self.wrong((20.0, "steer IPv4"), samples=control(-10, 40, "isp2")), [])

    def test_moving_a_family_that_is_dead_there_is_right(self):
        half = Outside(half=[("isp1", 4)])
        self.assertEqual(self.wrong((20.0, "steer IPv4"), truth=half), [])
        for what in ("steer IPv6", "restart", "renew"):
            self.assertEqual(len(self.wrong((20.0, what), truth=half)), 1, what)

    def test_a_family_may_leave_what_is_dead_for_it_whatever_carries_the_tailnet(self):
        # The tailnet came back over the other family, which was moved first.
        there = Outside(((-99, ("isp2",)),))
        samples = control(-10, 40, "isp2")
        for off, wrong in (("isp1", 0), ("isp2", 1), (None, 1)):
            act = (20.0, "steer IPv4", off)
            self.assertEqual(len(self.wrong(act, samples=samples, truth=there)), wrong, off)

    def test_what_was_lost_may_be_mended_once(self):
        self.assertEqual(len(self.wrong((20.0, "mend"))), 1)
        self.assertEqual(self.wrong((20.0, "mend"), truth=Outside(losses=1)), [])
        twice = self.wrong((20.0, "mend"), (30.0, "mend"), truth=Outside(losses=1))
        self.assertEqual(twice, ["mend at +30.0 s, the tailnet healthy"])

    def test_a_steering_that_main_has_caught_up_with_may_be_taken_away(self):
        self.assertEqual(self.wrong((20.0, "unsteer IPv4")), [])
        # What moves the tailnet is an act on it.
        moves = control(-10, 20) + control(20, 40, "isp2", port=2)
        wrong = self.wrong((20.0, "unsteer IPv4"), samples=moves)
        self.assertEqual(wrong, ["unsteer IPv4 at +20.0 s, the tailnet healthy"])

    def test_what_comes_just_after_a_fault_is_right(self):
        self.assertEqual(self.wrong((1.0, "steer IPv4"), truth=Outside(faults=[0.0])), [])


def row(treatment="tailover", scenario="blackhole", detection="fast", number=1, **more):
    figures_of = {"control": "3.80", "ping": "4.50", "outage": "4.25", "watched": "20.0", "restarts": "0", "flows": "4",
                  "flows_lost": "0", "wrong": ""}
    known = {"date": "2026-01-02T03:04Z", "commit": "abc", "binary": "def", "tailover": "0.1.0", "tailscaled": "1",
             "headscale": "2", "seed": "7", "limit": "60", "load": "1.5", "labs": "1"}
    cell = {"treatment": treatment, "scenario": scenario, "detection": detection, "run": str(number)}
    return known | figures_of | cell | {name: str(value) for name, value in more.items()}


NEVER = {"control": "never", "ping": "never", "outage": "69.00", "watched": "69.0"}


class Table(unittest.TestCase):
    def test_a_row_comes_back_as_it_was_written_also_after_a_break(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "table.csv"
            record.append(row(), file)
            file.write_text(file.read_text().rstrip("\n"))
            record.append(row(number=2, wrong="restart at +3.0 s, the outside down"), file)
            self.assertEqual(record.read(file), [row(), row(number=2, wrong="restart at +3.0 s, the outside down")])

    def test_a_bench_goes_on_where_it_was_broken_off(self):
        keys = ["policy", "tailover"]
        everything = run.cells(keys, ["blackhole"], ["fast"], 2, set(), 0)
        self.assertEqual(len(everything), 4)
        known = run.done([row(*cell[:3], number=cell[3]) for cell in everything[:3]])
        self.assertEqual(run.cells(keys, ["blackhole"], ["fast"], 2, known, 0), everything[3:])

    def test_labs_beside_each_other_share_all_cells_and_keep_their_shares(self):
        keys = [treatment.key for treatment in TREATMENTS]

        def of(share, done=()):
            return run.cells(keys, ["blackhole", "reject"], ["fast"], 3, set(done), 0, share)

        everything = of((1, 1))
        shares = [of((number, 4)) for number in range(1, 5)]
        self.assertEqual(sorted(cell for share in shares for cell in share), sorted(everything))
        done = [cell[:4] for cell in everything[:7]]
        self.assertEqual(of((2, 4), done), [cell for cell in shares[1] if cell[:4] not in done])

    def test_rows_written_at_once_are_all_there(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "table.csv"
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: record.append(row(number=number), file), range(40)))
            self.assertEqual(sorted(int(r["run"]) for r in record.read(file)), list(range(40)))

    def test_all_remedies_of_a_run_have_one_seed_and_no_fixed_order(self):
        keys = [treatment.key for treatment in TREATMENTS]
        cells = run.cells(keys, ["blackhole", "reject"], ["fast"], 3, set(), 0)
        seeds = {}
        for _, scenario, _, number, seed in cells:
            seeds.setdefault((scenario, number), set()).add(seed)
        self.assertEqual({len(of) for of in seeds.values()}, {1})
        self.assertEqual(len(set.union(*seeds.values())), 6)
        orders = {tuple(c[0] for c in cells[start : start + len(keys)]) for start in range(0, len(cells), len(keys))}
        self.assertGreater(len(orders), 1)

    def test_the_short_bench_fits_into_a_quarter_of_an_hour(self):
        self.assertLessEqual(len(run.SHORT_TREATMENTS) * len(run.SHORT_SCENARIOS), 16)
        for key in run.SHORT_SCENARIOS:
            self.assertIn(key, [scenario.key for scenario in SCENARIOS])


class Summary(unittest.TestCase):
    def cell(self, *rows):
        return summary.cells(list(rows))["tailover", "blackhole", "fast"]

    def test_never_is_more_than_any_number(self):
        cell = self.cell(row(), row(number=2, **NEVER), row(number=3, ping="6.00"))
        self.assertEqual((cell.ping.median, cell.ping.least, cell.ping.most), (6.0, 4.5, None))

    def test_slower_is_beyond_the_spread_alone(self):
        spread = summary.Spread.of
        self.assertTrue(summary.slower(spread([5, 6]), spread([3, 4])))
        self.assertFalse(summary.slower(spread([4, 6]), spread([3, 4])))
        self.assertFalse(summary.slower(spread([None]), spread([None])))
        self.assertTrue(summary.slower(spread([None]), spread([4])))


class Page(unittest.TestCase):
    def text(self, *rows):
        return page.render(list(rows), [])

    def line(self, text, start):
        found = [line for line in text.splitlines() if line.startswith(start)]
        self.assertTrue(found, f"no line begins with {start}")
        return found

    def test_medians_with_least_and_most(self):
        text = self.text(row(), row(number=2, ping="5.50"), row(number=3, ping="3.50"))
        self.assertIn("**4.5 (3.5-5.5)**", self.line(text, "| blackhole, link up |")[0])

    def test_never_has_the_seconds_that_were_watched(self):
        text = self.text(row("policy", **NEVER))
        self.assertIn("| never (69 s) |", self.line(text, "| blackhole, link up |")[0])

    def test_a_cell_that_was_not_run_is_a_dash_and_counted(self):
        text = self.text(row())
        total = len(TREATMENTS) * len(SCENARIOS) * 2
        self.assertIn(f"Of {total} cells {total - 1} were not run yet", text)
        self.assertEqual(self.line(text, "| ICMP reject |")[0].count("–"), len(TREATMENTS))

    def test_where_another_remedy_is_faster_it_says_so(self):
        ours = [row(number=n) for n in (1, 2)]
        text = self.text(*ours, *[row("metric", number=n, ping="2.00") for n in (1, 2)])
        self.assertIn("- blackhole, link up, fast: 4.5 (2 runs) against 2.0 of mwan3.user: lower metric", text)
        self.assertIn("In no cell", self.text(*ours, *[row("metric", number=n, ping="4.60") for n in (1, 2)]))

    def test_a_single_run_is_not_called_slower_beyond_the_spread(self):
        text = self.text(row(), row("metric", ping="2.00"))
        self.assertIn("In no cell", text)
        self.assertIn("says nothing of the spread: blackhole, link up (fast).", text)

    def test_wrong_acts_are_shown(self):
        text = self.text(row("mwan3-user", wrong="restart at +3.0 s, the outside down"))
        self.assertIn("| mwan3.user: restart | 1 | 1 | blackhole, link up: restart at +3.0 s", text)

    def test_restarts_by_tailover_are_named(self):
        self.assertIn("restarted tailscaled in: tailscaled hung.", self.text(row(), row(scenario="hung", restarts=1)))
        both = [row(scenario="hung", detection=detection, restarts=1) for detection in ("fast", "default")]
        self.assertIn("restarted tailscaled in: tailscaled hung.", self.text(*both))
        self.assertIn("restarted tailscaled in: no run.", self.text(row()))

    def test_faster_by_so_much_with_the_default_tracking(self):
        rows = [row(detection="default"), row("metric", detection="default", ping="130.00"),
                row("policy", detection="default", **NEVER)]
        self.assertIn("- blackhole, link up: 29 times faster", self.text(*rows))

    def test_why_it_is_not_ten_times_faster_is_said(self):
        rows = [row(scenario="reject", detection="default"), row("metric", "reject", detection="default", ping="44.20")]
        self.assertIn("- ICMP reject: 9.8 times faster than the best of the others. mwan3's defaults notice", self.text(*rows))
        rows = [row(detection="default"), row("metric", detection="default", ping="44.20")]
        self.assertIn("- blackhole, link up: 9.8 times faster than the best of the others. Why it is not", self.text(*rows))

    def test_what_a_real_router_showed_stands_beside_it(self):
        text = self.text(row("policy", "carrier", ping="3.40", outage="3.25"))
        self.assertIn("| carrier lost | mwan3's policy alone | 2.3-4.8 | 3.4 | 3.2 |", text)

    def test_the_same_table_gives_the_same_page(self):
        rows = [row(), row("policy", **NEVER), row("metric", "failback")]
        self.assertEqual(self.text(*rows), self.text(*rows))

    def test_the_check_sees_a_figure_that_was_typed(self):
        with tempfile.TemporaryDirectory(dir=ROOT / "docs") as folder:
            file, picture = Path(folder) / "page.md", Path(folder) / "picture.svg"
            rows = [row()]
            picture.write_text(f"<!-- {picture_data.note(rows)} -->")
            with mock.patch.object(page, "PAGE", file), mock.patch.object(page, "PICTURE", picture), \
                 mock.patch.object(record, "read", lambda *_: rows), mock.patch.object(cost, "read", lambda *_: []), \
                 mock.patch.object(page.sys, "stderr"):
                file.write_text(page.render(rows, []))
                self.assertEqual(page.check(), 0)
                file.write_text(file.read_text().replace("4.5", "1.5"))
                self.assertEqual(page.check(), 1)
                file.write_text(page.render(rows, []))
                self.assertEqual(page.check(), 0)
                rows.append(row(number=2, outage="9.00"))
                file.write_text(page.render(rows, []))
                self.assertEqual(page.check(), 1)


class Growth(unittest.TestCase):
    def test_the_bench_is_run_not_the_program_that_cargo_builds_too(self):
        artifact = '{{"reason":"compiler-artifact","target":{{"name":"{}"}},"executable":{}}}'
        words = [artifact.format("tailover", '"release/tailover"'), artifact.format("growth", "null"),
                 artifact.format("growth", '"release/deps/growth-1"'), "   Finished"]
        self.assertEqual(cargo.executable("\n".join(words), "growth"), "release/deps/growth-1")


if __name__ == "__main__":
    unittest.main()
