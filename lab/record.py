"""Results of long runs, kept in docs/reliability.json, from which tools/reliability.py makes the page."""

import fcntl
import hashlib
import json
import os
import subprocess
import time

from .paths import TAILOVER_INSIDE, TREE, TREE_INSIDE

# tools/reliability.py and tools/fuzz.py note from outside the sandbox.
_TREE = TREE_INSIDE if TREE_INSIDE.exists() else TREE
_FILE = _TREE / "docs/reliability.json"


def program():
    """The first digits of the SHA-256 of the tailover that the lab runs."""
    return hashlib.sha256(TAILOVER_INSIDE.read_bytes()).hexdigest()[:12]


def asked():
    """Whether scenarios that run for long are to note what came of them: LAB_RECORD=1."""
    return os.environ.get("LAB_RECORD") == "1"


def read():
    """All of it: {kind of run: {name: row}}."""
    return json.loads(_FILE.read_text()) if _FILE.exists() else {}


def noted(key):
    """The rows under that key: a dictionary of dictionaries."""
    return read().get(key, {})


def note(key, name, **row):
    """Sets one row, with the commit and the day."""
    words = ["git", "-C", str(_TREE), "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    put(key, {name: row | {"commit": commit, "day": time.strftime("%Y-%m-%d", time.gmtime())}})


def put(key, rows):
    """Sets rows as they are; what others have written meanwhile stays."""
    folder = os.open(_FILE.parent, os.O_RDONLY)
    try:
        # The file itself is replaced, so it is the folder that is locked.
        fcntl.flock(folder, fcntl.LOCK_EX)
        data = read()
        data.setdefault(key, {}).update(rows)
        new = _FILE.with_suffix(".new")
        new.write_text(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        new.replace(_FILE)
    finally:
        os.close(folder)
