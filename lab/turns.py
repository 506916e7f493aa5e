"""Which of several labs runs which scenario, and what came of it: a file that all of them write.

A lab that is done with a scenario takes the next one that nobody has taken, so that all end at about the same time.
"""

import fcntl
import json

from .paths import TARGET

FILE = TARGET / "turns.jsonl"


def begin():
    """Nothing is taken yet, and nothing came of anything."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text("")


def shared(scenarios):
    """Those of the scenarios that no other lab takes, one after the other."""
    for scenario in scenarios:
        if _take(scenario.name):
            yield scenario


def note(row):
    """What came of a scenario: (result, seconds, name, sentence)."""
    with open(FILE, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print(json.dumps({"row": row}), file=file)


def rows():
    """What came of all of them so far."""
    return [tuple(line["row"]) for line in _lines(FILE.read_text(encoding="utf-8")) if "row" in line]


def _take(name):
    """Whether it was still there to be taken."""
    with open(FILE, "a+", encoding="utf-8") as file:
        # The lock goes with the file's closing, also when this lab dies.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if any(line.get("taken") == name for line in _lines(file.read())):
            return False
        print(json.dumps({"taken": name}), file=file)
    return True


def _lines(text):
    return [json.loads(line) for line in text.splitlines()]
