"""From a confirmed login to what a frontend works with: the realm.

Knows twisted.cred and the core client; touches neither disk nor network: the root is a node made
from the account's capability and nothing is fetched. Avatars are made by the factories that the
frontends hand in, so this room imports no frontend. A read-only login never sees a node that could
write: the root is diminished before any factory is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.cred.portal import IRealm
from zope.interface import implementer
from zope.interface.interface import InterfaceClass

from truckee.auth.accounts import Options
from truckee.core.formats.caps import DirectoryCap
from truckee.core.interfaces import Client, FilesystemNode

Logout = Callable[[], object]


@dataclass(frozen=True, slots=True)
class FTPAvatarID:
    """Who has logged in, with which authority; `generation` tells older grants from newer."""

    username: str
    rootcap: DirectoryCap = field(repr=False)
    readonly: bool = False
    options: Options = field(default_factory=Options)
    generation: int = 0
    anonymous: bool = False


Factory = Callable[[FilesystemNode, FTPAvatarID, object], tuple[object, Logout]]


@implementer(IRealm)
class Dispatcher:
    """Makes the root node of a login and asks the frontend's factory for the avatar."""

    def __init__(
        self,
        client_for: Callable[[str], Client],
        factories: Mapping[InterfaceClass, Factory],
    ) -> None:
        """Take the client of an account and one factory per avatar interface."""
        self._client_for = client_for
        self._factories = factories

    def requestAvatar(  # type: ignore[override]
        self, avatarId: FTPAvatarID, mind: object, *interfaces: InterfaceClass
    ) -> tuple[InterfaceClass, object, Logout]:
        """Return (interface, avatar, logout); logout works once, later calls do nothing."""
        for interface in interfaces:
            factory = self._factories.get(interface)
            if factory is not None:
                avatar, logout = factory(self._root(avatarId), avatarId, mind)
                return interface, avatar, _once(logout)
        raise NotImplementedError("no frontend offers what was asked for")

    def _root(self, avatar_id: FTPAvatarID) -> FilesystemNode:
        client = self._client_for(avatar_id.username)
        cap = avatar_id.rootcap
        if avatar_id.readonly or cap.is_readonly:
            return client.create_node_from_uri(None, cap.read_cap().text_bytes)
        return client.create_node_from_uri(cap.text_bytes)


def _once(logout: Logout) -> Logout:
    pending = [logout]

    def leave() -> object:
        return pending.pop()() if pending else None

    return leave
