"""What monitoring is told: the text of `tailover metrics`, the node exporter's collector, the dashboard.

The daemon's answers are recordings that lab/doubles/tests/failover.rs makes and compares.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/tools"))
sys.dont_write_bytecode = True

import openmetrics  # noqa: E402

RECORDED = ROOT / "tests/recordings/metrics"
COLLECTOR = ROOT / "openwrt/utils/tailover-monitoring/files/usr/lib/lua/prometheus-collectors/tailover.lua"
DASHBOARD = ROOT / "examples/grafana/tailover-fleet.json"
PAGE = ROOT / "docs/monitoring.md"
LUA = shutil.which("lua5.1") or shutil.which("lua")

# What differs between two answers a moment apart.
_MOVING = re.compile("round_trip|timestamp|start_time")


def told():
    """The families of the recorded text."""
    return openmetrics.read((RECORDED / "openmetrics.txt").read_text())


def samples(families):
    """{(name, labels): value} of all families."""
    return {(name, tuple(sorted(labels.items()))): value
            for _, found in families.values() for name, labels, value in found}


class Reader(unittest.TestCase):
    def test_what_is_not_openmetrics_is_refused(self):
        good = ("# TYPE a counter\n# HELP a What.\na_total{x=\"1\"} 1\n# TYPE b_seconds gauge\n"
                "# UNIT b_seconds seconds\nb_seconds 0.5\n"
                "# TYPE s stateset\ns{s=\"x\"} 1\ns{s=\"y\"} 0\n# EOF\n")
        self.assertEqual(len(openmetrics.read(good)), 3)
        for before, after in [
            ("# EOF\n", ""), ("# EOF\n", "# EOF\n\n"), ("a_total{", "a{"), ("counter", "count"),
            ("} 1\n# TYPE b", "} -1\n# TYPE b"), ("UNIT b_seconds seconds", "UNIT b_seconds bytes"),
            ('x="1"', 'x="1",x="2"'), ('x="1"', 'x="\\q"'), ('x="1"', "x=1"), ("0.5", "much"),
            ("s{s=\"y\"} 0", "s{s=\"y\"} 2"), ("s{s=\"y\"} 0", "s{s=\"x\"} 1"),
            ("# HELP a What.\n", "# what\n"),
            ("b_seconds 0.5\n", "b_seconds 0.5\na_total 3\n"), ("# TYPE s stateset", "# TYPE a stateset"),
            ("# TYPE s stateset\n", "# TYPE s stateset\n# TYPE s stateset\n"),
            ("# TYPE b_seconds gauge", "# TYPE a_total gauge\na_total 1\n# TYPE b_seconds gauge"),
        ]:
            self.assertIn(before, good)
            with self.assertRaises(openmetrics.Wrong, msg=(before, after)):
                openmetrics.read(good.replace(before, after, 1))


class Text(unittest.TestCase):
    def test_it_is_openmetrics_with_names_as_prometheus_wants_them(self):
        families = told()
        self.assertGreater(len(families), 25)
        for name, (kind, _) in families.items():
            self.assertRegex(name, r"^tailover(_[a-z]+)+$")
            # The suffix is the sample's; base units alone.
            self.assertNotRegex(name, r"_(total|info|count|sum|bucket|ms|milliseconds|minutes|hours)$")
            self.assertIn(kind, ("gauge", "counter", "info", "stateset"), name)

    def test_prometheus_own_reader_takes_it(self):
        try:
            from prometheus_client.openmetrics import parser
        except ImportError:
            self.skipTest("needs prometheus_client")
        text = (RECORDED / "openmetrics.txt").read_text()
        theirs = {family.name: family for family in parser.text_string_to_metric_families(text)}
        ours = told()
        self.assertEqual(set(theirs), set(ours))
        for name, family in theirs.items():
            self.assertEqual((family.type, len(family.samples)), (ours[name][0], len(ours[name][1])), name)

    def test_every_family_is_on_the_page(self):
        page = PAGE.read_text()
        rows = set(re.findall(r"^\| `(tailover_\w+)`", page, re.MULTILINE))
        suffix = {"counter": "_total", "info": "_info"}
        names = {name + suffix.get(kind, "") for name, (kind, _) in told().items()}
        self.assertEqual(rows, names)


@unittest.skipUnless(LUA, "needs lua5.1")
class Collector(unittest.TestCase):
    def scrape(self, answer=None, **environment):
        """What the collector prints with this answer of the daemon."""
        command = [LUA, ROOT / "tests/tools/collector.lua", COLLECTOR]
        with tempfile.TemporaryDirectory() as folder:
            if answer is not None:
                file = Path(folder) / "answer.lua"
                file.write_text("return " + lua(answer))
                command.append(file)
            done = subprocess.run(list(map(str, command)), env=os.environ | environment,
                                  capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return openmetrics.read_old(done.stdout)

    def test_it_prints_what_the_text_has_in_the_exporters_format(self):
        printed = self.scrape(json.loads((RECORDED / "ubus.json").read_text()))
        ours, theirs = samples(told()), samples(printed)
        self.assertEqual(set(theirs), set(ours))
        for key, value in theirs.items():
            if not _MOVING.search(key[0]):
                self.assertAlmostEqual(value, ours[key], msg=key, delta=1e-6 * max(1, value))
        for name, (kind, _) in printed.items():
            self.assertEqual(kind == "counter", name.endswith("_total"), name)

    def test_without_a_daemon_or_ubusd_it_says_so(self):
        for printed in (self.scrape(), self.scrape(NO_UBUSD="1")):
            self.assertEqual(printed, {"tailover_up": ("gauge", [("tailover_up", {}, 0)])})

    def test_an_odd_name_does_not_break_the_page(self):
        odd = 'a"b\\c\nd'
        printed = self.scrape({"metrics": [
            {"name": "tailover_x", "type": "gauge", "samples": [{"uplink": odd, "value": 1.5}]},
            {"name": "tailover_y", "type": "stateset", "states": ["a", "b"],
             "samples": [{"uplink": odd, "state": "b"}]},
            {"name": "tailover_z", "type": "info", "samples": []},
        ]})
        self.assertEqual(printed["tailover_x"][1], [("tailover_x", {"uplink": odd}, 1.5)])
        states = {labels["tailover_y"]: value for _, labels, value in printed["tailover_y"][1]}
        self.assertEqual(states, {"a": 0, "b": 1})
        self.assertEqual(printed["tailover_z_info"], ("gauge", []))


def lua(value):
    """A value of JSON as Lua writes it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"[{lua(key)}]={lua(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ",".join(map(lua, value)) + "}"
    if isinstance(value, str):
        return '"' + "".join(f"\\{byte:03d}" for byte in value.encode()) + '"'
    return "nil" if value is None else str(value).lower()


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.board = json.loads(DASHBOARD.read_text())
        self.panels = [panel for panel in self.board["panels"] if panel["type"] != "row"]

    def queries(self):
        for panel in self.panels:
            for target in panel["targets"]:
                yield panel["title"], target["expr"]
        for variable in self.board["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["name"], variable["query"]["query"]

    def test_every_metric_and_label_in_it_is_one_of_tailovers(self):
        known, labels = set(), {"instance", "job"}
        for _, found in told().values():
            for name, own, _ in found:
                known.add(name)
                labels |= set(own)
        asked = set()
        for title, query in self.queries():
            # Names alone: a label of a state set is called as its family.
            bare = re.sub(r"\{[^}]*\}", "", query)
            bare = re.sub(r"\b(by|without|on|ignoring|group_left) ?\([^)]*\)", "", bare)
            names = set(re.findall(r"\btailover_\w+", bare))
            self.assertTrue(names, title)
            self.assertLessEqual(names, known, title)
            asked |= names
            for matchers in re.findall(r"\{([^}]*)\}", query):
                for label in re.findall(r"(\w+) ?(?:=~|!~|!=|=)", matchers):
                    self.assertIn(label, labels, title)
            for group in re.findall(r"\b(?:by|on|group_left|without|ignoring) ?\(([^)]*)\)", query):
                for label in filter(None, re.split(r"[\s,]+", group)):
                    self.assertIn(label, labels, title)
        self.assertGreater(len(asked), 10)

    def test_a_counter_is_asked_for_its_growth_and_nothing_else_is(self):
        for title, query in self.queries():
            for name in re.findall(r"\btailover_\w+", re.sub(r"\{[^}]*\}", "", query)):
                grown = re.search(r"(rate|increase)\(\s*" + name + r"\b", query)
                self.assertEqual(name.endswith("_total"), bool(grown), f"{title}: {name}")

    def test_every_panel_has_title_unit_description_and_the_variable_datasource(self):
        self.assertGreater(len(self.panels), 8)
        for panel in self.panels:
            self.assertTrue(panel["title"] and panel["description"])
            self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], panel["title"])
            for place in (panel, *panel["targets"]):
                self.assertEqual(place["datasource"], {"type": "prometheus", "uid": "${datasource}"})
        variables = {variable["name"]: variable for variable in self.board["templating"]["list"]}
        self.assertEqual(variables["datasource"]["type"], "datasource")
        self.assertEqual(variables["instance"]["datasource"]["uid"], "${datasource}")
        self.assertIsNone(self.board["id"])

    def test_panels_have_numbers_of_their_own_and_do_not_overlap(self):
        ids = [panel["id"] for panel in self.board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = set()
        for panel in self.board["panels"]:
            at = panel["gridPos"]
            columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
            cells = {(x, y) for x in columns for y in rows}
            self.assertLessEqual(at["x"] + at["w"], 24)
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells


if __name__ == "__main__":
    unittest.main()
