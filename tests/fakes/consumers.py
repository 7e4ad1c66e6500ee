"""Consumers for reader tests: one that gathers, and may pause or stop after so many bytes."""

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer


@implementer(IConsumer)
class GatheringConsumer:
    """Keeps what it is given; `on_write` is called after each piece."""

    def __init__(self, on_write: Callable[["GatheringConsumer"], None] | None = None) -> None:
        self.pieces = []
        self.producer = None
        self.registered = 0
        self.unregistered = 0
        self._on_write = on_write

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def registerProducer(self, producer, streaming) -> None:
        assert streaming
        self.producer = producer
        self.registered += 1

    def unregisterProducer(self) -> None:
        self.unregistered += 1

    def write(self, data) -> None:
        assert type(data) is bytes
        assert self.registered == 1
        assert self.unregistered == 0
        self.pieces.append(data)
        if self._on_write is not None:
            self._on_write(self)
