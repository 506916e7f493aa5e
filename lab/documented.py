"""The commands that the documents show: what they are, and those of tailover run for real.

Found are indented lines that begin with a prompt (`# `) or with a program's name, and words in backticks
that begin with one.
"""

import itertools
import re
from pathlib import Path

from .steps import expect, start_tailover

# Programs whose name begins a command also where no prompt stands before it.
PROGRAMS = ("tailover", "make", "service", "uci", "opkg", "apk", "ubus", "logread", "python3", "reload_config")
# Lines of OpenMetrics begin like a prompt.
METRICS = ("# TYPE ", "# HELP ", "# UNIT ", "# EOF")
# What stands for something in a synopsis, and what it is in the lab.
MEANT = {"UPLINK": "wan", "N": "2", "FILE": "/tmp/documented.txt"}
# Exit codes that docs/usage.md has for commands that were understood and found a daemon.
UNDERSTOOD = {0, 1}
# Follows the daemon until it is interrupted; timeout(1) then has this code.
ENDLESS, INTERRUPTED = {"watch"}, 124
# Runs its arguments and prints their exit code alone. A report is not written over a file.
CODE = 'rm -f /tmp/report.txt /tmp/documented.txt; "$@" >/dev/null 2>&1; echo $?'
# The daemon itself, which the lab runs anyway, and what ends it.
APART = {"run", "cleanup"}


def pages(tree):
    """The documents, README first."""
    return [tree / "README.md", tree / "CONTRIBUTING.md", *sorted((tree / "docs").glob("*.md"))]


def commands(tree):
    """(file, line, command) of each one shown, a chain of `&&` taken apart, comments left out."""
    names = "|".join(re.escape(name) for name in (*PROGRAMS, "tools/[a-z_./-]+"))
    indented = re.compile(rf"^(?:    |\t)(?:# (?P<any>\S.*)|(?P<known>(?:{names})(?: .*)?))$")
    quoted = re.compile(rf"`((?:{names}) [^`]+)`")
    # A row of the log's lines, some of which begin with tailover's name.
    logged = re.compile(r"^\| (?:INFO|WARN|ERROR) \|")
    found = []
    for page in pages(tree):
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if logged.match(line) or line.strip().startswith(METRICS):
                continue
            shown = indented.match(line)
            texts = [shown["any"] or shown["known"]] if shown else quoted.findall(line)
            for text in texts:
                # Where its output goes is the shell's work.
                for part in re.sub(r"\s+[#|>]\s.*", "", text).split("&&"):
                    found.append((page.name, number, part.strip()))
    return found


def spelled_out(command):
    """Every way to type a command that has optional parts in brackets or words that stand for something."""
    parts = re.split(r"\s*\[([^\]]+)\]", command)
    fixed, optional = parts[::2], parts[1::2]
    for chosen in itertools.product((False, True), repeat=len(optional)):
        text = fixed[0]
        for use, extra, rest in zip(chosen, optional, fixed[1:]):
            text += (f" {extra}" if use else "") + rest
        yield [MEANT.get(word, word) for word in text.split()]


def documented_commands(world):
    """Every command of tailover that the documents show is understood, and answers as they say."""
    start_tailover(world)
    tree = Path(__file__).resolve().parent.parent
    lines = {}
    for page, number, command in commands(tree):
        if command.split()[0] == "tailover":
            for words in spelled_out(command):
                lines.setdefault(tuple(words), f"{page}:{number}")
    done = 0
    for words, where in lines.items():
        name = next((word for word in words[1:] if not word.startswith("-")), "")
        if name in APART and "--test" not in words:
            continue
        # A stay of 30 s proves nothing more here; the command's bare name has no uplink.
        extra = []
        if name == "drill" and "--seconds" not in words:
            extra = ["--seconds", "2"] if words[2:] else ["--help"]
        limit = ["timeout", "-s", "INT", "3" if name in ENDLESS else "120"]
        told = world.router.host.run(["sh", "-c", CODE, "sh", *limit, *words, *extra], timeout=150)
        code = int(told)
        allowed = {INTERRUPTED, 0} if name in ENDLESS else UNDERSTOOD
        expect(code in allowed, f"{where}: {' '.join(words)}: code {code}")
        done += 1
    # Fewer would mean that the pages are read wrongly.
    expect(done >= 10, f"only {done} commands were found")
    return f"{done} commands understood"
