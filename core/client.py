"""The one object that auth and frontends are given: from capabilities to nodes, and new objects.

Knows which engine does what; touches nothing but through them. Clients of one process share the
engines, the directory cache and the queues of edits; an account's own differs in its convergence
secret, so that nobody learns by uploading a guess what another account has stored.
"""

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Literal

from twisted.internet.interfaces import IReactorTime

from truckee.core.crypto import hashes
from truckee.core.directory import DirectoryNode, targets
from truckee.core.dirtables import SMALL, DirectoryTables
from truckee.core.download.cache import ReaderCache
from truckee.core.download.reader import FileReader
from truckee.core.formats import dirnode
from truckee.core.formats.caps import ChkReadCap, DirectoryCap, LitCap
from truckee.core.formats.links import Target
from truckee.core.interfaces import Encoding, FilesystemNode, Metadata, Uploadable
from truckee.core.mutable.context import MutableCap, MutableContext
from truckee.core.mutable.file import MutableFile
from truckee.core.nodemaker import NodeMaker
from truckee.core.nodes import (
    MAX_SDMF_SIZE,
    MDMF_VERSION,
    SDMF_VERSION,
    Engines,
    MutableFileNode,
    read_all,
)
from truckee.core.upload.sources import BytesSource
from truckee.core.upload.upload import Uploader

AUTO_SDMF_SIZE = 2**20
"""A mutable file is made SDMF up to this size, MDMF above, when the caller does not say."""

_ENTRY_SIZE = 300  # bytes, about
_ACCOUNT = b"truckee account convergence v1"


def account_convergence(secret: bytes, name: str) -> bytes:
    """Return the convergence secret of an account, made from the node's."""
    return hmac.digest(secret, _ACCOUNT + name.encode("utf-8"), "sha256")


class _ShareEngines:
    """The engines that read and write shares."""

    def __init__(self, readers: ReaderCache, mutable: MutableContext) -> None:
        self._readers = readers
        self._mutable = mutable

    def reader(self, cap: ChkReadCap) -> FileReader:
        """Return what reads an immutable file."""
        return self._readers.get(cap)

    def mutable(self, cap: MutableCap) -> MutableFile:
        """Return what reads and writes a mutable file."""
        return MutableFile(self._mutable, cap)


