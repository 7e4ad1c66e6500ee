"""From paths to nodes: which directories a session can reach, and with what authority.

Knows the root, `/uri/CAP` paths, and that a read-only session sees nothing that could write.
Touches directories by reading them.
"""

from dataclasses import dataclass

from truckee.core.errors import NoSuchChildError, NotWriteableError
from truckee.core.interfaces import Client, DirectoryNode, FilesystemNode
from truckee.frontends.vfs.nodes import Edge, as_directory, find_child, kind_of
from truckee.frontends.vfs.paths import Path

URI = "uri"


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in a directory, whether or not something is linked there; or a root."""

    name: str
    trail: tuple[DirectoryNode, ...]
    """The directories on the way, the one that holds the name last; empty for a root."""
    edge: Edge | None
    """What is linked there."""

    @property
    def parent(self) -> DirectoryNode | None:
        """Return the directory that holds the name; None for a root."""
        return self.trail[-1] if self.trail else None


class Walker:
    """The tree below one session's root."""

    def __init__(
        self, client: Client, root: FilesystemNode, *, readonly: bool, uri_paths: bool
    ) -> None:
        """Take the root; a read-only session's is diminished here, if it is not yet."""
        self._client = client
        self._readonly = readonly
        self._uri_paths = uri_paths
        self.root = as_directory(self._diminished(root))

    def _diminished(self, node: FilesystemNode) -> FilesystemNode:
        if not self._readonly or node.is_unknown() or node.is_readonly():
            return node
        return self._client.create_node_from_uri(None, node.get_readonly_uri())

    def is_uri_root(self, path: Path) -> bool:
        """Return whether this is the empty directory `/uri` itself."""
        return self._uri_paths and path == (URI,)

    def _by_cap(self, path: Path) -> bool:
        return self._uri_paths and path[:1] == (URI,)

    def check_mutable(self, *paths: Path) -> None:
        """Raise NotWriteableError, without asking the grid, where nothing can ever be changed."""
        for path in paths:
            if self._readonly:
                raise NotWriteableError("the session is read-only")
            if self._by_cap(path):
                if len(path) < 3:
                    raise NotWriteableError("the list of capabilities is read-only")
            elif self.root.is_readonly() or not self.root.is_mutable():
                raise NotWriteableError("the root is read-only")

    async def locate(self, path: Path, *, creating: bool = False) -> Spot:
        """Return what stands at `path`; its parent must exist, else NoSuchChildError.

        A parent that is a file is NoSuchChildError, too, or ChildOfWrongTypeError if `creating`.
        """
        node, rest = self._start(path)
        edge: Edge | None = (node, {})
        trail: tuple[DirectoryNode, ...] = ()
        for name in rest:
            if edge is None:
                raise NoSuchChildError("no such directory")
            if kind_of(edge[0]) != "dir" and not creating:
                raise NoSuchChildError("no such directory")
            trail = (*trail, as_directory(edge[0]))
            edge = await find_child(trail[-1], name)
        return Spot(path[-1] if path else "", trail, edge)

    def _start(self, path: Path) -> tuple[FilesystemNode, Path]:
        """Return the root that `path` begins at, and the names below it."""
        if not self._by_cap(path):
            return self.root, path
        if len(path) < 2:
            raise NoSuchChildError("no such file")
        node = self._client.create_node_from_uri(path[1].encode("utf-8"))
        node.raise_error()
        return self._diminished(node), path[2:]
