"""The shapes that rooms share: what is uploaded, and nodes as frontends see them.

Knows only Protocols and plain values; touches nothing. Method names are Tahoe-LAFS' own, the calls
are coroutines. Names of children are `str`; contents, keys and storage indexes `bytes`; capability
texts `bytes` in the `get_…uri` methods and values of `truckee.core.formats.caps` in the `get_…cap`
ones.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from twisted.internet.interfaces import IConsumer

from truckee.core.formats.caps import Cap

Metadata = dict[str, Any]
Overwrite = bool | Literal["only-files"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file is cut and spread."""

    needed_shares: int = 3
    happy: int = 7
    total_shares: int = 10
    max_segment_size: int = 1048576

    def __post_init__(self) -> None:
        if not 1 <= self.needed_shares <= self.total_shares <= 256:
            raise ValueError("k and N out of range")
        if not 0 <= self.happy <= self.total_shares:
            raise ValueError("happy out of range")
        if self.max_segment_size < 1:
            raise ValueError("maximum segment size out of range")


class Uploadable(Protocol):
    """Immutable contents on their way in; read twice from front to back."""

    async def get_size(self) -> int:
        """Return the number of bytes."""
        ...

    async def read(self, length: int) -> Sequence[bytes | bytearray | memoryview]:
        """Return the next `length` bytes in pieces, fewer only at the end."""
        ...

    async def rewind(self) -> None:
        """Go back to the first byte."""
        ...

    async def close(self) -> None:
        """Let go of the source; called once, whatever happened."""
        ...


class DigestingUploadable(Uploadable, Protocol):
    """An uploadable that hashed its contents while they came in, and so spares the first pass."""

    async def content_digest(self, tag: bytes) -> bytes | None:
        """Return SHA-256d(netstring(tag) + contents), 32 bytes, or None when it is not at hand."""
        ...


class FilesystemNode(Protocol):
    """Anything that a capability names."""

    def get_cap(self) -> Cap: ...
    def get_readcap(self) -> Cap: ...
    def get_verify_cap(self) -> Cap | None: ...
    def get_repair_cap(self) -> Cap | None: ...
    def get_uri(self) -> bytes: ...
    def get_write_uri(self) -> bytes | None: ...
    def get_readonly_uri(self) -> bytes: ...
    def get_storage_index(self) -> bytes | None: ...
    def is_readonly(self) -> bool: ...
    def is_mutable(self) -> bool: ...
    def is_unknown(self) -> bool: ...
    def is_allowed_in_immutable_directory(self) -> bool: ...
    def raise_error(self) -> None: ...
    def get_size(self) -> int | None: ...
    async def get_current_size(self) -> int | None: ...


class Readable(Protocol):
    """One version of a file's contents."""

    def is_readonly(self) -> bool: ...
    def is_mutable(self) -> bool: ...
    def get_storage_index(self) -> bytes | None: ...
    def get_size(self) -> int: ...

    async def read(
        self, consumer: IConsumer, offset: int = 0, size: int | None = None
    ) -> IConsumer:
        """Write the range to `consumer` in order, honouring pause, resume and stop.

        Registers one push producer (none when the clipped range is empty), unregisters it exactly
        once, and returns the consumer. Raises a DownloadError; DownloadStopped after stopProducing.
        """
        ...

    async def download_to_data(self) -> bytes:
        """Return the whole contents."""
        ...


class FileNode(FilesystemNode, Protocol):
    """A file, mutable or not."""

    async def get_best_readable_version(self) -> Readable: ...
    async def download_best_version(self) -> bytes: ...
    async def get_size_of_best_version(self) -> int: ...


class ImmutableFileNode(FileNode, Readable, Protocol):
    """A literal or CHK file: its own one version. `get_size` is known without network."""

    def get_size(self) -> int: ...


class MutableFileVersion(Readable, Protocol):
    """One version of a mutable file."""

    def get_sequence_number(self) -> int: ...
    def get_writekey(self) -> bytes | None: ...
    async def overwrite(self, contents: bytes | Uploadable) -> None: ...
    async def modify(self, modifier: "Modifier") -> None: ...
    async def update(self, data: bytes, offset: int) -> None: ...


Modifier = Callable[[bytes, bool], bytes | None]
"""(old contents, first attempt) -> new contents, or None for no change; synchronous, repeatable."""


