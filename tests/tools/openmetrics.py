"""Strict readers of what monitoring is told: OpenMetrics 1.0, and the older text format of Prometheus.

Each returns {family: (type, [(name, labels, value)])} and raises Wrong at the first line that the format does
not allow. The rules: prometheus.io/docs/specs/om/open_metrics_spec and
prometheus.io/docs/instrumenting/exposition_formats.
"""

import math
import re

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
_SUFFIXES = {"gauge": [""], "counter": ["_total", "_created"], "info": ["_info"], "stateset": [""],
             "unknown": [""]}
_OLD = {"gauge", "counter", "untyped", "histogram", "summary"}


class Wrong(Exception):
    """The text is not of the format; says where and why."""


def read(text):
    """Reads OpenMetrics."""
    if not text.endswith("\n# EOF\n"):
        raise Wrong("it does not end in a line # EOF")
    families, told, current = {}, {}, None
    for number, line in enumerate(text.split("\n")[:-2], 1):
        try:
            if line == "# EOF":
                raise Wrong("more follows")
            if line.startswith("#"):
                current = _metadata(line, families, told, current)
            else:
                _sample(line, families, current)
        except Wrong as why:
            raise Wrong(f"line {number}: {why}: {line}") from None
    _names(families)
    for name, (kind, samples) in families.items():
        if kind == "stateset":
            _states(name, samples)
    return families


def _metadata(line, families, told, current):
    """A line TYPE, UNIT or HELP; returns the family that it belongs to."""
    match = re.fullmatch(r"# (TYPE|UNIT|HELP) (\S+) (.*)", line)
    if not match or not _NAME.fullmatch(match[2]):
        raise Wrong("no line of metadata")
    word, name, value = match.groups()
    if name != current:
        if name in families:
            raise Wrong("the family has ended before")
        families[name] = ("unknown", [])
        told[name] = set()
    if families[name][1]:
        raise Wrong("metadata after a sample")
    if word in told[name]:
        raise Wrong(f"{word} is told twice")
    told[name].add(word)
    if word == "TYPE":
        if value not in _SUFFIXES:
            raise Wrong("no type of OpenMetrics")
        families[name] = (value, [])
    if word == "UNIT" and (not name.endswith(f"_{value}") or families[name][0] in ("info", "stateset")):
        raise Wrong("the name does not end in the unit, or can have none")
    if word == "HELP" and not value.strip():
        raise Wrong("an empty help")
    return name


def _sample(line, families, current):
    name, labels, value = split(line)
    if current is None:
        raise Wrong("a sample of no family")
    kind, samples = families[current]
    if name not in [current + suffix for suffix in _SUFFIXES[kind]]:
        raise Wrong(f"no name of the {kind} {current}")
    if any(labels == other and name == named for named, other, _ in samples):
        raise Wrong("the same sample twice")
    if kind == "counter" and (value < 0 or math.isnan(value)):
        raise Wrong("a counter below 0")
    if kind == "info" and value != 1:
        raise Wrong("an info that is not 1")
    if kind == "stateset" and (value not in (0, 1) or current not in labels):
        raise Wrong("a state that is neither 0 nor 1, or without its label")
    samples.append((name, labels, value))


def split(line):
    """(name, labels, value) of a line with a sample, without a timestamp."""
    name = _NAME.match(line)
    if not name:
        raise Wrong("no name")
    rest, labels = line[name.end():], {}
    if rest.startswith("{"):
        rest = rest[1:]
        while not rest.startswith("}"):
            label = _LABEL.match(rest)
            if not label or label[1] in labels:
                raise Wrong("a wrong label, or one twice")
            labels[label[1]] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[2])
            rest = rest[label.end():]
            if rest.startswith(","):
                rest = rest[1:]
            elif not rest.startswith("}"):
                raise Wrong("no comma between labels")
        rest = rest[1:]
    if not re.fullmatch(r" -?\d+(\.\d+)?([eE][-+]?\d+)?", rest):
        raise Wrong("no value")
    return name[0], labels, float(rest)


def _names(families):
    """No name of a sample may be meant by two families."""
    meant = {}
    for name, (kind, _) in families.items():
        for suffix in {"", *_SUFFIXES[kind]}:
            if meant.setdefault(name + suffix, name) != name:
                raise Wrong(f"{name + suffix} is of {name} and of {meant[name + suffix]}")


def _states(name, samples):
    """Each set has the same states."""
    sets = {}
    for _, labels, value in samples:
        rest = tuple(sorted((key, text) for key, text in labels.items() if key != name))
        sets.setdefault(rest, {})[labels[name]] = value
    if len({tuple(sorted(states)) for states in sets.values()}) > 1:
        raise Wrong(f"{name}: sets with different states")


def read_old(text):
    """Reads Prometheus' text format, as the node exporter prints it: TYPE before the samples."""
    families, current = {}, None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                if name in families or kind not in _OLD or not _NAME.fullmatch(name):
                    raise Wrong("a family twice, or no type")
                families[name] = (kind, [])
                current = name
                continue
            name, labels, value = split(line)
            if name != current:
                raise Wrong("a sample of another family")
            if any(labels == other for _, other, _ in families[name][1]):
                raise Wrong("the same sample twice")
            families[name][1].append((name, labels, value))
        except (Wrong, ValueError) as why:
            raise Wrong(f"line {number}: {why}: {line}") from None
    return families
