"""What a node is to a client: file or directory, its attributes, its place in a directory.

Knows the node interfaces of core.interfaces and edge metadata. Touches the grid only where a
function is a coroutine.
"""

from collections.abc import Mapping
from typing import Any, cast

from truckee.core.errors import (
    ChildOfWrongTypeError,
    MustNotBeUnknownRWError,
    NoSuchChildError,
    NotWriteableError,
)
from truckee.core.interfaces import (
    DirectoryNode,
    FileNode,
    FilesystemNode,
    ImmutableFileNode,
    Metadata,
    MutableFileNode,
)
from truckee.frontends.vfs.attributes import (
    Attributes,
    Kind,
    clamp_time,
    edge_mtime,
    is_write_barred,
    mode_bits,
    unique_id,
)
from truckee.frontends.vfs.pending import PendingFile

Edge = tuple[FilesystemNode, Metadata]


def kind_of(node: FilesystemNode) -> Kind:
    """Return what the node is to a client."""
    if node.is_unknown():
        return "unknown"
    return "dir" if node.get_cap().is_directory else "file"


def as_directory(node: FilesystemNode) -> DirectoryNode:
    """Return the node as a directory; ChildOfWrongTypeError if it is none."""
    if kind_of(node) != "dir":
        raise ChildOfWrongTypeError("not a directory")
    return cast("DirectoryNode", node)


def as_file(node: FilesystemNode) -> FileNode:
    """Return the node as a file that can be opened.

    ChildOfWrongTypeError for a directory, MustNotBeUnknownRWError for an unknown capability.
    """
    kind = kind_of(node)
    if kind == "dir":
        raise ChildOfWrongTypeError("a directory")
    if kind == "unknown":
        raise MustNotBeUnknownRWError("a capability of an unknown kind")
    return cast("FileNode", node)


def as_immutable(node: FileNode) -> ImmutableFileNode | None:
    """Return the file if it is immutable."""
    return None if node.is_mutable() else cast("ImmutableFileNode", node)


def as_mutable(node: FileNode) -> MutableFileNode | None:
    """Return the file if it is mutable."""
    return cast("MutableFileNode", node) if node.is_mutable() else None


def is_same(a: FilesystemNode, b: FilesystemNode) -> bool:
    """Return whether both name one object with shares of its own."""
    index = a.get_storage_index()
    return index is not None and index == b.get_storage_index()


async def find_child(parent: DirectoryNode, name: str) -> Edge | None:
    """Return node and metadata of the child, or None if there is none."""
    try:
        return await parent.get_child_and_metadata(name)
    except NoSuchChildError:
        return None


def check_writable_child(node: FileNode, metadata: Mapping[str, Any]) -> None:
    """Raise NotWriteableError if this file may not be opened for writing."""
    if is_write_barred(metadata) or (node.is_mutable() and node.is_readonly()):
        raise NotWriteableError("the file is read-only")


class Describer:
    """Makes attributes for one session: as its account and its authority see things."""

    def __init__(self, key: bytes, account: str, readonly: bool) -> None:
        self._key = key
        self._account = account
        self._readonly = readonly

    def describe(
        self,
        node: FilesystemNode,
        metadata: Mapping[str, Any],
        parent: DirectoryNode | None,
        size: int | None = None,
    ) -> Attributes:
        """Return the attributes of a linked child; of a root if `parent` is None.

        `size` is that of a mutable file, if it is known.
        """
        kind = kind_of(node)
        readcap: bytes | None = None
        if "truckee" in metadata and kind != "unknown":
            readcap = node.get_readonly_uri()
        snapshot = parent is not None and not parent.is_mutable()
        writable = self._is_writable(kind, node, metadata, parent)
        if kind != "file":
            size = 0
        elif size is None:
            size = node.get_size() or 0
        return Attributes(
            type=kind,
            size=size,
            mtime=edge_mtime(metadata, readcap, snapshot=snapshot),
            mode=mode_bits(kind, writable),
            writable=writable,
            unique=self.unique(_identity(node)),
        )

    def describe_pending(self, file: PendingFile) -> Attributes:
        """Return the attributes of a file being written."""
        writable = file.mode is None or bool(file.mode & 0o200)
        return Attributes(
            type="file",
            size=file.buffer.size,
            mtime=clamp_time(file.shown_mtime) or 0,
            mode=mode_bits("file", writable),
            writable=writable,
            unique=self.unique(b"pending %d" % file.serial),
        )

    def describe_empty_directory(self) -> Attributes:
        """Return the attributes of a directory that stands for nothing stored."""
        bits = mode_bits("dir", writable=False)
        return Attributes("dir", 0, 0, bits, writable=False, unique=self.unique(b""))

    def unique(self, identity: bytes) -> str:
        """Return the name of an object that this account may see."""
        return unique_id(self._key, self._account, identity)

    def _is_writable(
        self,
        kind: Kind,
        node: FilesystemNode,
        metadata: Mapping[str, Any],
        parent: DirectoryNode | None,
    ) -> bool:
        if self._readonly or kind == "unknown" or is_write_barred(metadata):
            return False
        if kind == "dir" or node.is_mutable():
            return node.is_mutable() and not node.is_readonly()
        return parent is not None and parent.is_mutable() and not parent.is_readonly()


def _identity(node: FilesystemNode) -> bytes:
    index = node.get_storage_index()
    if index is not None:
        return index
    return node.get_readonly_uri() or b""
