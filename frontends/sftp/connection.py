"""The channels of one connection, after the login: the service ssh-connection, RFC 4254.

Knows channels; touches the transport it stands on. There are channels of type session and nothing
else; no forwarding, no global request is granted. Every refusal is said at once.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from truckee.frontends.sftp.channel import (
    FURTHER_WINDOW,
    PACKET,
    SMALLEST_PACKET,
    WINDOW,
    SessionChannel,
)
from truckee.frontends.sftp.messages import (
    MAXIMUM_UINT32,
    Line,
    Message,
    ProtocolError,
    Reader,
    Reason,
    string,
    uint32,
)
from truckee.frontends.sftp.seam import Subsystem

_PROHIBITED = 1
_CONNECT_FAILED = 2
_SHORTAGE = 4

_FOR_CHANNELS = frozenset(range(Message.CHANNEL_WINDOW_ADJUST, Message.CHANNEL_REQUEST + 1))
_ANSWERS = frozenset(
    {
        Message.REQUEST_SUCCESS,
        Message.REQUEST_FAILURE,
        Message.CHANNEL_SUCCESS,
        Message.CHANNEL_FAILURE,
    }
)


class Floor(Line, Protocol):
    """What the channels ask of the transport."""

    def worked(self) -> None:
        """Take note that the client used a channel."""
        ...

    @property
    def can_send(self) -> bool:
        """Whether data may go out now."""
        ...

    def send_data(self, pieces: Sequence[bytes | memoryview], size: int) -> None:
        """Send a message of channel data; only while `can_send`."""
        ...


class Connection:
    """Every channel of one client."""

    def __init__(
        self, floor: Floor, make_subsystem: Callable[[], Subsystem], max_channels: int
    ) -> None:
        """Take the transport, what makes a subsystem, and how many channels there may be."""
        self._floor = floor
        self._make_subsystem = make_subsystem
        self._max_channels = max_channels
        self._channels: dict[int, SessionChannel] = {}
        self._next_number = 0
        self._flowing = False

    @property
    def busy(self) -> bool:
        """Whether something is being done on any channel."""
        return any(channel.busy for channel in self._channels.values())

    @property
    def has_unsent(self) -> bool:
        """Whether data waits on any channel."""
        return any(channel.unsent for channel in self._channels.values())

    # what channels ask

    @property
    def can_send(self) -> bool:
        """Whether data may go out now."""
        return self._floor.can_send and not self._flowing

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Send a small message."""
        self._floor.sendPacket(messageType, payload)

    def disconnect(self, reason: Reason, text: str) -> None:
        """End the connection."""
        self._floor.disconnect(reason, text)

    def send_data(self, pieces: Sequence[bytes | memoryview], size: int) -> None:
        """Send channel data."""
        self._floor.send_data(pieces, size)

    def forget(self, channel: SessionChannel) -> None:
        """Take a channel off the list."""
        self._channels.pop(channel.number, None)

    def flow(self) -> None:
        """Send what the channels have, a packet of each in turn, while TCP takes it."""
        if self._flowing:
            return
        self._flowing = True
        try:
            ready = deque(self._channels.values())
            while ready and self._floor.can_send:
                channel = ready.popleft()
                if channel.send_some():
                    ready.append(channel)
        finally:
            self._flowing = False
        for channel in list(self._channels.values()):
            channel.sent()

    # messages

    def received(self, number: int, message: Reader) -> bool:
        """Take a message of the client; return whether it is known. ProtocolError ends all."""
        if number in _FOR_CHANNELS:
            self._floor.worked()
            channel = self._channels.get(message.uint32())
            if channel is None:
                raise ProtocolError("no such channel")
            channel.received(number, message)
        elif number == Message.GLOBAL_REQUEST:
            message.string()
            if message.boolean():
                self.sendPacket(Message.REQUEST_FAILURE, b"")
        elif number == Message.CHANNEL_OPEN:
            self._open(message)
        else:
            return number in _ANSWERS
        return True

    def _open(self, message: Reader) -> None:
        kind, theirs = message.string(), message.uint32()
        window, packet = message.uint32(), message.uint32()
        if kind != b"session":
            self._refuse(theirs, _PROHIBITED, b"only sessions are served here")
        elif len(self._channels) >= self._max_channels:
            self._refuse(theirs, _SHORTAGE, b"too many channels")
        elif packet < SMALLEST_PACKET:
            self._refuse(theirs, _CONNECT_FAILED, b"packets too small")
        else:
            number = self._next_number
            self._next_number = (number + 1) & MAXIMUM_UINT32
            ours = FURTHER_WINDOW if self._channels else WINDOW
            self._channels[number] = SessionChannel(
                self, number, theirs, window, packet, self._make_subsystem, ours
            )
            confirmed = uint32(theirs, number, ours, PACKET)
            self.sendPacket(Message.CHANNEL_OPEN_CONFIRMATION, confirmed)

    def _refuse(self, theirs: int, code: int, text: bytes) -> None:
        rest = uint32(theirs, code) + string(text) + string(b"")
        self.sendPacket(Message.CHANNEL_OPEN_FAILURE, rest)

    def lost(self) -> None:
        """Let go of every channel."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            channel.lost()
