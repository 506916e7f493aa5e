"""Rows become cells: medians with least and most over the runs of each remedy and scenario."""

import statistics
from dataclasses import dataclass

from . import record

_INFINITE = float("inf")


@dataclass(frozen=True)
class Spread:
    """Median, least and most of a figure; None for never, which is more than any number."""

    median: float | None
    least: float | None
    most: float | None

    @staticmethod
    def of(values):
        """Of the values of all runs."""
        known = sorted(_INFINITE if value is None else value for value in values)
        three = (statistics.median(known), known[0], known[-1])
        return Spread(*(None if value == _INFINITE else value for value in three))


@dataclass(frozen=True)
class Cell:
    """All runs of one remedy, scenario and detection."""

    runs: int
    control: Spread
    ping: Spread
    outage: Spread
    restarts: Spread
    flows_lost: Spread
    # How many runs had a wrong act, and the sentences.
    wrong_runs: int
    wrong: tuple
    # The shortest watch of a run that never came back.
    watched: float


def cells(rows):
    """{(treatment, scenario, detection): Cell}."""
    grouped = {}
    for row in rows:
        grouped.setdefault((row["treatment"], row["scenario"], row["detection"]), []).append(row)
    return {key: _cell(group) for key, group in grouped.items()}


def _cell(rows):
    def spread(name):
        return Spread.of([record.number(row[name]) for row in rows])

    lost = [row for row in rows if record.NEVER in (row["ping"], row["control"])]
    return Cell(
        runs=len(rows), control=spread("control"), ping=spread("ping"), outage=spread("outage"),
        restarts=spread("restarts"), flows_lost=spread("flows_lost"),
        wrong_runs=sum(bool(row["wrong"]) for row in rows),
        wrong=tuple(text for row in rows for text in row["wrong"].split("; ") if text),
        watched=min(float(row["watched"]) for row in lost or rows),
    )


def slower(ours, other):
    """Whether our spread is above the other's: slower beyond what chance does."""
    ours_least = _INFINITE if ours.least is None else ours.least
    other_most = _INFINITE if other.most is None else other.most
    return ours_least > other_most
