"""What a server costs, seen from outside: processor time and memory of it and its children."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def family(roots: Sequence[int]) -> list[int]:
    """Return the processes that live among `roots` and their descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                parents[int(entry.name)] = int(fields[1])
    found = [pid for pid in roots if pid in parents]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_of(roots: Sequence[int]) -> float:
    """Return the processor seconds used by `roots`, their descendants, and those that ended.

    Descendants that ended count once their parent has waited for them.
    """
    ticks = 0
    for pid in family(roots):
        ticks += sum(map(int, _stat(pid)[11:15] or [0]))
    return ticks / _TICK


def rss_of(roots: Sequence[int]) -> int:
    """Return the resident bytes of `roots` and their descendants, shared pages each time."""
    total = 0
    for pid in family(roots):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


class PeakRss:
    """``with PeakRss(pids) as peak: …``; `peak.bytes` is the highest sum seen, ten times a second.

    For a server of one process ask the kernel instead (`measure.peak_rss`), which misses nothing.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self.bytes = 0
        self._roots = roots
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            self.bytes = max(self.bytes, rss_of(self._roots))

    def __enter__(self) -> "PeakRss":
        self.bytes = rss_of(self._roots)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
