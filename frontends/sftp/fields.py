"""The plain types of SSH packets (RFC 4251, section 5): numbers and strings. Pure."""

from struct import Struct

from truckee.core.errors import FormatError

U32 = Struct(">I")
U64 = Struct(">Q")


def string(value: bytes) -> bytes:
    """Return the bytes with their length in front."""
    return U32.pack(len(value)) + value


class Cursor:
    """Reads one packet from its front; what is left at the end nobody asks for.

    Every method raises FormatError when the packet ends early. Nothing is copied but strings.
    """

    __slots__ = ("_at", "_buffer", "_end")

    def __init__(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        """Read `buffer` from `start`, never beyond `end`."""
        self._buffer = buffer
        self._at = start
        self._end = end

    def _step(self, size: int) -> int:
        at = self._at
        if size > self._end - at:
            raise FormatError("the packet ends early")
        self._at = at + size
        return at

    @property
    def left(self) -> int:
        """Return how many bytes follow."""
        return self._end - self._at

    def u32(self) -> int:
        """Return a number of 4 bytes."""
        value: int = U32.unpack_from(self._buffer, self._step(4))[0]
        return value

    def u64(self) -> int:
        """Return a number of 8 bytes."""
        value: int = U64.unpack_from(self._buffer, self._step(8))[0]
        return value

    def string(self) -> bytes:
        """Return a string; one copy is made."""
        size = self.u32()
        at = self._step(size)
        return bytes(memoryview(self._buffer)[at : at + size])

    def skip_string(self) -> None:
        """Pass over a string."""
        self._step(self.u32())
