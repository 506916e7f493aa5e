"""What cargo says of what it has built, with `--message-format json`."""

import json


def executable(messages, name):
    """The path of the program, test or bench of that name; None if it is not among them. Cargo tells of the programs
    that a test needs too."""
    lines = (json.loads(line) for line in messages.splitlines() if line.startswith("{"))
    paths = (line["executable"] for line in lines if line.get("executable") and line["target"]["name"] == name)
    return next(paths, None)
