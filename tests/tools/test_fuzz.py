"""tools/fuzz.py: what it makes of a run of libFuzzer, which a script plays here in its words."""

import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True

import fuzz  # noqa: E402

# A first run that broke off after 5 s on one input, as libFuzzer says it, and a second one to its end. An input
# alone, which is the last word, is what ALONE does.
PLAYED = """\
#!/bin/sh
for last; do :; done
found=$(dirname "$0")/found-input
if [ "$last" = "$found" ]; then ALONE; fi
if [ ! -e "$found" ]; then
    echo bytes > "$found"
    echo "#1 pulse cov: 40 ft: 50"
    echo "artifact_prefix='x/'; Test unit written to $found"
    echo "stat::number_of_executed_units: 300"
    exit 70
fi
echo "#2 pulse cov: 41 ft: 50"
echo "stat::number_of_executed_units: 500"
"""


class Hangs(unittest.TestCase):
    """An input that took long because the machine stood, and one that takes long."""

    def run_with(self, alone):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "played"
            program.write_text(PLAYED.replace("ALONE", alone))
            program.chmod(0o755)
            return fuzz.run(program, "stun", 30, False)

    def test_a_machine_that_stood_is_no_hang(self):
        row = self.run_with("exit 0")
        self.assertEqual((row["inputs"], row["reached"]), (800, 41))

    def test_an_input_that_takes_long_alone_is_one(self):
        with self.assertRaisesRegex(fuzz.Failed, "stun: code 70; the bytes are in"):
            self.run_with("exit 70")

    def test_an_input_that_ends_after_too_long_is_one(self):
        with mock.patch.object(fuzz, "HANG_S", 0.2), self.assertRaisesRegex(fuzz.Failed, "stun: code 70"):
            self.run_with("i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; exit 0")


if __name__ == "__main__":
    unittest.main()
