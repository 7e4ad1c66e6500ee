"""Netstrings: a decimal length, a colon, the bytes, a comma.

Knows bytes; touches nothing. Format: docs/formats/primitives.rst.
"""

from truckee.core.crypto.hashes import netstring as encode
from truckee.core.errors import FormatError

__all__ = ["decode_all", "encode", "take"]

_MAX_DIGITS = 20


def take(data: bytes | memoryview, position: int) -> tuple[bytes, int]:
    """Return the netstring that starts at `position` and the position after its comma.

    Raises FormatError when the framing is broken or the length runs past the end of `data`.
    """
    colon = -1
    for i in range(position, min(len(data), position + _MAX_DIGITS + 1)):
        byte = data[i]
        if byte == 0x3A:
            colon = i
            break
        if not 0x30 <= byte <= 0x39:
            raise FormatError("netstring length is not a number")
    digits = bytes(data[position:colon]) if colon > position else b""
    if not digits or (len(digits) > 1 and digits.startswith(b"0")):
        raise FormatError("netstring length is missing or not canonical")
    end = colon + 1 + int(digits)
    if end >= len(data) or data[end] != 0x2C:
        raise FormatError("netstring is cut short or lacks its comma")
    return bytes(data[colon + 1 : end]), end + 1


def decode_all(data: bytes | memoryview) -> list[bytes]:
    """Return all netstrings that make up `data`; raise FormatError if anything else is in it."""
    found: list[bytes] = []
    position = 0
    while position < len(data):
        value, position = take(data, position)
        found.append(value)
    return found
