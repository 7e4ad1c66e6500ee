"""What every benchmark shares: a stopwatch for wall and processor time, medians, tables.

Figures are compared within one run only; the second core of a shared machine can vanish, so
processor seconds stand beside every wall time.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MB = 1_000_000


@dataclass
class Sample:
    """One measured stretch: seconds on the wall and of the processor (this process)."""

    wall: float
    cpu: float


class Stopwatch:
    """``with Stopwatch() as w: …``; afterwards `w.sample`."""

    def __enter__(self) -> "Stopwatch":
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.sample = Sample(time.perf_counter() - self._wall, time.process_time() - self._cpu)


@dataclass
class Row:
    """One line of the results."""

    item: str
    figure: str
    against: str = ""
    ratio: str = ""
    gate: str = ""
    reached: bool | None = None


@dataclass
class Report:
    """Collects rows and prints them as they come."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        mark = {None: "", True: "reached", False: "NOT reached"}[row.reached]
        print(
            f"{row.item:46} {row.figure:34} {row.against:34} {row.ratio:>8} {row.gate:>10} {mark}"
        )

    def note(self, text: str) -> None:
        self.notes.append(text)
        print("  " + text)


def rates(samples: list[Sample], size: int) -> str:
    """Return ``median MB/s (lo..hi), CPU s/GB`` of transfers of `size` bytes."""
    speeds = sorted(size / MB / s.wall for s in samples)
    cpu = statistics.median(s.cpu for s in samples) / (size / 1e9)
    middle = statistics.median(speeds)
    return f"{middle:.0f} MB/s ({speeds[0]:.0f}..{speeds[-1]:.0f}), {cpu:.1f} CPU s/GB"


def median_wall(samples: list[Sample]) -> float:
    """Return the median wall time, seconds."""
    return statistics.median(s.wall for s in samples)


def interleave(rounds: int, *subjects: Callable[[], Sample]) -> list[list[Sample]]:
    """Run A B C A B C …; return one list of samples for each subject."""
    taken: list[list[Sample]] = [[] for _ in subjects]
    for _ in range(rounds):
        for i, subject in enumerate(subjects):
            taken[i].append(subject())
    return taken


def peak_rss(pid: int | str = "self") -> int:
    """Return the highest resident size of a process so far, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_of(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def random_file(path: Path, size: int) -> Path:
    """Write `size` random bytes to the disk, and leave them in the page cache too."""
    with path.open("wb") as f:
        left = size
        while left > 0:
            left -= f.write(os.urandom(min(left, 1 << 22)))
        f.flush()
        os.fsync(f.fileno())  # or its way to the disk would be measured, too
    return path
