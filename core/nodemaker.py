"""The way from capabilities to nodes and back, and the node of what is not understood.

Knows which kind of node belongs to which capability; touches nothing. Directory nodes are made by
a function of the floor above.
"""

from collections.abc import Callable
from typing import NoReturn
from weakref import WeakValueDictionary

from truckee.core.formats import caps, links
from truckee.core.formats.caps import (
    Cap,
    ChkReadCap,
    ChkVerifyCap,
    DirectoryCap,
    LitCap,
    MdmfReadCap,
    MdmfWriteCap,
    SdmfReadCap,
    SdmfWriteCap,
    UnknownCap,
)
from truckee.core.formats.links import KnownCap, Target, UnknownLink
from truckee.core.interfaces import FilesystemNode
from truckee.core.nodes import (
    CiphertextNode,
    Engines,
    ImmutableFile,
    LiteralFile,
    MutableFileNode,
    Node,
)


class UnknownNode:
    """A link of a kind that a later version may know: carried, shown as unknown, never followed."""

    __slots__ = ("_link",)

    def __init__(self, link: UnknownLink) -> None:
        """Take what is known of the link."""
        self._link = link

    def __repr__(self) -> str:
        return f"<UnknownNode {self._link!r}>"

    @property
    def link(self) -> UnknownLink:
        """The link's capabilities, or its error."""
        return self._link

    def get_cap(self) -> Cap:
        """Return the strongest capability, verbatim."""
        return UnknownCap(self.get_uri())

    def get_readcap(self) -> Cap:
        """Return the read capability, verbatim."""
        return UnknownCap(self.get_readonly_uri())

    def get_verify_cap(self) -> None:
        """Return None."""

    def get_repair_cap(self) -> None:
        """Return None."""

    def get_uri(self) -> bytes:
        """Return the strongest capability, verbatim; b"" when there is none."""
        return self._link.write or self._link.read or b""

    def get_write_uri(self) -> bytes | None:
        """Return the write capability, verbatim, or None."""
        return self._link.write

    def get_readonly_uri(self) -> bytes:
        """Return the read capability, verbatim; b"" when there is none."""
        return self._link.read or b""

    def get_storage_index(self) -> None:
        """Return None."""

    def is_readonly(self) -> NoReturn:
        """Raise TypeError: nobody knows."""
        raise TypeError("an unknown node is neither read-only nor writeable")

    def is_mutable(self) -> NoReturn:
        """Raise TypeError: nobody knows."""
        raise TypeError("an unknown node is neither mutable nor immutable")

    def is_unknown(self) -> bool:
        """Return True."""
        return True

    def is_allowed_in_immutable_directory(self) -> bool:
        """Tell whether nothing speaks against it: no error and no write capability."""
        return links.allowed_in_immutable(self._link)

    def raise_error(self) -> None:
        """Raise the error that keeps this from being stored, if there is one."""
        if self._link.error is not None:
            raise self._link.error

    def get_size(self) -> None:
        """Return None."""

    async def get_current_size(self) -> None:
        """Return None."""


def target_of(node: FilesystemNode) -> Target:
    """Return what a link to `node` grants; raise the node's recorded error."""
    node.raise_error()
    if isinstance(node, Node):
        cap = node.get_cap()
        if not isinstance(cap, UnknownCap):
            return cap
    if isinstance(node, UnknownNode):
        return node.link
    return links.resolve(node.get_write_uri(), node.get_readonly_uri())


MakeDirectory = Callable[[DirectoryCap], FilesystemNode]


class NodeMaker:
    """From capabilities to nodes, for one client. Nodes of mutable things are shared while used."""

    def __init__(self, engines: Engines, make_directory: MakeDirectory) -> None:
        """Take the engines and the function that makes directory nodes."""
        self._engines = engines
        self._make_directory = make_directory
        self._mutable: WeakValueDictionary[tuple[bool, KnownCap], FilesystemNode] = (
            WeakValueDictionary()
        )

    def create_from_cap(
        self,
        writecap: bytes | None,
        readcap: bytes | None = None,
        deep_immutable: bool = False,
    ) -> FilesystemNode:
        """Return the node that the two slots give; never fails (an UnknownNode records errors)."""
        target = links.resolve(writecap, readcap, deep_immutable=deep_immutable)
        return self.create(target, deep_immutable)

    def create(self, target: Target, deep_immutable: bool = False) -> FilesystemNode:
        """Return the node of a resolved link."""
        if isinstance(target, UnknownLink):
            return UnknownNode(target)
        if not target.is_mutable:
            return self._new(target)
        key = (deep_immutable, target)
        node = self._mutable.get(key)
        if node is None:
            node = self._mutable[key] = self._new(target)
        return node

    def _new(self, cap: KnownCap) -> FilesystemNode:
        match cap:
            case DirectoryCap():
                return self._make_directory(cap)
            case LitCap():
                return LiteralFile(cap)
            case ChkReadCap():
                return ImmutableFile(cap, self._engines)
            case ChkVerifyCap():
                return CiphertextNode(cap)
            case SdmfWriteCap() | SdmfReadCap() | MdmfWriteCap() | MdmfReadCap():
                return MutableFileNode(cap, self._engines)
            case caps.SdmfVerifyCap() | caps.MdmfVerifyCap():
                return UnknownNode(UnknownLink(read=cap.text.encode("ascii")))
