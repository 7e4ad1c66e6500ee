"""A set of byte ranges. Knows arithmetic; touches nothing."""

from bisect import bisect_left, bisect_right


class Spans:
    """Half-open ranges, kept apart and in order; made for pieces that mostly come one by one."""

    __slots__ = ("_begins", "_ends")

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def add(self, begin: int, end: int) -> None:
        """Add [begin, end)."""
        if begin >= end:
            return
        if self._ends and begin == self._ends[-1]:
            self._ends[-1] = end
            return
        first = bisect_left(self._ends, begin)
        last = bisect_right(self._begins, end)
        if first < last:
            begin = min(begin, self._begins[first])
            end = max(end, self._ends[last - 1])
        self._begins[first:last] = [begin]
        self._ends[first:last] = [end]

    def overlap(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of [begin, end) that are in the set."""
        if begin >= end or not self._ends or begin >= self._ends[-1]:
            return []
        first = bisect_right(self._ends, begin)
        last = bisect_left(self._begins, end)
        return [(max(begin, self._begins[i]), min(end, self._ends[i])) for i in range(first, last)]

    def missing(self, size: int) -> list[tuple[int, int]]:
        """Return the parts of [0, size) that are not in the set."""
        gaps = []
        at = 0
        for begin, end in zip(self._begins, self._ends, strict=True):
            if at < begin:
                gaps.append((at, min(begin, size)))
            at = end
        if at < size:
            gaps.append((at, size))
        return gaps

    def covers(self, size: int) -> bool:
        """Tell whether [0, size) is in the set."""
        return size == 0 or (self._begins[:1] == [0] and self._ends[0] >= size)
