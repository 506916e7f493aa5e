"""Runs a command until it gets SIGTERM, and writes down what it and all that it started have spent.

`python3 -m lab.bench.spent FILE COMMAND...`: processor seconds and voluntary context switches, as JSON.
Children that live for a moment, as a shell's do, are counted by nothing else (getrusage(2)).
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time


def main(file, command):
    """Does not return before the signal."""
    begun = time.monotonic()
    child = subprocess.Popen(command, start_new_session=True)

    def end(*_):
        os.killpg(child.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    child.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = {"seconds": time.monotonic() - begun, "cpu": used.ru_utime + used.ru_stime, "wakes": used.ru_nvcsw}
    with open(file, "w", encoding="ascii") as out:
        json.dump(spent, out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
