"""Every command that the documents show has a test that runs it, or a reason why none can."""

import json
import re
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True

from lab import __main__ as lab_words  # noqa: E402
from lab import documented  # noqa: E402

INIT = ROOT / "openwrt/net/tailover/files/etc/init.d/tailover"
# What rc.common gives every service.
RC_COMMON = {"start", "stop", "restart", "reload", "enable", "disable", "enabled", "running", "status"}
# OpenWrt's own programs, which no Debian has. What ours answers to them is in the tests named here.
OPENWRTS = {
    "opkg": "tests/tools/test_packages.py, with the real one where it is",
    "apk": "tests/tools/test_apk.py, with the real one where it is",
    "uci": "tests/shell/init.sh and src/config: the same options as a file",
    "logread": "logd's reader; tests/log_lines.rs has the lines" if (ROOT / "tests/log_lines.rs").exists()
               else "logd's reader",
    "reload_config": "procd's; the reload itself is in tests/shell/init.sh",
    "ubus": "lab/doubles/tests: the daemon's object by the same protocol",
}
# Words of a session that is shown, of the shell and of every router.
SHELL = {"echo", "cat", "wget"}


def fill(command):
    """A make command's words with the dots of a synopsis filled in."""
    return command.replace("TARGET=...", "TARGET=mips-unknown-linux-musl").replace("…", "")


class ThreatModel(unittest.TestCase):
    """Each line of the threat model names what shows it, and that is there."""

    TEXT = (ROOT / "docs/threat-model.md").read_text()

    def test_each_line_of_the_table_has_a_test(self):
        head = "| who | what they could gain | what stops them | shown by |"
        lines = self.TEXT[self.TEXT.index(head):].splitlines()[2:]
        rows = [line for line in lines[:lines.index("")] if line.startswith("|")]
        self.assertGreaterEqual(len(rows), 20)
        for row in rows:
            shown = row.rstrip(" |").rsplit(" | ", 1)[1]
            self.assertRegex(shown, r"^`[^`]+::[^`]+`(, `[^`]+::[^`]+`)*$", row)

    def test_what_is_named_is_there(self):
        named = set(re.findall(r"`([\w./-]+)::([^`]+)`", self.TEXT))
        self.assertGreaterEqual(len(named), 40)
        for place, name in sorted(named):
            with self.subTest(f"{place}::{name}"):
                self.assertTrue(self.there(place, name), f"there is no {name} in {place}")

    def test_the_capabilities_of_the_page_are_those_that_procd_gives(self):
        head = "| capability | for | without it |"
        lines = self.TEXT[self.TEXT.index(head):].splitlines()[2:]
        named = sorted(line.split(" | ", 1)[0].strip("| ") for line in lines[:lines.index("")])
        given = json.loads((INIT.parents[1] / "capabilities/tailover.json").read_text())
        self.assertEqual(given.pop("ambient"), [])
        self.assertEqual(set(given), {"bounding", "effective", "permitted", "inheritable"})
        for kind, rights in given.items():
            self.assertEqual(sorted(rights), named, kind)

    @staticmethod
    def there(place, name):
        if place == "lab":
            texts = [path.read_text() for path in (ROOT / "lab").glob("*.py")]
            return any(f"def {name}(world" in text for text in texts) and any(f".{name}," in text for text in texts)
        if place == "fuzz":
            return f'("{name}",' in (ROOT / "src/hostile.rs").read_text()
        text = (ROOT / place).read_text() if (ROOT / place).is_file() else ""
        if place.endswith(".rs"):
            return re.search(rf"\bfn {name}\(", text) is not None
        return name in text

    def test_a_name_that_is_not_there_is_noticed(self):
        for place, name in (("lab", "no_such"), ("fuzz", "none"), ("tests/cli.rs", "no_such"), ("no/such.rs", "x")):
            self.assertFalse(self.there(place, name), place)


class Documents(unittest.TestCase):
    def setUp(self):
        self.commands = documented.commands(ROOT)

    def of(self, program):
        found = [(f"{page}:{line}", command) for page, line, command in self.commands
                 if command.split()[0] == program]
        self.assertTrue(found, f"the documents show no command of {program}")
        return found

    def test_each_command_is_of_a_kind_that_is_tested(self):
        for page, line, command in self.commands:
            program = command.split()[0]
            known = program in ("tailover", "make", "service", "python3", *OPENWRTS, *SHELL)
            self.assertTrue(known or program.startswith("tools/"),
                            f"{page}:{line}: nothing tests `{command}`: add it to tests/tools/test_documents.py")

    def test_make_knows_each_target(self):
        for where, command in self.of("make"):
            done = subprocess.run(["make", "-n", "-C", ROOT, *fill(command).split()[1:]], capture_output=True,
                                  text=True)
            self.assertEqual(done.returncode, 0, f"{where}: {command}: {done.stderr}")

    def test_tools_are_there(self):
        for page, line, command in self.commands:
            if command.startswith("tools/"):
                path = ROOT / command.split()[0]
                self.assertTrue(path.exists(), f"{page}:{line}: {command}")

    def test_the_lab_understands_its_commands(self):
        for where, command in self.of("python3"):
            words = command.split()
            self.assertEqual(words[1:3], ["-m", "lab"], where)
            rest = [word for word in re.sub(r"\[[^]]*\]", "", " ".join(words[3:])).split() if word != "…"]
            if rest:
                with mock.patch.object(sys, "argv", ["lab", *rest]):
                    self.assertEqual(lab_words._arguments().command, rest[0], where)

    def test_the_service_has_each_command(self):
        known = RC_COMMON | set(re.findall(r"^extra_command \"(\w+)\"", INIT.read_text(), re.MULTILINE))
        for where, command in self.of("service"):
            words = re.sub(r"[|…]", " ", command).split()
            if words[1] == "tailover":
                for word in words[2:]:
                    self.assertIn(word, known, f"{where}: {command}")

    def test_a_synopsis_is_spelled_out_in_every_way(self):
        self.assertEqual(list(documented.spelled_out("tailover drill UPLINK [--seconds N]")),
                         [["tailover", "drill", "wan"], ["tailover", "drill", "wan", "--seconds", "2"]])
        self.assertEqual(len(list(documented.spelled_out("tailover x [-a] [-b]"))), 4)


if __name__ == "__main__":
    unittest.main()
