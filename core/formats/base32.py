"""Base32 as capabilities write it: RFC 4648 order, lower case, no padding, strict.

Knows text and bytes; touches nothing. Format: docs/formats/primitives.rst.
"""

import base64

from truckee.core.errors import FormatError

_ALPHABET = frozenset(b"abcdefghijklmnopqrstuvwxyz234567")
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
    if not _ALPHABET.issuperset(raw):
        raise FormatError("base32 text has a character outside its alphabet")
    if len(raw) % 8 not in _LEGAL_REMAINDERS:
        raise FormatError("base32 text has an impossible length")
    data = base64.b32decode(raw.upper() + b"=" * (-len(raw) % 8))
    if b2a(data) != text:
        raise FormatError("base32 text has unused bits set")
    return data
