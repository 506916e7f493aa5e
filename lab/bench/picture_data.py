"""What docs/benchmark.svg shows, and which figures an existing one was drawn of."""

import hashlib
import json
import re
from pathlib import Path

from . import summary
from .scenarios import SCENARIOS
from .treatments import TREATMENTS

_NOTE = "drawn of "


def points(rows, detection):
    """[(scenario, [(treatment, median, least, most, whether it never came back)])] of the outages."""
    cells = summary.cells(rows)
    lines = []
    for scenario in SCENARIOS:
        found = []
        for treatment in TREATMENTS:
            cell = cells.get((treatment.key, scenario.key, detection))
            if cell:
                never = scenario.steady and cell.ping.median is None
                outage = cell.outage
                found.append((treatment.key, outage.median, outage.least, outage.most, never))
        if found:
            lines.append((scenario.key, found))
    return lines


def digest(rows):
    """Names what is drawn and how."""
    what = [points(rows, detection) for detection in ("fast", "default")]
    code = (Path(__file__).parent / "draw.py").read_text(encoding="utf-8")
    return hashlib.sha256((json.dumps(what) + code).encode()).hexdigest()[:16]


def note(rows):
    """The line that a picture carries."""
    return f"{_NOTE}{digest(rows)}"


def drawn(file):
    """The digest that a picture carries, or None."""
    if not file.exists():
        return None
    found = re.search(f"{_NOTE}([0-9a-f]+)", file.read_text(encoding="utf-8"))
    return found and found[1]
