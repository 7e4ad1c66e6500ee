"""One lock per slot: writers alone, readers together, in the order in which they came.

Knows storage indexes and Deferreds; touches nothing. The lock spans map, download and publish, so
no two jobs of this process meet on a slot; what other processes do, the test vectors of each write
find out. Nobody who holds a slot's lock may wait for another slot's.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred


@dataclass(slots=True)
class _Slot:
    readers: int = 0
    writing: bool = False
    waiting: deque[tuple[bool, Deferred[None]]] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not (self.readers or self.writing or self.waiting)

    def may_enter(self, *, alone: bool) -> bool:
        return not self.writing and not (alone and self.readers)

    def enter(self, *, alone: bool) -> None:
        if alone:
            self.writing = True
        else:
            self.readers += 1

    def admit(self) -> None:
        """Let in whoever stands first, and readers right behind a reader."""
        while self.waiting and self.may_enter(alone=self.waiting[0][0]):
            alone, turn = self.waiting.popleft()
            self.enter(alone=alone)
            turn.callback(None)


class SlotLocks:
    """The locks of all slots that somebody uses or waits for."""

    def __init__(self) -> None:
        self._slots: dict[bytes, _Slot] = {}

    def __len__(self) -> int:
        """Return the number of slots in use."""
        return len(self._slots)

    @asynccontextmanager
    async def hold(self, storage_index: bytes, *, alone: bool) -> AsyncIterator[None]:
        """Hold a slot, alone (to write) or with other readers; cancelling stops the waiting."""
        slot = self._slots.setdefault(storage_index, _Slot())
        if not slot.waiting and slot.may_enter(alone=alone):
            slot.enter(alone=alone)
        else:
            await self._turn(storage_index, slot, alone=alone)
        try:
            yield
        finally:
            if alone:
                slot.writing = False
            else:
                slot.readers -= 1
            slot.admit()
            self._forget(storage_index, slot)

    def _turn(self, storage_index: bytes, slot: _Slot, *, alone: bool) -> Deferred[None]:
        """Return a Deferred that fires when the slot is held."""

        def give_up(turn: Deferred[None]) -> None:
            slot.waiting.remove((alone, turn))
            slot.admit()
            self._forget(storage_index, slot)

        turn: Deferred[None] = Deferred(give_up)
        slot.waiting.append((alone, turn))
        return turn

    def _forget(self, storage_index: bytes, slot: _Slot) -> None:
        if slot.idle and self._slots.get(storage_index) is slot:
            del self._slots[storage_index]
