"""The avatar of an FTP login. Knows the vfs and the realm's seam; touches nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from truckee.auth.realm import Factory, FTPAvatarID, Logout
from truckee.core.interfaces import Client, DirectoryNode, FilesystemNode
from truckee.core.tasks import Tasks
from truckee.frontends.vfs.session import Vfs, VFSSession


@dataclass(frozen=True, slots=True)
class Peer:
    """Who logs in: the `mind` that goes through the portal to the factory."""

    host: str
    protocol: str = "ftp"


@dataclass(frozen=True, slots=True)
class Handler:
    """What the realm gives for IFTPShell: one account's view of the filestore.

    Twisted's own shell interface knows neither offsets nor batches nor commits; the key to ask the
    realm with is all that is used of it, and the protocol works on the session.
    """

    session: VFSSession
    max_sessions: int | None = None


def handler_factory(vfs: Vfs, client_for: Callable[[str], Client]) -> Factory:
    """Return the factory that the realm's dispatcher calls for an FTP login.

    `client_for` gives the client with the account's own convergence secret.
    """
    tasks = Tasks()  # a logout goes on by itself; what fails in it is logged

    def make(
        root_node: FilesystemNode, avatar_id: FTPAvatarID, mind: object
    ) -> tuple[Handler, Logout]:
        root = cast("DirectoryNode", root_node)  # the account file takes directory caps alone
        peer = mind.host if isinstance(mind, Peer) else ""
        client = client_for(avatar_id.username)
        by_cap = False if avatar_id.anonymous else None  # strangers see the one directory alone
        session = VFSSession(vfs, client, root, avatar_id, peer, "ftp", uri_paths=by_cap)

        def logout() -> None:
            _ = tasks.start(session.logout())

        return Handler(session, avatar_id.options.max_sessions), logout

    return make
