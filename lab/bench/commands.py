"""`lab bench` on the command line."""

from . import growth, page
from .scenarios import BY_KEY as SCENARIOS
from .tracker import DETECTION
from .treatments import BY_KEY as TREATMENTS


def add(commands, world):
    """Adds the subcommand; `world` has the options of all that bring the lab up."""
    bench = commands.add_parser("bench", parents=[world], help="side by side with what people use today")
    bench.add_argument("treatments", nargs="*", metavar="TREATMENT", help=f"of {', '.join(TREATMENTS)}")
    bench.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only these")
    bench.add_argument("--detection", action="append", choices=list(DETECTION), help="mwan3's")
    bench.add_argument("-n", type=int, help="runs of each cell (default: 3, short 1)")
    bench.add_argument("--short", action="store_true", help="a few cells, once, in a quarter of an hour")
    bench.add_argument("--record", action="store_true", help="into docs/benchmark.csv; what is there is passed over")
    bench.add_argument("--labs", type=int, default=1, help="so many beside each other, each with a share of the runs")
    bench.add_argument("--watching", type=float, metavar="SECONDS", help="only what watching costs, for so long")
    for name, text in (
        ("page", "make docs/benchmark.md and its picture of the tables, and nothing else"),
        ("growth", "how cost grows: benches/growth under valgrind, into docs/benchmark-cost.csv"),
        ("check", "whether they are what the tables say"),
    ):
        bench.add_argument(f"--{name}", dest="paper", action="store_const", const=name, help=text)


def paper(options):
    """What needs no lab: the page, its check, how cost grows. Returns the exit code."""
    if options.paper == "growth":
        return growth.measure(print)
    return page.write() if options.paper == "page" else page.check()