class Client:
    """Makes nodes, uploads, and creates mutable files and directories for one account."""

    def __init__(
        self,
        uploader: Uploader,
        readers: ReaderCache,
        mutable: MutableContext,
        encoding: Encoding,
        convergence: bytes,
        clock: IReactorTime,
        dir_cache_ttl: float = 3.0,
        *,
        wall: Callable[[], float] = time.time,
        engines: Engines | None = None,
        tables: DirectoryTables | None = None,
    ) -> None:
        """Take the engines of this process and the convergence secret of this client.

        `wall` gives the seconds since 1970 that links carry. A client that makes another one for an
        account hands on `engines` and `tables`.
        """
        self._uploader = uploader
        self._readers = readers
        self._mutable = mutable
        self._encoding = encoding
        self._convergence = convergence
        self._clock = clock
        self._ttl = dir_cache_ttl
        self._engines = engines or _ShareEngines(readers, mutable)
        self._tables = tables or DirectoryTables(
            self._engines, mutable.cpu, clock, dir_cache_ttl, wall
        )
        self._nodes = NodeMaker(self._engines, self._directory)

    def __repr__(self) -> str:
        return "<Client>"

    def for_account(self, name: str) -> "Client":
        """Return the same client with the convergence secret of that account."""
        secret = account_convergence(self._convergence, name)
        return Client(
            self._uploader,
            self._readers,
            self._mutable,
            self._encoding,
            secret,
            self._clock,
            self._ttl,
            engines=self._engines,
            tables=self._tables,
        )

    # nodes

    def create_node_from_uri(
        self,
        writecap: bytes | None,
        readcap: bytes | None = None,
        deep_immutable: bool = False,
        name: str = "",
    ) -> FilesystemNode:
        """Return the node of two capability slots; never fails, an unknown node records why."""
        return self._nodes.create_from_cap(writecap, readcap, deep_immutable)

    def _directory(self, cap: DirectoryCap) -> DirectoryNode:
        return DirectoryNode(cap, self._tables, self, self._nodes.create)

    # immutable files

    async def upload(
        self,
        uploadable: Uploadable,
        convergence: bytes | Literal["default"] | None = "default",
        encoding: Encoding | None = None,
    ) -> LitCap | ChkReadCap:
        """Store immutable contents and return the read cap; raise an UploadError.

        `convergence` None draws a random key; the uploadable is closed in any case.
        """
        secret = self._convergence if convergence == "default" else convergence
        return await self._uploader.upload(uploadable, encoding or self._encoding, secret)

    def convergence_tag(self, size: int) -> bytes:
        """Return the tag under which `upload` hashes contents of `size` bytes to their key."""
        k = self._encoding.needed_shares
        segment = -(-min(self._encoding.max_segment_size, size) // k) * k
        return hashes.convergence_tag(self._convergence, k, self._encoding.total_shares, segment)

    # mutable files

    async def create_mutable_file(
        self,
        contents: bytes | Uploadable | Callable[[bytes], bytes] = b"",
        version: int | None = None,
    ) -> MutableFileNode:
        """Create a mutable file; version 0 is SDMF, 1 MDMF, None chooses by size.

        `contents` may be a function of the new write key. Raises FileTooLargeError for SDMF beyond
        its limit, and UploadErrors.
        """
        if callable(contents):
            mdmf = version == MDMF_VERSION
            file = await MutableFile.create(self._mutable, contents, mdmf=mdmf)
        else:
            data = await read_all(contents, MAX_SDMF_SIZE if version == SDMF_VERSION else None)
            mdmf = version == MDMF_VERSION or (version is None and len(data) > AUTO_SDMF_SIZE)
            file = await MutableFile.create(self._mutable, data, mdmf=mdmf)
        node = self._nodes.create(file.cap)
        assert isinstance(node, MutableFileNode)  # noqa: S101 - our own cap, not input
        return node

    # directories

    async def create_new_mutable_directory(
        self,
        children: Mapping[str, tuple[FilesystemNode, Metadata]] | None = None,
        version: int = SDMF_VERSION,
    ) -> DirectoryNode:
        """Create a directory with children whose metadata is stored as given.

        Raises the error of a child that cannot be linked, BadNameError, FileTooLargeError, and
        UploadErrors.
        """
        links = targets(children or {})
        pair = await self._mutable.keys.take()
        packed = await self._pack(links, hashes.mutable_writekey(pair.private_der))
        mdmf = version == MDMF_VERSION
        file = await MutableFile.create(self._mutable, packed, mdmf=mdmf, keypair=pair)
        node = self._nodes.create(DirectoryCap(file.cap))
        assert isinstance(node, DirectoryNode)  # noqa: S101 - our own cap, not input
        node.remember(packed)
        return node

    async def create_immutable_directory(
        self, children: Mapping[str, tuple[FilesystemNode, Metadata]]
    ) -> DirectoryNode:
        """Store a directory that never changes; all below it must be immutable, too.

        Raises MustBeDeepImmutableError, MustNotBeUnknownRWError, BadNameError, UploadErrors.
        """
        packed = await self._pack(targets(children), None)
        node = self._nodes.create(DirectoryCap(await self.upload(BytesSource(packed))), True)
        assert isinstance(node, DirectoryNode)  # noqa: S101 - our own cap, not input
        return node

    async def _pack(
        self, links: Mapping[str, tuple[Target, Metadata]], writekey: bytes | None
    ) -> bytes:
        if len(links) * _ENTRY_SIZE <= SMALL:
            return dirnode.pack(links, writekey=writekey)
        return await self._mutable.cpu.run(dirnode.pack, links, writekey=writekey)
