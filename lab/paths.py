"""Where the lab finds its parts and leaves its logs, all below the tree."""

import os
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
TARGET = TREE / "target" / "lab"
BIN = TARGET / "bin"
# Which of several labs beside each other this is; empty for the only one.
NAME = os.environ.get("TAILOVER_LAB", "")
LOGS = TARGET / f"logs{NAME}"

# Pid of the running sandbox and the hosts in it, for `lab shell`.
SANDBOX_PID = TARGET / f"sandbox{NAME}.pid"
HOSTS_FILE = TARGET / f"hosts{NAME}.json"

# State of a running lab. A tmpfs of the sandbox, so that it ends with it.
STATE = Path("/mnt")
# The tree as every host sees it, also where a host's own /tmp or /run hides it.
TREE_INSIDE = STATE / "tree"
TAILOVER_INSIDE = STATE / "tailover"
