"""The lab's command line."""

import argparse
import sys
from pathlib import Path

from . import beside, parts, paths, sandbox, troubles, turns
from .bench import commands as bench


def main():
    """Runs one subcommand; exit code 0, 1 for a failure, 77 where no sandbox works."""
    options = _arguments()
    if options.command == "parts":
        try:
            parts.build_all(options.jobs, options.all)
        except parts.PartsError as problem:
            sys.exit(f"lab: {problem}")
        return
    if options.command == "bench" and options.paper:
        sys.exit(bench.paper(options))
    if options.command == "shell":
        sandbox.shell(options.host, options.argv)
    if not sandbox.inside():
        if lacking := parts.missing():
            sys.exit(f"lab: not built: {', '.join(lacking)}; run `python3 -m lab parts`")
        if getattr(options, "labs", 1) > 1 and not paths.NAME:
            sys.exit(_beside(options))
        binary = Path(options.tailover)
        sandbox.enter(sys.argv[1:], binary if binary.exists() else None)
    from . import commands

    sys.exit(getattr(commands, options.command)(options))


def _beside(options):
    """The same command in several labs; returns the exit code."""
    if options.command == "bench":
        return beside.run(options.labs, sys.argv[1:])
    from . import commands

    turns.begin()
    code = beside.run(options.labs, sys.argv[1:])
    # One that could not be isolated, or did not come up, has said so.
    return code or commands.tell(options)


def _arguments():
    parser = argparse.ArgumentParser(prog="lab", description=parts_of_doc())
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("parts", help="build the real parts")
    build.add_argument("--all", action="store_true", help="what rare scenarios need too")
    build.add_argument("--jobs", type=int, default=2, help="compilations side by side")
    shell = commands.add_parser("shell", help="run a command in a host of a running lab")
    shell.add_argument("host")
    shell.add_argument("argv", nargs=argparse.REMAINDER)
    world = argparse.ArgumentParser(add_help=False)
    world.add_argument(
        "--tailover",
        default=str(paths.BIN / "tailover"),
        help="the binary under test (default: target/lab/bin/tailover)",
    )
    world.add_argument("--rp-filter", type=int, choices=[0, 1], default=0)
    world.add_argument(
        "--source-routes", action="store_true", help="source-specific IPv6 default routes"
    )
    world.add_argument("--seed", type=int, help="of what is left to chance (default: a new one)")
    commands.add_parser("up", parents=[world], help="bring the lab up and keep it")
    commands.add_parser("demo", parents=[world], help="the failover without and with tailover")
    commands.add_parser("draw", parents=[world], help="a blackout as docs/failover.svg")
    measure = commands.add_parser("measure", parents=[world], help="the failover, repeated")
    measure.add_argument("-n", type=int, default=5, help="runs of each kind")
    measure.add_argument("--peer", choices=["direct", "derp-only", "both"], default="both")
    measure.add_argument("--cure", choices=["tailover", "hand"], default="tailover")
    for name, text in (
        ("blind", "a blackhole that nobody speaks of, the tailnet in use"),
        ("idle", "the same with an idle tailnet"),
        ("address", "a silent change of the public address"),
    ):
        measure.add_argument(f"--{name}", dest="kind", action="store_const", const=name, help=text)
    naming = commands.add_parser("naming", parents=[world], help="are faults named exactly?")
    naming.add_argument("names", nargs="*", help="only cases whose title contains one of these")
    words = "what goes wrong around tailover, at each moment"
    trouble = commands.add_parser("troubles", parents=[world], help=words)
    trouble.add_argument("names", nargs="*", help="only those whose name contains one of these")
    trouble.add_argument("--moment", action="append", choices=list(troubles.MOMENTS), help="only then")
    trouble.add_argument(
        "--record", action="store_true", help="note the results; pass over those survived by this program"
    )
    bench.add(commands, world)
    test = commands.add_parser("test", parents=[world], help="run the scenarios")
    test.add_argument("names", nargs="*", help="only those whose name contains one of these")
    test.add_argument("--all", action="store_true", help="the rare ones too")
    test.add_argument("--list", action="store_true", help="name them and do nothing")
    test.add_argument("--labs", type=int, default=1, help="so many beside each other, which share the scenarios")
    return parser.parse_args()


def parts_of_doc():
    """The package's first line, for --help."""
    from . import __doc__ as text

    return text.splitlines()[0]


if __name__ == "__main__":
    main()
