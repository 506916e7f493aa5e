"""The picture of a blackout: that it shows what was measured."""

import sys
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True

from lab import picture  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def run(**changes):
    return {"title": "with tailover", "pings": [(-0.5, True), (1.0, False), (3.0, True)], "acts": [],
            "back": 3.0} | changes


def parts(runs, kind):
    return [part for part in xml.fromstring(picture.draw(runs)).iter(SVG + kind)]


def words(runs):
    return [part.text for part in parts(runs, "text")]


class Picture(unittest.TestCase):
    def test_each_ping_has_a_bar_of_its_kind_in_the_order_of_time(self):
        bars = parts([run()], "rect")
        self.assertEqual([bar.get("class") for bar in bars], ["good", "lost", "good"])
        places = [float(bar.get("x")) for bar in bars]
        self.assertEqual(places, sorted(places))

    def test_a_run_that_never_came_back_says_so(self):
        self.assertIn("with tailover: answers again after 3.0 s", words([run()]))
        self.assertIn("with tailover: no answer in 40 s", words([run(back=None)]))
        self.assertIn("with tailover: no answer in 40 s", words([run(back=41.0)]))

    def test_acts_are_named_once_and_do_not_cover_each_other(self):
        acts = [(2.0, "steer IPv4"), (2.0, "steer IPv6"), (2.1, "nudge"), (2.2, "renew"), (50.0, "restart")]
        texts = [part for part in parts([run(acts=acts)], "text") if part.text in ("steer", "nudge", "renew", "restart")]
        self.assertEqual([text.text for text in texts], ["steer", "nudge", "renew"])
        places = [float(text.get("x")) for text in texts]
        self.assertGreater(places[1] - places[0], 30)
        self.assertGreater(places[2] - places[1], 30)


if __name__ == "__main__":
    unittest.main()
