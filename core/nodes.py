"""Files as frontends see them: literal, immutable, mutable.

Knows capabilities and the engines that read and write shares (`Engines`); touches nothing but
through them. Making a node never uses the network.
"""

from typing import Protocol

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from truckee.core.download.reader import FileReader
from truckee.core.errors import BadURIError, DownloadStopped, FileTooLargeError, NotWriteableError
from truckee.core.formats import links
from truckee.core.formats.caps import (
    Cap,
    ChkReadCap,
    ChkVerifyCap,
    LitCap,
    MdmfReadCap,
    MdmfWriteCap,
    SdmfWriteCap,
)
from truckee.core.formats.links import KnownCap
from truckee.core.interfaces import Modifier, Readable, Uploadable
from truckee.core.mutable.context import MutableCap
from truckee.core.mutable.file import MutableFile, MutableVersion

SDMF_VERSION = 0
MDMF_VERSION = 1
MAX_SDMF_SIZE = 64 * 2**20

_READ_PIECE = 2**20


class Engines(Protocol):
    """Where nodes get the engine for a capability."""

    def reader(self, cap: ChkReadCap) -> FileReader:
        """Return what reads an immutable file."""
        ...

    def mutable(self, cap: MutableCap) -> MutableFile:
        """Return what reads and writes a mutable file."""
        ...


class Node:
    """What all nodes with a known capability have in common."""

    __slots__ = ("__weakref__", "_cap")

    def __init__(self, cap: KnownCap) -> None:
        """Take the strongest capability."""
        self._cap = cap

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._cap!r}>"

    def get_cap(self) -> Cap:
        """Return the strongest capability."""
        return self._cap

    def get_readcap(self) -> Cap:
        """Return the capability to read."""
        return self._cap.read_cap()

    def get_verify_cap(self) -> Cap | None:
        """Return the capability to check shares; None without shares."""
        return self._cap.verify_cap()

    def get_repair_cap(self) -> Cap | None:
        """Return what a repair needs; None without shares, and for a read-only mutable."""
        if self._cap.is_mutable:
            return self._cap.write_cap()
        return self._cap.verify_cap()

    def get_uri(self) -> bytes:
        """Return the text of the strongest capability."""
        return self._cap.text.encode("ascii")

    def get_write_uri(self) -> bytes | None:
        """Return the text of the write capability, or None."""
        return links.write_text(self._cap)

    def get_readonly_uri(self) -> bytes:
        """Return the text of the read capability."""
        return self._cap.read_cap().text.encode("ascii")

    def get_storage_index(self) -> bytes | None:
        """Return the 16-byte storage index; None without shares."""
        return self._cap.storage_index

    def is_readonly(self) -> bool:
        """Tell whether this capability only reads."""
        return self._cap.is_readonly

    def is_mutable(self) -> bool:
        """Tell whether the contents may change."""
        return self._cap.is_mutable

    def is_unknown(self) -> bool:
        """Return False."""
        return False

    def is_allowed_in_immutable_directory(self) -> bool:
        """Tell whether an immutable directory may link here."""
        return not self._cap.is_mutable

    def raise_error(self) -> None:
        """Do nothing: a known capability carries no error."""


@implementer(IPushProducer)
class _Bytes:
    """Stands for bytes that are at hand: written in one go, unless the consumer stops first."""

    def __init__(self) -> None:
        self.stopped = False

    def pauseProducing(self) -> None:
        """Nothing more will come."""

    def resumeProducing(self) -> None:
        """Nothing more will come."""

    def stopProducing(self) -> None:
        """Remember that the consumer wants no more."""
        self.stopped = True


def deliver(consumer: IConsumer, data: bytes) -> IConsumer:
    """Write all of `data` as the one delivery of a producer; raise DownloadStopped."""
    if data:
        producer = _Bytes()
        consumer.registerProducer(producer, True)
        try:
            if not producer.stopped:
                consumer.write(data)
        finally:
            consumer.unregisterProducer()
        if producer.stopped:
            raise DownloadStopped("the consumer stopped")
    return consumer


def clip(total: int, offset: int, size: int | None) -> tuple[int, int]:
    """Return the part of a range that lies within `total` bytes, as (offset, length)."""
    start = min(max(offset, 0), total)
    stop = total if size is None else min(total, start + max(size, 0))
    return start, stop - start


