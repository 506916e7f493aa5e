"""Draws docs/benchmark.svg; run as a program by the Python that has the plotting library."""

import io
import re

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402

from . import page, picture_data, record  # noqa: E402
from .scenarios import BY_KEY as SCENARIO  # noqa: E402
from .treatments import TREATMENTS  # noqa: E402

# Words stay words, names of parts stay the same from one drawing to the next.
matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "tailover", "font.family": "sans-serif", "font.size": 9,
})

# Of every remedy its place within a scenario's row, its colour in both themes, its mark. The colours are those of
# Okabe and Ito, which differ for every eye; the marks tell what they leave.
_COLOURS = [
    "#888888", "#d55e00", "#e69f00", "#b8860b", "#cc79a7", "#a0522d", "#56b4e9", "#3aa6a0", "#0a9e5a", "#7a7ae0",
]
_MARKS = ["o", "s", "^", "v", "D", "P", "X", "<", "*", ">"]
_SHIPPED = "tailover"

# Text, axes and grid by theme: matplotlib writes one colour, and a rule of CSS takes its place.
_INK, _SOFT = "#123456", "#345612"
_STYLE = """<style>
 .ink { fill: #24292f; stroke: none } .line { stroke: #8c959f } .soft { stroke: #d0d7de }
 @media (prefers-color-scheme: dark) {
  .ink { fill: #e6edf3 } .line { stroke: #9da7b1 } .soft { stroke: #30363d }
 }
</style>"""

# Where a tailnet stands that never came back.
_NEVER = 480

_WIDTH, _ROW, _FRAME = 10.0, 0.42, 1.5


def draw(rows):
    """The picture as SVG."""
    panels = [(d, picture_data.points(rows, d)) for d in ("fast", "default")]
    panels = [(detection, lines) for detection, lines in panels if lines]
    heights = [len(lines) for _, lines in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, squeeze=False, figsize=(_WIDTH, _ROW * sum(heights) + _FRAME * len(panels)),
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )
    for (detection, lines), axis in zip(panels, axes[:, 0]):
        _panel(axis, detection, lines)
    axes[0, 0].legend(
        handles=[_handle(number) for number in range(len(TREATMENTS))], loc="lower center", ncols=3,
        bbox_to_anchor=(0.4, 1.0 + 0.55 / (_ROW * heights[0])), frameon=False, labelcolor=_INK,
    )
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(text.getvalue(), picture_data.note(rows))


def _handle(number):
    return pyplot.Line2D([], [], color=_COLOURS[number], marker=_MARKS[number], linestyle="",
                         markersize=_size(TREATMENTS[number].key), label=TREATMENTS[number].title)


def _size(key):
    return 11 if key == _SHIPPED else 6


def _panel(axis, detection, lines):
    """One kind of tracking: a row for each scenario, a mark for each remedy."""
    order = {treatment.key: number for number, treatment in enumerate(TREATMENTS)}
    for place, (_, found) in enumerate(lines):
        for key, median, least, most, never in found:
            number = order[key]
            level = place + (number - (len(order) - 1) / 2) * 0.08
            if never:
                median = _NEVER
            elif least != most:
                axis.plot([least, most], [level, level], color=_COLOURS[number], linewidth=1.2)
            axis.plot([median], [level], color=_COLOURS[number], marker=_MARKS[number], linestyle="",
                      markersize=_size(key), zorder=3 if key == _SHIPPED else 2)
    axis.set_yticks(range(len(lines)), [SCENARIO[key].title for key, _ in lines])
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.set_xscale("symlog", linthresh=2)
    axis.set_xlim(-0.15, 700)
    ticks = [0, 1, 2, 5, 10, 20, 50, 100, 200]
    axis.set_xticks([*ticks, _NEVER], [*map(str, ticks), "never"])
    axis.minorticks_off()
    axis.set_title(f"Seconds without the tailnet, mwan3's tracking {detection}", color=_INK, fontsize=10, loc="left")
    axis.tick_params(colors=_SOFT, labelcolor=_INK)
    axis.grid(axis="x", color=_SOFT, linewidth=0.6)
    for spine in axis.spines.values():
        spine.set_color(_SOFT)


def _themed(text, note):
    """The colours of ink and lines by class instead, the note, and no fixed size."""
    for colour, name in ((_INK, "ink"), (_SOFT, "soft")):
        def of_class(found, name=name, colour=colour):
            return f'class="{name}" style="{_without(found[1], colour)}"'

        text = re.sub(f'style="([^"]*{colour}[^"]*)"', of_class, text)
    text = re.sub(r"(<svg [^>]*?) (?:height|width)=\"[^\"]*\"", r"\1", text, count=1)
    text = re.sub(r"(<svg [^>]*?) (?:height|width)=\"[^\"]*\"", r"\1", text, count=1)
    head, rest = text.split("<defs>", 1)
    lines = (head + f"<!-- {note} -->\n{_STYLE}\n<defs>" + rest).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _without(style, colour):
    kept = [part for part in style.split(";") if colour not in part]
    return ";".join(kept).strip()


if __name__ == "__main__":
    page.PICTURE.write_text(draw(record.read()), encoding="utf-8")
    print(f"bench: {page.PICTURE.relative_to(record.TREE)} is drawn")
