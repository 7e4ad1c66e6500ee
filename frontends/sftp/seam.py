"""The seam between the two halves of this room: SSH below, SFTP above.

Knows nothing but bytes. `channel.py` implements `Channel` on an SSH connection; `subsystem.py`
implements `Subsystem` over a VFSSession. Tests put one of them on a fake of the other.
"""

from collections.abc import Sequence
from typing import Protocol

HIGH = 4 * 1024 * 1024
"""With more unsent bytes than this a subsystem takes no new requests."""

LOW = 256 * 1024
"""When unsent bytes fall to this, `Subsystem.drained` is called."""


class Channel(Protocol):
    """One SSH channel, as a subsystem sees it. No call blocks, none raises for a lost peer."""

    @property
    def unsent(self) -> int:
        """Bytes written here that TCP has not taken yet."""
        ...

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send the pieces in order, in one go; they are not changed afterwards."""
        ...

    def consumed(self, size: int) -> None:
        """Say that `size` bytes given to `Subsystem.data` are dealt with.

        The window for what the client may send grows again by as much, and by nothing else.
        """
        ...

    def close(self, status: int) -> None:
        """Send what is queued, then EOF, exit-status `status` and CLOSE. Again: nothing."""
        ...


class Subsystem(Protocol):
    """What runs on a channel. Called from the reactor's thread alone."""

    @property
    def busy(self) -> bool:
        """Whether requests are under way, commits among them."""
        ...

    def start(self, channel: Channel) -> None:
        """Take the channel; called once, first."""
        ...

    def data(self, data: bytes) -> None:
        """Take bytes from the client, cut anywhere."""
        ...

    def drained(self) -> None:
        """Go on: after more than LOW unsent bytes there are LOW or fewer."""
        ...

    def ended(self) -> None:
        """Take the EOF of the client: answer what is open, then call `Channel.close`."""
        ...

    def lost(self) -> None:
        """Let go of everything: the channel is gone. What is not committed is abandoned."""
        ...