class MutableFileNode(FileNode, Protocol):
    """A mutable file. Changes take the process-wide lock of its storage index."""

    async def get_best_mutable_version(self) -> MutableFileVersion: ...
    async def overwrite(self, contents: bytes | Uploadable) -> None: ...
    async def modify(self, modifier: Modifier) -> None: ...
    def get_writekey(self) -> bytes | None: ...
    def get_version(self) -> int: ...


class DirectoryNode(FilesystemNode, Protocol):
    """A directory, mutable or not. Names are normalised (NFC) before use."""

    async def list(self) -> Mapping[str, tuple[FilesystemNode, Metadata]]: ...
    async def has_child(self, name: str) -> bool: ...
    async def get(self, name: str) -> FilesystemNode: ...
    async def get_child_and_metadata(self, name: str) -> tuple[FilesystemNode, Metadata]: ...
    async def get_metadata_for(self, name: str) -> Metadata: ...
    async def get_child_at_path(self, path: str | Sequence[str]) -> FilesystemNode: ...

    async def get_child_and_metadata_at_path(
        self, path: str | Sequence[str]
    ) -> tuple[FilesystemNode, Metadata]: ...

    async def set_uri(
        self,
        name: str,
        writecap: bytes | None,
        readcap: bytes | None = None,
        metadata: Metadata | None = None,
        overwrite: Overwrite = True,
    ) -> FilesystemNode: ...

    async def set_node(
        self,
        name: str,
        node: FilesystemNode,
        metadata: Metadata | None = None,
        overwrite: Overwrite = True,
    ) -> FilesystemNode: ...

    async def set_nodes(
        self,
        entries: Mapping[str, tuple[FilesystemNode, Metadata | None]],
        overwrite: Overwrite = True,
    ) -> "DirectoryNode": ...

    async def set_metadata_for(self, name: str, metadata: Metadata) -> "DirectoryNode": ...

    def expecting(self) -> AbstractContextManager[None]:
        """Announce an edit made before the context is left, so that many go in few publishes."""
        ...

    async def add_file(
        self,
        name: str,
        uploadable: Uploadable,
        metadata: Metadata | None = None,
        overwrite: Overwrite = True,
    ) -> FileNode: ...

    async def create_subdirectory(
        self,
        name: str,
        children: Mapping[str, tuple[FilesystemNode, Metadata]] | None = None,
        overwrite: Overwrite = True,
        mutable: bool = True,
        metadata: Metadata | None = None,
    ) -> "DirectoryNode": ...

    async def delete(
        self,
        name: str,
        must_exist: bool = True,
        must_be_directory: bool = False,
        must_be_file: bool = False,
    ) -> FilesystemNode | None: ...

    async def move_child_to(
        self,
        name: str,
        new_parent: "DirectoryNode",
        new_name: str | None = None,
        overwrite: Overwrite = True,
    ) -> FilesystemNode: ...


class Client(Protocol):
    """The one object that auth and frontends are given; an account has its own."""

    def create_node_from_uri(
        self,
        writecap: bytes | None,
        readcap: bytes | None = None,
        deep_immutable: bool = False,
        name: str = "",
    ) -> FilesystemNode: ...

    async def upload(
        self,
        uploadable: Uploadable,
        convergence: bytes | Literal["default"] | None = "default",
        encoding: Encoding | None = None,
    ) -> Cap:
        """Store immutable contents; return the read cap. `convergence` None draws a random key."""
        ...

    def convergence_tag(self, size: int) -> bytes:
        """Return the tag under which `upload` hashes contents of `size` bytes to their key.

        It is that of the client's own secret and encoding, and the same for all sizes from the
        maximum segment size on: who hashes contents as they come in can begin before their end.
        """
        ...

    async def create_mutable_file(
        self, contents: bytes = b"", version: int | None = None
    ) -> MutableFileNode:
        """Create a mutable file; version 0 is SDMF, 1 MDMF, None chooses by size."""
        ...

    async def create_new_mutable_directory(
        self,
        children: Mapping[str, tuple[FilesystemNode, Metadata]] | None = None,
        version: int = 0,
    ) -> DirectoryNode: ...

    async def create_immutable_directory(
        self, children: Mapping[str, tuple[FilesystemNode, Metadata]]
    ) -> DirectoryNode: ...

    def for_account(self, name: str) -> "Client":
        """Return the same client with the convergence secret of that account."""
        ...
