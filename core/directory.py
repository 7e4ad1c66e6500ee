"""Directories as frontends see them: look up, list, link, rename, unlink.

Knows nodes and the rules of each operation; touches nothing but through `DirectoryTables` (which
fetches, caches and batches) and the client that made the node. Names are normalised before use.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from truckee.core import interfaces
from truckee.core.dirtables import DirectoryTables
from truckee.core.errors import NoSuchChildError, NotWriteableError, TruckeeError
from truckee.core.formats import diredits, links
from truckee.core.formats.caps import (
    ChkReadCap,
    DirectoryCap,
    LitCap,
    MdmfReadCap,
    MdmfWriteCap,
)
from truckee.core.formats.diredits import Delete, Rename, SetLinks, SetMetadata
from truckee.core.formats.dirnode import Child, checked_name, normalize
from truckee.core.formats.links import Target
from truckee.core.interfaces import (
    Client,
    FileNode,
    FilesystemNode,
    Metadata,
    Overwrite,
    Uploadable,
)
from truckee.core.nodemaker import target_of
from truckee.core.nodes import Node

NodeFromTarget = Callable[[Target, bool], FilesystemNode]
Pair = tuple[FilesystemNode, Metadata]


class Listing(Mapping[str, Pair]):
    """What a directory held at one moment, in order of name; nodes are made when asked for."""

    def __init__(self, children: dict[str, Child], make: Callable[[Child], Pair]) -> None:
        """Take the children, which nobody changes any more, and what makes a node of one."""
        self._children = children
        self._make = make
        self._made: dict[str, Pair] = {}

    def __getitem__(self, name: str) -> Pair:
        pair = self._made.get(name)
        if pair is None:
            pair = self._made[name] = self._make(self._children[name])
        return pair

    def __contains__(self, name: object) -> bool:
        return name in self._children

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def __len__(self) -> int:
        return len(self._children)


class DirectoryNode(Node):
    """A directory, mutable or not, under one capability."""

    __slots__ = ("_client", "_dir_cap", "_key", "_node", "_size", "_tables")

    def __init__(
        self, cap: DirectoryCap, tables: DirectoryTables, client: Client, node: NodeFromTarget
    ) -> None:
        """Take the process's tables, and the client whose nodes the children will be."""
        super().__init__(cap)
        self._dir_cap = cap
        self._key = cap.verify_cap()
        self._tables = tables
        self._client = client
        self._node = node
        self._size: int | None = None

    # sizes

    def get_version(self) -> int:
        """Return 1 for a directory in an MDMF file, else 0."""
        return int(isinstance(self._dir_cap.inner, MdmfWriteCap | MdmfReadCap))

    def get_size(self) -> int | None:
        """Return the bytes of the packed table as last seen, or None."""
        inner = self._dir_cap.inner
        if isinstance(inner, LitCap | ChkReadCap):
            return inner.size
        seen = self._tables.size_seen(self._key)
        self._size = self._size if seen is None else seen
        return self._size

    async def get_current_size(self) -> int:
        """Return the bytes of the packed table; raise a DownloadError."""
        self._size = await self._tables.size(self._dir_cap, self._key)
        return self._size

    # looking

    async def list(self) -> Listing:
        """Return all children; raise a DownloadError or DirectoryFormatError."""
        listing = Listing(await self._tables.listing(self._dir_cap, self._key), self._pair)
        self.get_size()
        return listing

    async def has_child(self, name: str) -> bool:
        """Tell whether there is a child of that name."""
        return await self._find(name) is not None

    async def get(self, name: str) -> FilesystemNode:
        """Return a child; raise NoSuchChildError."""
        return (await self.get_child_and_metadata(name))[0]

    async def get_child_and_metadata(self, name: str) -> Pair:
        """Return a child and its link's metadata; raise NoSuchChildError."""
        return self._pair(_there(await self._find(name)))

    async def get_metadata_for(self, name: str) -> Metadata:
        """Return the metadata of a link; raise NoSuchChildError."""
        return _there(await self._find(name)).metadata

    async def get_child_at_path(self, path: str | Sequence[str]) -> FilesystemNode:
        """Return what a path leads to; the empty path is this directory."""
        return (await self.get_child_and_metadata_at_path(path))[0]

    async def get_child_and_metadata_at_path(self, path: str | Sequence[str]) -> Pair:
        """Return what a path leads to and the last link's metadata.

        A text is cut at each slash; a leading slash makes an empty first name. Raises
        NoSuchChildError, also for a path through something that is no directory.
        """
        names = path.split("/") if isinstance(path, str) and path else list(path)
        node: FilesystemNode = self
        metadata: Metadata = {}
        for name in names:
            if not isinstance(node, DirectoryNode):
                raise NoSuchChildError("the path leads through something that is no directory")
            node, metadata = await node.get_child_and_metadata(name)
        return node, metadata

    # linking

    async def set_uri(
        self,
        name: str,
        writecap: bytes | None,
        readcap: bytes | None = None,
        metadata: Metadata | None = None,
        overwrite: Overwrite = True,
    ) -> FilesystemNode:
        """Link capabilities under a name and return their node.

        Raises NotWriteableError, the error of the capabilities, ExistingChildError.
        """
        self._check_writeable()
        node = self._client.create_node_from_uri(writecap, readcap)
        return await self.set_node(name, node, metadata, overwrite)

    async def set_children(
        self,
        entries: Mapping[
            str, tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, Metadata]
        ],
        overwrite: Overwrite = True,
    ) -> "DirectoryNode":
        """Link all or none, in one modification; raises as `set_uri`."""
        self._check_writeable()
        make = self._client.create_node_from_uri
        nodes = {
            name: (make(slots[0], slots[1]), slots[2] if len(slots) > 2 else None)
            for name, slots in entries.items()
        }
        return await self.set_nodes(nodes, overwrite)

    async def set_node(
        self,
        name: str,
        node: FilesystemNode,
        metadata: Metadata | None = None,
        overwrite: Overwrite = True,
    ) -> FilesystemNode:
        """Link a node under a name and return it; raises as `set_uri`."""
        await self.set_nodes({name: (node, metadata)}, overwrite)
        return node

    async def set_nodes(
        self,
        entries: Mapping[str, tuple[FilesystemNode, Metadata | None]],
        overwrite: Overwrite = True,
    ) -> "DirectoryNode":
        """Link all or none, in one modification; raises as `set_uri`."""
        self._check_writeable()
        targets = {name: (target_of(node), meta) for name, (node, meta) in entries.items()}
        await self._edit(SetLinks(targets, overwrite))
        return self

    async def set_metadata_for(self, name: str, metadata: Metadata) -> "DirectoryNode":
        """Replace a link's metadata; raise NoSuchChildError."""
        await self._edit(SetMetadata(name, metadata))
        return self

    async def add_file(
        self,
        name: str,
        uploadable: Uploadable,
        metadata: Metadata | None = None,
        overwrite: Overwrite = True,
    ) -> FileNode:
        """Upload immutable contents, then link them; ExistingChildError comes after the upload."""
        try:
            self._check_writeable()
            checked_name(name)
        except TruckeeError:
            await uploadable.close()
            raise
        with self.expecting():
            cap = await self._client.upload(uploadable)
            node = self._client.create_node_from_uri(None, cap.text.encode("ascii"))
            await self.set_node(name, node, metadata, overwrite)
        return node  # type: ignore[return-value]  # an upload gives a file

    def expecting(self) -> AbstractContextManager[None]:
        """Announce an edit of this directory that comes before the context is left.

        Many at a time then go into few modifications. Raises NotWriteableError.
        """
        return self._tables.expecting(self._dir_cap, self._key)

    async def create_subdirectory(
        self,
        name: str,
        children: Mapping[str, tuple[FilesystemNode, Metadata]] | None = None,
        overwrite: Overwrite = True,
        mutable: bool = True,
        metadata: Metadata | None = None,
        version: int = 0,
    ) -> "DirectoryNode":
        """Create a directory, then link it; raises as `set_node` and MustBeDeepImmutableError.

        After ExistingChildError the new directory stays unlinked.
        """
        self._check_writeable()
        checked_name(name)
        if mutable:
            new = await self._client.create_new_mutable_directory(children or {}, version)
        else:
            new = await self._client.create_immutable_directory(children or {})
        await self.set_node(name, new, metadata, overwrite)
        return new  # type: ignore[return-value]  # the protocol's directory is this class

    # unlinking and moving

    async def delete(
        self,
        name: str,
        must_exist: bool = True,
        must_be_directory: bool = False,
        must_be_file: bool = False,
    ) -> FilesystemNode | None:
        """Unlink a child and return it; None for one that was not there, or could not be read.

        Raises NoSuchChildError, ChildOfWrongTypeError. Shares stay until their leases expire.
        """
        gone = await self._edit(Delete(name, must_exist, must_be_directory, must_be_file))
        return None if gone is None else self._pair(gone)[0]

    async def move_child_to(
        self,
        name: str,
        new_parent: interfaces.DirectoryNode,
        new_name: str | None = None,
        overwrite: Overwrite = True,
    ) -> FilesystemNode:
        """Give a child another name or parent and return it.

        In one directory this is one modification. Across two it is an addition and then a removal,
        of the child that was moved only: a crash in between leaves two links. Raises
        NotWriteableError when either parent is read-only, NoSuchChildError, ExistingChildError.
        """
        if not isinstance(new_parent, DirectoryNode):
            raise TypeError("the new parent is no directory of this process")
        self._check_writeable()
        new_parent._check_writeable()
        new_name = checked_name(name if new_name is None else new_name)
        if self._key == new_parent._key:
            if new_name == normalize(name):
                return await self.get(name)
            return self._pair(_there(await self._edit(Rename(name, new_name, overwrite))))[0]
        child = (await self._tables.fresh(self._dir_cap, self._key)).child(normalize(name))
        child = _there(child)
        metadata = {key: value for key, value in child.metadata.items() if key != "tahoe"}
        await new_parent._edit(SetLinks({new_name: (child.target, metadata)}, overwrite))
        await self._edit(Delete(name, must_exist=False, only_if=child.target))
        return self._pair(child)[0]

    # inside

    def remember(self, packed: bytes) -> None:
        """Take note of the table that was written when this directory was made."""
        self._size = len(packed)
        if self._key is not None:
            self._tables.cache.put(self._key, packed, self._dir_cap.is_mutable)

    def _check_writeable(self) -> None:
        if self._dir_cap.is_readonly:
            raise NotWriteableError("the directory can only be read")

    async def _edit(self, edit: diredits.Edit) -> Child | None:
        return await self._tables.edit(self._dir_cap, self._key, edit)

    async def _find(self, name: str) -> Child | None:
        table = await self._tables.table(self._dir_cap, self._key)
        return table.child(normalize(name))

    def _pair(self, child: Child) -> Pair:
        return self._node(child.target, not self._dir_cap.is_mutable), child.metadata


def _there(child: Child | None) -> Child:
    if child is None:
        raise NoSuchChildError("no child of that name")
    return child


def targets(
    children: Mapping[str, tuple[FilesystemNode, Metadata]],
) -> dict[str, tuple[links.Target, Metadata]]:
    """Return what links to the given nodes grant; raise a node's recorded error."""
    return {name: (target_of(node), metadata) for name, (node, metadata) in children.items()}