class LiteralFile(Node):
    """A file whose contents stand in the capability."""

    __slots__ = ("_data",)

    def __init__(self, cap: LitCap) -> None:
        """Take the capability."""
        super().__init__(cap)
        self._data = cap.data

    def get_size(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    async def get_current_size(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    async def get_size_of_best_version(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    async def get_best_readable_version(self) -> Readable:
        """Return itself."""
        return self

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range to the consumer; raise DownloadStopped."""
        start, length = clip(len(self._data), offset, size)
        return deliver(consumer, self._data[start : start + length])

    async def download_to_data(self) -> bytes:
        """Return the contents."""
        return self._data

    async def download_best_version(self) -> bytes:
        """Return the contents."""
        return self._data


class ImmutableFile(Node):
    """A file in shares that never changes."""

    __slots__ = ("_chk", "_engines")

    def __init__(self, cap: ChkReadCap, engines: Engines) -> None:
        """Take the capability and where its reader comes from."""
        super().__init__(cap)
        self._chk = cap
        self._engines = engines

    def get_size(self) -> int:
        """Return the number of bytes that the capability claims."""
        return self._chk.size

    async def get_current_size(self) -> int:
        """Return the number of bytes that the capability claims."""
        return self._chk.size

    async def get_size_of_best_version(self) -> int:
        """Return the number of bytes that the capability claims."""
        return self._chk.size

    async def get_best_readable_version(self) -> Readable:
        """Return itself."""
        return self

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range to the consumer; raise a DownloadError."""
        start, length = clip(self._chk.size, offset, size)
        if not length:
            return consumer
        return await self._engines.reader(self._chk).read(consumer, start, length)

    async def download_to_data(self) -> bytes:
        """Return the contents, all in memory; raise a DownloadError."""
        return await self._engines.reader(self._chk).read_range(0, self._chk.size)

    async def download_best_version(self) -> bytes:
        """Return the contents, all in memory; raise a DownloadError."""
        return await self.download_to_data()


class CiphertextNode(Node):
    """The verify capability of an immutable file: it can be checked, not read and not linked."""

    __slots__ = ("_verify",)

    def __init__(self, cap: ChkVerifyCap) -> None:
        """Take the capability."""
        super().__init__(cap)
        self._verify = cap

    def get_size(self) -> int:
        """Return the number of bytes that the capability claims."""
        return self._verify.size

    async def get_current_size(self) -> int:
        """Return the number of bytes that the capability claims."""
        return self._verify.size

    def is_allowed_in_immutable_directory(self) -> bool:
        """Return False."""
        return False

    def raise_error(self) -> None:
        """Raise BadURIError: this is nothing that a directory could hold."""
        raise BadURIError("a verify capability cannot be linked")


async def read_all(contents: bytes | Uploadable, maximum: int | None) -> bytes:
    """Return the contents in one piece and close their source; raise FileTooLargeError."""
    if isinstance(contents, bytes):
        if maximum is not None and len(contents) > maximum:
            raise FileTooLargeError("a mutable file of this kind cannot be so large")
        return contents
    try:
        size = await contents.get_size()
        if maximum is not None and size > maximum:
            raise FileTooLargeError("a mutable file of this kind cannot be so large")
        pieces: list[bytes | bytearray | memoryview] = []
        left = size
        while left > 0:
            new = await contents.read(min(left, _READ_PIECE))
            got = sum(len(piece) for piece in new)
            if not got:
                break
            pieces.extend(bytes(piece) for piece in new)
            left -= got
        return b"".join(pieces)
    finally:
        await contents.close()


class MutableFileNode(Node):
    """A mutable file. One node per capability is alive in a client, so its size is remembered."""

    __slots__ = ("_engine", "_file_cap", "_size")

    def __init__(self, cap: MutableCap, engines: Engines) -> None:
        """Take the capability and where its engine comes from."""
        super().__init__(cap)
        self._file_cap = cap
        self._engine = engines.mutable(cap)
        self._size: int | None = None

    def get_writekey(self) -> bytes | None:
        """Return the 16-byte write key, or None."""
        cap = self._file_cap
        return cap.writekey if isinstance(cap, SdmfWriteCap | MdmfWriteCap) else None

    def get_version(self) -> int:
        """Return 0 for SDMF, 1 for MDMF."""
        is_mdmf = isinstance(self._file_cap, MdmfWriteCap | MdmfReadCap)
        return MDMF_VERSION if is_mdmf else SDMF_VERSION

    def get_size(self) -> int | None:
        """Return the size last seen, or None."""
        return self._size

    async def get_current_size(self) -> int | None:
        """Return the size of the best version; raise UnrecoverableFileError."""
        return await self.get_size_of_best_version()

    async def get_size_of_best_version(self) -> int:
        """Return the size of the best version; raise UnrecoverableFileError."""
        return (await self._best()).size

    async def get_best_readable_version(self) -> "MutableFileVersion":
        """Return the best version, which reads the same whatever is written later."""
        return MutableFileVersion(self, self._engine, await self._best())

    async def get_best_mutable_version(self) -> "MutableFileVersion":
        """Return the best version; changes through it are changes of the file."""
        return await self.get_best_readable_version()

    async def download_best_version(self) -> bytes:
        """Return the contents; raise UnrecoverableFileError or another DownloadError."""
        data = await self._engine.download()
        self._size = len(data)
        return data

    async def overwrite(self, contents: bytes | Uploadable) -> None:
        """Publish new contents; raise NotWriteableError, FileTooLargeError, UploadError."""
        if self.is_readonly():
            if not isinstance(contents, bytes):
                await contents.close()
            raise NotWriteableError("the capability is read-only")
        maximum = MAX_SDMF_SIZE if self.get_version() == SDMF_VERSION else None
        data = await read_all(contents, maximum)
        await self._engine.overwrite(data)
        self._size = len(data)

    async def modify(self, modifier: Modifier) -> None:
        """Read, change, publish; the modifier may run again after a collision."""
        if self.is_readonly():
            raise NotWriteableError("the capability is read-only")
        sizes: list[int] = []

        def sized(old: bytes, first: bool) -> bytes | None:
            new = modifier(old, first)
            sizes.append(len(old if new is None else new))
            return new

        await self._engine.modify(sized)
        self._size = sizes[-1]

    async def _best(self) -> MutableVersion:
        version = await self._engine.best_version()
        self._size = version.size
        return version


class MutableFileVersion:
    """One version of a mutable file: reads stay with it, writes make a new one."""

    __slots__ = ("_engine", "_node", "_version")

    def __init__(self, node: MutableFileNode, engine: MutableFile, version: MutableVersion) -> None:
        """Take the file and the version."""
        self._node = node
        self._engine = engine
        self._version = version

    def is_readonly(self) -> bool:
        """Tell whether the capability only reads."""
        return self._node.is_readonly()

    def is_mutable(self) -> bool:
        """Return True."""
        return True

    def get_storage_index(self) -> bytes | None:
        """Return the 16-byte storage index."""
        return self._node.get_storage_index()

    def get_size(self) -> int:
        """Return the number of bytes of this version."""
        return self._version.size

    def get_sequence_number(self) -> int:
        """Return the version's sequence number."""
        return self._version.seqnum

    def get_writekey(self) -> bytes | None:
        """Return the 16-byte write key, or None."""
        return self._node.get_writekey()

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range to the consumer; raise a DownloadError."""
        start, length = clip(self._version.size, offset, size)
        if not length:
            return consumer
        return await self._engine.read(consumer, start, length, self._version)

    async def download_to_data(self) -> bytes:
        """Return the contents of this version; raise a DownloadError."""
        return await self._engine.download(self._version)

    async def overwrite(self, contents: bytes | Uploadable) -> None:
        """Publish new contents; see `MutableFileNode.overwrite`."""
        await self._node.overwrite(contents)

    async def modify(self, modifier: Modifier) -> None:
        """Change the contents; see `MutableFileNode.modify`."""
        await self._node.modify(modifier)

    async def update(self, data: bytes, offset: int) -> None:
        """Put `data` at `offset`, at most the current length; raise ValueError beyond it."""

        def patch(old: bytes, _first: bool) -> bytes:
            if not 0 <= offset <= len(old):
                raise ValueError("the offset is outside the file")
            return old[:offset] + data + old[offset + len(data) :]

        await self._node.modify(patch)
