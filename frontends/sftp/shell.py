"""The avatar of an SFTP login. Knows the vfs and the realm's seam; touches nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from truckee.auth.realm import Factory, FTPAvatarID, Logout
from truckee.core.interfaces import Client, DirectoryNode, FilesystemNode
from truckee.core.tasks import Tasks
from truckee.frontends.sftp.handles import MAX_ANSWERS, Room
from truckee.frontends.vfs.read_stream import Budget
from truckee.frontends.vfs.session import Vfs, VFSSession

ALL_ANSWERS = 64 * 1024 * 1024
"""Bytes of answers that wait for all clients together, beyond a little of each channel."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who logs in: the `mind` that goes through the portal to the factory."""

    host: str
    protocol: str = "sftp"


@dataclass(frozen=True, slots=True)
class SFTPUser:
    """What the realm gives for IConchUser: one account's view of the filestore.

    The interface is only the key to ask the realm with. What a session may do on its connection is
    fixed (one subsystem, nothing else), so there is nothing for an avatar to look up.
    """

    session: VFSSession
    max_sessions: int | None = None
    room: Room = field(default_factory=Room)
    """What its channels have open, and owe."""


def user_factory(vfs: Vfs, client_for: Callable[[str], Client]) -> Factory:
    """Return the factory that the realm's dispatcher calls for an SFTP login.

    `client_for` gives the client with the account's own convergence secret.
    """
    answers = Budget(ALL_ANSWERS)
    tasks = Tasks()  # a logout goes on by itself; what fails in it is logged

    def make(
        root_node: FilesystemNode, avatar_id: FTPAvatarID, mind: object
    ) -> tuple[SFTPUser, Logout]:
        root = cast("DirectoryNode", root_node)  # the account file takes directory caps alone
        peer = mind.host if isinstance(mind, Peer) else ""
        session = VFSSession(vfs, client_for(avatar_id.username), root, avatar_id, peer, "sftp")

        def logout() -> None:
            _ = tasks.start(session.logout())

        room = Room(answers=Budget(MAX_ANSWERS, answers))
        return SFTPUser(session, avatar_id.options.max_sessions, room), logout

    return make
