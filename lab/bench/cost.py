"""docs/benchmark-cost.csv: what watching costs, and how cost grows; and how the page shows it."""

import csv
from datetime import datetime, timezone

from . import record

FILE = record.TREE / "docs" / "benchmark-cost.csv"
COLUMNS = ["date", "commit", "part", "subject", "figure", "value", "unit", "how"]

_WATCHING = "watching"


def read(file=FILE):
    """All rows."""
    return record.read(file)


def replace(part, rows, file=FILE):
    """Puts the rows (subject, figure, value, unit, how) in the place of all of that part."""
    known = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "commit": record.commit(), "part": part}
    kept = [row for row in read(file) if row["part"] != part]
    names = ("subject", "figure", "value", "unit", "how")
    kept += [known | dict(zip(names, row)) for row in rows]
    with open(file, "w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)


def render(rows):
    """The page's part."""
    parts = [_of_part(rows, part, title) for part, title in (
        (_WATCHING, "What watching costs"), ("growth", "How cost grows"),
    )]
    return "\n".join(part for part in parts if part)


def _of_part(rows, part, title):
    mine = [row for row in rows if row["part"] == part]
    if not mine:
        return f"## {title}\n\nNot measured yet.\n"
    subjects = list(dict.fromkeys(row["subject"] for row in mine))
    figures = list(dict.fromkeys((row["figure"], row["unit"]) for row in mine))
    values = {(row["subject"], row["figure"]): row["value"] for row in mine}
    lines = [f"## {title}", "", f"Measured {mine[0]['date']} at {mine[0]['commit']}.", ""]
    lines += [f"- {text}" for text in dict.fromkeys(row["how"] for row in mine if row["how"])]
    heads = " | ".join(f"{figure}, {unit}" if unit else figure for figure, unit in figures)
    lines += ["", f"| | {heads} |", "|---" * (len(figures) + 1) + "|"]
    for subject in subjects:
        cells = [values.get((subject, figure), "–") for figure, _ in figures]
        lines.append(f"| {subject} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])
