"""One SSH channel: what is queued for it, what may still come, and the subsystem that it carries.

Knows RFC 4254's channel messages; touches the connection it belongs to. What is written stays in
pieces until a packet is made of them: as many as the client takes at a time, across their borders,
copied once. What the client may send grows only by what the subsystem has dealt with.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from truckee.frontends.sftp.messages import (
    MAXIMUM_UINT32,
    Line,
    Message,
    ProtocolError,
    Reader,
    string,
    uint32,
)
from truckee.frontends.sftp.seam import LOW, Subsystem

WINDOW = 2 * 1024 * 1024
"""What a client may send ahead of what was dealt with, on its first channel."""

FURTHER_WINDOW = WINDOW // 4
"""Likewise on those that it has beside another: the longest SFTP packet fits in."""

PACKET = 64 * 1024
"""The largest piece of data in one message, in either direction."""

SMALLEST_PACKET = 1024
"""A client that takes less at a time would make us encrypt for nothing."""


class Carrier(Line, Protocol):
    """What a channel asks of its connection."""

    @property
    def can_send(self) -> bool:
        """Whether data may go out now."""
        ...

    def send_data(self, pieces: Sequence[bytes | memoryview], size: int) -> None:
        """Send a message of channel data; only while `can_send`."""
        ...

    def flow(self) -> None:
        """Send what the channels have, each in its turn, while TCP takes it."""
        ...

    def forget(self, channel: "SessionChannel") -> None:
        """Take the channel off the list: its number is free on both sides."""
        ...


class SessionChannel:
    """A channel of type session; implements seam.Channel."""

    def __init__(
        self,
        carrier: Carrier,
        number: int,
        their_number: int,
        window: int,
        packet: int,
        make_subsystem: Callable[[], Subsystem],
        window_in: int = WINDOW,
    ) -> None:
        """Take both sides' numbers, the client's window and largest packet; and our window."""
        self.number = number
        self._carrier = carrier
        self._theirs = uint32(their_number)
        self._make_subsystem = make_subsystem
        self._subsystem: Subsystem | None = None
        self._window_out = window
        self._window_in = window_in
        self._reopen = window_in // 8
        self._consumed = 0
        self._packet = min(packet, PACKET)
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._was_above = False
        self._status: int | None = None
        self._got_eof = False
        self._said_close = False

    # seam.Channel

    @property
    def unsent(self) -> int:
        """Bytes written here that were not given to TCP yet; it takes a buffer of its own at most.

        The transport gives it no more while that is full, so what it holds needs no counting.
        """
        return self._queued

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send the pieces in order."""
        if self._status is not None or self._said_close:
            return
        for piece in pieces:
            if piece:
                self._queue.append(memoryview(piece))
                self._queued += len(piece)
        if self._queued > LOW:
            self._was_above = True
        if self._carrier.can_send:
            self._carrier.flow()

    def consumed(self, size: int) -> None:
        """Let the client send as much again."""
        self._consumed += size
        if self._consumed >= self._reopen and not (self._said_close or self._got_eof):
            grown, self._consumed = self._consumed, 0
            self._window_in += grown
            self._send(Message.CHANNEL_WINDOW_ADJUST, uint32(grown))

    def close(self, status: int) -> None:
        """Send what is queued, then EOF, exit-status and CLOSE."""
        if self._status is None and not self._said_close:
            self._status = status
            self._finish()

    # out

    def send_some(self) -> bool:
        """Send one packet if there is anything and the client takes it; return whether it did.

        The connection calls this, while TCP takes data.
        """
        room = min(self._window_out, self._packet, self._queued)
        if not room or self._said_close:
            return False
        pieces: list[bytes | memoryview] = [
            b"".join((bytes((Message.CHANNEL_DATA,)), self._theirs, uint32(room)))
        ]
        left = room
        while left:
            piece = self._queue[0]
            if len(piece) <= left:
                self._queue.popleft()
            else:
                self._queue[0] = piece[left:]
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        self._queued -= room
        self._window_out -= room
        self._carrier.send_data(pieces, 9 + room)
        return True

    def sent(self) -> None:
        """Take the news that the connection has sent what it could for now."""
        if self._was_above and self._queued <= LOW:
            self._was_above = False
            if self._subsystem is not None:
                self._subsystem.drained()
        self._finish()

    def _finish(self) -> None:
        if self._status is None or self._queued or self._said_close:
            return
        self._send(Message.CHANNEL_EOF)
        status = string(b"exit-status") + b"\0" + uint32(self._status)
        self._send(Message.CHANNEL_REQUEST, status)
        self._say_close()

    def _say_close(self) -> None:
        self._said_close = True
        self._queue.clear()
        self._queued = 0
        self._send(Message.CHANNEL_CLOSE)

    def _send(self, number: Message, rest: bytes = b"") -> None:
        self._carrier.sendPacket(number, self._theirs + rest)

    # in

    def received(self, number: int, message: Reader) -> None:
        """Take a message for this channel."""
        match number:
            case Message.CHANNEL_DATA:
                self._data(message.string())
            case Message.CHANNEL_WINDOW_ADJUST:
                self._window_out += message.uint32()
                if self._window_out > MAXIMUM_UINT32:
                    raise ProtocolError("window too large")
            case Message.CHANNEL_REQUEST:
                self._request(message)
            case Message.CHANNEL_EOF:
                if not self._got_eof:
                    self._got_eof = True
                    if self._subsystem is not None:
                        self._subsystem.ended()
            case Message.CHANNEL_CLOSE:
                if not self._said_close:
                    self._say_close()
                self.lost()
                self._carrier.forget(self)
            case Message.CHANNEL_EXTENDED_DATA:
                message.skip(4)
                data = message.string()
                self._count(data)
                self.consumed(len(data))  # nobody has a use for it

    def _count(self, data: bytes) -> None:
        if len(data) > self._window_in or len(data) > PACKET:
            raise ProtocolError("more data than there is room for")
        if self._got_eof:
            raise ProtocolError("data after the end of data")
        self._window_in -= len(data)

    def _data(self, data: bytes) -> None:
        self._count(data)
        if self._subsystem is None or self._said_close or self._status is not None:
            self.consumed(len(data))
        else:
            self._subsystem.data(data)

    def _request(self, message: Reader) -> None:
        """Start SFTP, once; refuse everything else: shells, programs, terminals, forwarding."""
        kind, wants_reply = message.string(), message.boolean()
        wanted = kind == b"subsystem" and message.string() == b"sftp"
        good = wanted and self._subsystem is None and not (self._said_close or self._got_eof)
        if wants_reply and not self._said_close:
            self._send(Message.CHANNEL_SUCCESS if good else Message.CHANNEL_FAILURE)
        if good:
            self._subsystem = self._make_subsystem()
            self._subsystem.start(self)

    def lost(self) -> None:
        """Let go: the channel is gone. Again: nothing."""
        self._said_close = True
        self._queue.clear()
        self._queued = 0
        subsystem, self._subsystem = self._subsystem, None
        if subsystem is not None:
            subsystem.lost()

    @property
    def busy(self) -> bool:
        """Whether something is being done, or on its way to the client."""
        working = self._subsystem is not None and self._subsystem.busy
        return not self._said_close and (working or self._queued > 0)
