"""Results of long runs, kept in docs/reliability.json, from which tools/reliability.py makes the page."""

import hashlib
import json
import os
import subprocess
import time

from .paths import TAILOVER_INSIDE, TREE_INSIDE

_FILE = TREE_INSIDE / "docs/reliability.json"


def program():
    """The first digits of the SHA-256 of the tailover that the lab runs."""
    return hashlib.sha256(TAILOVER_INSIDE.read_bytes()).hexdigest()[:12]


def asked():
    """Whether scenarios that run for long are to note what came of them: LAB_RECORD=1."""
    return os.environ.get("LAB_RECORD") == "1"


def noted(key):
    """The rows under that key: a dictionary of dictionaries."""
    return _read().get(key, {})


def note(key, name, **row):
    """Sets one row; adds the program, the commit it was tested at and the day."""
    data = _read()
    commit = subprocess.run(
        ["git", "-C", TREE_INSIDE, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    row |= {"program": program(), "commit": commit, "day": time.strftime("%Y-%m-%d", time.gmtime())}
    data.setdefault(key, {})[name] = row
    new = _FILE.with_suffix(".new")
    new.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    new.replace(_FILE)


def _read():
    return json.loads(_FILE.read_text()) if _FILE.exists() else {}
