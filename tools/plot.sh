#!/bin/sh
# Prints the Python that has the plotting library, in an environment of its own below target. Only drawing
# docs/benchmark.svg anew needs it; nothing that is shipped or tested does.
set -eu
cd "$(dirname "$0")/.."

version=3.11.2
folder="target/plot-$version"
if [ ! -e "$folder/done" ]; then
	python3 -m venv "$folder" >&2
	"$folder/bin/pip" install --quiet --disable-pip-version-check "matplotlib==$version" >&2
	touch "$folder/done"
fi
echo "$PWD/$folder/bin/python3"
