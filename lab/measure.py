"""Turns pings and observations into seconds. All times are monotonic seconds."""

import threading
import time

from .pinger import INTERVAL

# So many answered pings in a row make an answer steady: a whole second.
STEADY = 4


class Pings:
    """What lab/pinger.py wrote down. Reads the whole file anew at each question."""

    def __init__(self, file):
        self._file = file
        self._begin = 0

    def forget(self):
        """What was written so far is not looked at again."""
        self._begin = self._file.stat().st_size

    def history(self, family):
        """(sent, answered or None) of each ping, oldest first."""
        sent, answered = {}, {}
        try:
            with open(self._file, encoding="ascii") as log:
                log.seek(self._begin)
                lines = log.read().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            fields = line.split()
            if len(fields) != 4 or fields[1] != str(family):
                continue
            number = int(fields[2])
            if fields[0] == "s":
                sent[number] = float(fields[3])
            else:
                answered.setdefault(number, float(fields[3]))
        return [(when, answered.get(number)) for number, when in sorted(sent.items())]

    def back(self, since, family):
        """Seconds from `since` to the first steady answer, or None while there is none."""
        later = [ping for ping in self.history(family) if ping[0] >= since]
        for position in range(len(later) - STEADY + 1):
            if all(answer for _, answer in later[position : position + STEADY]):
                return later[position][1] - since
        return None

    def steady(self, family, seconds=1.0):
        """Whether every ping of the last `seconds` that could be answered was."""
        now = time.monotonic()
        # The newest may still be under way.
        span = [p for p in self.history(family) if now - seconds - 0.5 <= p[0] <= now - 0.5]
        return len(span) >= seconds / INTERVAL - 1 and all(answer for _, answer in span)

    def lost(self, since, until, family):
        """Seconds of that time whose pings were not answered, all together."""
        span = [answer for sent, answer in self.history(family) if since <= sent <= until]
        return span.count(None) * INTERVAL

    def worst_gap(self, since, until, family):
        """The longest time without an answered ping between the two instants.

        Counted from one answered ping to the next, by the times they were sent:
        without any loss that is the interval.
        """
        good = [sent for sent, answer in self.history(family) if answer and since <= sent <= until]
        marks = [since, *good, until]
        return max(later - earlier for earlier, later in zip(marks, marks[1:]))


class Watch:
    """Looks at the router's tailscaled every 50 ms, from a thread; or every `interval` seconds."""

    def __init__(self, node, isp_of):
        self.interval = 0.05
        self._node = node
        self._isp_of = isp_of
        self._seen = []
        self._pids = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self):
        """Ends the thread."""
        self._ending.set()
        self._thread.join(10)

    def forget(self):
        """What was seen so far is not looked at again, but for the last of it."""
        del self._seen[:-1], self._pids[:-1]

    def control_back(self, since, isp):
        """Seconds from `since` until control ran over that ISP and the node was
        online; None while it is not so."""
        for when, isps, online in list(self._seen):
            if when >= since and online and isp in isps:
                return when - since
        return None

    def control_now(self):
        """The ISPs that control runs over now, an empty set when it is not online."""
        for _, isps, online in self._seen[-1:]:
            if online:
                return isps
        return set()

    def restarts(self, since):
        """How often tailscaled's process has changed since then."""
        pids = [pid for _, pid in self._pids if pid]
        before = [pid for when, pid in self._pids if pid and when <= since][-1:]
        after = [pid for when, pid in self._pids if pid and when > since]
        return len(after) if before or not pids else max(0, len(after) - 1)

    def _loop(self):
        while not self._ending.wait(self.interval):
            pid = self._node.pid()
            if not self._pids or self._pids[-1][1] != pid:
                self._pids.append((time.monotonic(), pid))
            try:
                sources = self._node.control_sources()
            except (OSError, ValueError):
                # It ended between two looks.
                sources = set()
            isps = {self._isp_of(source) for source in sources} - {None}
            online = self._node.online()
            self._seen.append((time.monotonic(), isps, online))
