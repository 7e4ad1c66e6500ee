"""SSH's alphabet: message numbers, reasons to part, and the encoding of strings and numbers.

Pure: bytes in, values out. Everything read comes from a stranger, so whatever is cut short or left
over is a ProtocolError, which the transport turns into a DISCONNECT with that reason and text.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Protocol

MAXIMUM_UINT32 = 0xFFFFFFFF


class Message(IntEnum):
    """The messages that are sent or understood here."""

    DISCONNECT = 1
    IGNORE = 2
    UNIMPLEMENTED = 3
    DEBUG = 4
    SERVICE_REQUEST = 5
    SERVICE_ACCEPT = 6
    EXT_INFO = 7
    KEXINIT = 20
    NEWKEYS = 21
    KEX_INIT = 30
    KEX_REPLY = 31
    USERAUTH_REQUEST = 50
    USERAUTH_FAILURE = 51
    USERAUTH_SUCCESS = 52
    USERAUTH_PK_OK = 60
    GLOBAL_REQUEST = 80
    REQUEST_SUCCESS = 81
    REQUEST_FAILURE = 82
    CHANNEL_OPEN = 90
    CHANNEL_OPEN_CONFIRMATION = 91
    CHANNEL_OPEN_FAILURE = 92
    CHANNEL_WINDOW_ADJUST = 93
    CHANNEL_DATA = 94
    CHANNEL_EXTENDED_DATA = 95
    CHANNEL_EOF = 96
    CHANNEL_CLOSE = 97
    CHANNEL_REQUEST = 98
    CHANNEL_SUCCESS = 99
    CHANNEL_FAILURE = 100


class Reason(IntEnum):
    """Why a connection ends, for DISCONNECT."""

    PROTOCOL_ERROR = 2
    KEY_EXCHANGE_FAILED = 3
    MAC_ERROR = 5
    SERVICE_NOT_AVAILABLE = 7
    VERSION_NOT_SUPPORTED = 8
    BY_APPLICATION = 11
    TOO_MANY_CONNECTIONS = 12
    NO_MORE_AUTH_METHODS = 14


class ProtocolError(Exception):
    """The peer broke the protocol, or nothing can be agreed with it: the connection ends."""

    def __init__(self, text: str, reason: Reason = Reason.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class Line(Protocol):
    """What the layers above may ask of the transport."""

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Send a message, or keep it until the running key exchange is over."""
        ...

    def disconnect(self, reason: Reason, text: str) -> None:
        """Say why, and end the connection. Again: nothing."""
        ...


def string(data: bytes) -> bytes:
    """Return `data` behind its length."""
    return len(data).to_bytes(4) + data


def name_list(names: Iterable[bytes]) -> bytes:
    """Return a list of names as a string."""
    return string(b",".join(names))


def uint32(*numbers: int) -> bytes:
    """Return the numbers in four bytes each."""
    return b"".join(number.to_bytes(4) for number in numbers)


class Reader:
    """Takes a message apart, from its front. Every method may raise ProtocolError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            raise ProtocolError("message cut short")
        found = self._data[self._at : end]
        self._at = end
        return found

    def uint32(self) -> int:
        """Return a number."""
        return int.from_bytes(self._take(4))

    def boolean(self) -> bool:
        """Return a truth value; any byte but zero is true."""
        return self._take(1)[0] != 0

    def string(self) -> bytes:
        """Return a string, as a copy."""
        return bytes(self._take(self.uint32()))

    def names(self) -> list[bytes]:
        """Return a list of names."""
        return self.string().split(b",")

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        self._take(size)

    def end(self) -> None:
        """Insist that nothing is left."""
        if self._at != len(self._data):
            raise ProtocolError("message too long")
