"""The last decoded segments of all readers, bounded in bytes, the oldest forgotten first.

Knows plaintext pieces; touches nothing.
"""

from collections import OrderedDict

from truckee.core.download.decode import Plaintext

_ENTRY = 512  # bytes that an entry costs beside its contents


class KeptSegments:
    """Decoded segments by owner and number."""

    def __init__(self, max_bytes: int) -> None:
        """Take the bound; a segment that exceeds it alone is not kept."""
        self._max_bytes = max_bytes
        self._segments: OrderedDict[tuple[int, int], tuple[Plaintext, int]] = OrderedDict()
        self._by_owner: dict[int, set[int]] = {}
        self._owners = 0
        self.size = 0

    def new_owner(self) -> int:
        """Return a number for a reader, never given out twice: an entry may outlive its owner."""
        self._owners += 1
        return self._owners

    def get(self, owner: int, segnum: int) -> Plaintext | None:
        """Return a segment, or None when it is not here."""
        entry = self._segments.get((owner, segnum))
        if entry is None:
            return None
        self._segments.move_to_end((owner, segnum))
        return entry[0]

    def put(self, owner: int, segnum: int, plaintext: Plaintext) -> None:
        """Keep a segment; others may go."""
        size = sum(map(len, plaintext)) + _ENTRY
        if size > self._max_bytes:
            return
        self._remove((owner, segnum))
        self._segments[owner, segnum] = (plaintext, size)
        self._by_owner.setdefault(owner, set()).add(segnum)
        self.size += size
        while self.size > self._max_bytes:
            self._remove(next(iter(self._segments)))

    def drop(self, owner: int) -> None:
        """Forget everything of one owner."""
        for segnum in list(self._by_owner.get(owner, ())):
            self._remove((owner, segnum))

    def _remove(self, key: tuple[int, int]) -> None:
        entry = self._segments.pop(key, None)
        if entry is None:
            return
        self.size -= entry[1]
        segnums = self._by_owner[key[0]]
        segnums.discard(key[1])
        if not segnums:
            del self._by_owner[key[0]]
