"""Reading a short range into memory. Knows the consumer calls of Twisted; touches nothing else."""

from typing import Protocol

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from truckee.core.errors import DownloadError


class Source(Protocol):
    """Anything that writes a range of itself to a consumer (core.interfaces.Readable fits)."""

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range to `consumer`."""
        ...


@implementer(IConsumer)
class _Collector:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Let it run: the range is short."""

    def unregisterProducer(self) -> None:
        """Nothing was kept."""

    def write(self, data: bytes) -> None:
        """Keep `data`."""
        self.chunks.append(data)


async def read_range(source: Source, offset: int, size: int) -> bytes:
    """Return exactly `size` bytes at `offset`; raise DownloadError if the source gives others."""
    collector = _Collector()
    await source.read(collector, offset, size)
    chunks = collector.chunks
    data = bytes(chunks[0]) if len(chunks) == 1 else b"".join(chunks)
    if len(data) != size:
        raise DownloadError(f"{len(data)} bytes came where {size} were asked for")
    return data
