"""Base32 as capabilities write it: RFC 4648 order, lower case, no padding, strict.

Knows text and bytes; touches nothing. Format: docs/formats/primitives.rst.
"""

import base64

from truckee.core.errors import FormatError

_ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_DIGITS = bytes.maketrans(_ALPHABET, b"0123456789abcdefghijklmnopqrstuv")  # those of int(…, 32)
_LEGAL_REMAINDERS = frozenset((0, 2, 4, 5, 7))


def b2a(data: bytes) -> str:
    """Return the base32 text of `data`, without padding."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def a2b(text: str) -> bytes:
    """Return the bytes that `text` spells; raise FormatError for any but the one canonical text."""
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise FormatError("base32 text has a character outside its alphabet") from None
    if raw.translate(None, _ALPHABET):
        raise FormatError("base32 text has a character outside its alphabet")
    if len(raw) % 8 not in _LEGAL_REMAINDERS:
        raise FormatError("base32 text has an impossible length")
    if not raw:
        return b""
    # one big number, several times faster than base64.b32decode; linear, as 32 is a power of two
    value, unused = int(raw.translate(_DIGITS), 32), len(raw) * 5 % 8
    if value & ((1 << unused) - 1):
        raise FormatError("base32 text has unused bits set")
    return (value >> unused).to_bytes(len(raw) * 5 // 8, "big")
