"""Sets of byte ranges. Pure; knows integers alone.

A set is kept as sorted, disjoint, non-touching half-open ranges in two lists, so that memory goes
with the number of holes, never with sizes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Range = tuple[int, int]


class IntervalSet:
    """A set of integers made of half-open ranges `start` <= i < `end`."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[Range]:
        """Give the ranges in order."""
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._starts)

    def __repr__(self) -> str:
        return f"<IntervalSet {len(self)} ranges, {self.total} long>"

    @property
    def total(self) -> int:
        """Return how many integers are in the set."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> int:
        """Put the range in; return how many of its integers are new."""
        if start >= end:
            return 0
        if self._ends and self._ends[-1] == start:  # the usual case: the next piece in sequence
            self._ends[-1] = end
            return end - start
        first = bisect_left(self._ends, start)  # the first range that touches or follows
        last = bisect_right(self._starts, end)  # one beyond the last that touches
        if first == last:
            self._starts.insert(first, start)
            self._ends.insert(first, end)
            return end - start
        held = sum(self._ends[first:last]) - sum(self._starts[first:last])
        low = min(start, self._starts[first])
        high = max(end, self._ends[last - 1])
        self._starts[first:last] = [low]
        self._ends[first:last] = [high]
        return high - low - held

    def cut(self, limit: int) -> int:
        """Take out everything from `limit` on; return how many integers that were."""
        keep = bisect_left(self._starts, limit)
        gone = sum(self._ends[keep:]) - sum(self._starts[keep:])
        del self._starts[keep:], self._ends[keep:]
        if keep and self._ends[-1] > limit:
            gone += self._ends[-1] - limit
            self._ends[-1] = limit
        return gone

    def covers(self, start: int, end: int) -> bool:
        """Return whether the whole range is in the set."""
        if start >= end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._ends[at] >= end

    def within(self, start: int, end: int) -> list[Range]:
        """Return the parts of the range that are in the set."""
        parts = []
        at = bisect_right(self._ends, start)
        while at < len(self._starts) and self._starts[at] < end:
            parts.append((max(start, self._starts[at]), min(end, self._ends[at])))
            at += 1
        return parts

    def missing(self, start: int, end: int) -> list[Range]:
        """Return the parts of the range that are not in the set."""
        gaps = []
        for low, high in self.within(start, end):
            if start < low:
                gaps.append((start, low))
            start = high
        if start < end:
            gaps.append((start, end))
        return gaps
