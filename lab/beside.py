"""Several labs beside each other, each with its own share of a bench's cells or of the scenarios.

A lab mostly waits for mwan3 and for remedies. What one lab's tailnet does is no concern of another's: each is in
namespaces of its own. Only the processor is shared.
"""

import os
import subprocess
import sys
import threading

from .paths import TREE
from .sandbox import DIES_WITH_US, end_by_signals


def run(labs, words):
    """Runs `lab WORDS` in so many labs, each with its number for a name; returns the worst exit code. Ends them
    all when it is ended."""
    children = [_start(number, words) for number in range(1, labs + 1)]
    end_by_signals()
    try:
        readers = [threading.Thread(target=_say, args=pair, daemon=True) for pair in enumerate(children, 1)]
        for reader in readers:
            reader.start()
        codes = [child.wait() for child in children]
        for reader in readers:
            reader.join()
    finally:
        for child in children:
            # Its own `finally` ends its sandbox.
            child.terminate()
    return max(abs(code) for code in codes)


def _start(number, words):
    command = [*DIES_WITH_US, sys.executable, "-m", "lab", *words]
    return subprocess.Popen(command, cwd=TREE, env=os.environ | {"TAILOVER_LAB": str(number)}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def _say(number, child):
    for line in child.stdout:
        print(f"lab {number}: {line}", end="", flush=True)
