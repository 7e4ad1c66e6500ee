"""The URI extension block: the small dictionary at the end of each share that the cap's hash binds.

Knows its keys and their agreement with the capability; touches nothing. The caller compares the
hash first (`truckee.core.crypto.hashes.ueb_hash`): what arrives here is what the uploader wrote, so
an error means that the file is bad, not the share. Format: docs/formats/immutable.rst.
"""

import re
from dataclasses import dataclass
from typing import Self

from truckee.core.errors import FormatError
from truckee.core.formats import netstring
from truckee.core.formats.numbers import parse_decimal
from truckee.core.formats.segments import Segments

MAX_UEB_SIZE = 1999  # bytes; anything longer is corrupt
_KEY = re.compile(rb"([a-zA-Z_-]+):")
_MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Ueb:
    """What a reader must know about a file beside its capability."""

    segments: Segments
    ciphertext_hash: bytes | None
    ciphertext_root: bytes
    share_root: bytes

    def encode(self) -> bytes:
        """Return the bytes that go into every share: all eleven keys, in order."""
        s = self.segments
        numbers = f"-{s.needed_shares}-{s.total_shares}"
        fields = {
            "codec_name": b"crs",
            "codec_params": f"{s.segment_size}{numbers}".encode(),
            "crypttext_hash": self.ciphertext_hash,
            "crypttext_root_hash": self.ciphertext_root,
            "needed_shares": b"%d" % s.needed_shares,
            "num_segments": b"%d" % s.count,
            "segment_size": b"%d" % s.segment_size,
            "share_root_hash": self.share_root,
            "size": b"%d" % s.size,
            "tail_codec_params": f"{s.padded_tail}{numbers}".encode(),
            "total_shares": b"%d" % s.total_shares,
        }
        return b"".join(
            key.encode() + b":" + netstring.encode(value)
            for key, value in fields.items()
            if value is not None
        )

    @classmethod
    def decode(cls, raw: bytes, needed_shares: int, total_shares: int, size: int) -> Self:
        """Return the block whose bytes are authentic; k, N and size are those of the capability.

        Unknown keys are skipped. Raises FormatError when a field is missing, malformed or at odds
        with the capability, AbsurdGeometryError when the segments are too many or too large.
        """
        fields = split(raw)
        segment_size = parse_decimal(_mandatory(fields, b"segment_size"), _MAX_NUMBER)
        segments = Segments(size, needed_shares, total_shares, segment_size)
        _check_redundant(fields, segments)
        ciphertext_hash = fields.get(b"crypttext_hash")
        if ciphertext_hash is not None:
            _check_hash(ciphertext_hash)
        return cls(
            segments,
            ciphertext_hash,
            _check_hash(_mandatory(fields, b"crypttext_root_hash")),
            _check_hash(_mandatory(fields, b"share_root_hash")),
        )


def encoded_size(segments: Segments) -> int:
    """Return the length of the block of a file, known before any of its hashes is."""
    return len(Ueb(segments, bytes(32), bytes(32), bytes(32)).encode())


def split(raw: bytes) -> dict[bytes, bytes]:
    """Return keys and values as they stand there; raise FormatError."""
    if len(raw) > MAX_UEB_SIZE:
        raise FormatError("the URI extension block is too long")
    fields: dict[bytes, bytes] = {}
    position = 0
    while position < len(raw):
        match = _KEY.match(raw, position)
        if match is None or match[1] in fields:
            raise FormatError("the URI extension block has a bad or repeated key")
        fields[match[1]], position = netstring.take(raw, match.end())
    return fields


def _mandatory(fields: dict[bytes, bytes], key: bytes) -> bytes:
    value = fields.get(key)
    if value is None:
        raise FormatError("the URI extension block lacks a field")
    return value


def _check_hash(value: bytes) -> bytes:
    if len(value) != 32:
        raise FormatError("the URI extension block has a hash of the wrong length")
    return value


def _check_redundant(fields: dict[bytes, bytes], segments: Segments) -> None:
    """Check the fields that repeat what the capability and the segment size say already."""
    numbers = {
        b"needed_shares": segments.needed_shares,
        b"total_shares": segments.total_shares,
        b"size": segments.size,
        b"num_segments": segments.count,
    }
    for key, expected in numbers.items():
        if key in fields and parse_decimal(fields[key], _MAX_NUMBER) != expected:
            raise FormatError("the URI extension block contradicts the capability")
    if fields.get(b"codec_name", b"crs") != b"crs":
        raise FormatError("the URI extension block names another codec")
    for key, first in (
        (b"codec_params", segments.segment_size),
        (b"tail_codec_params", segments.padded_tail),
    ):
        if key not in fields:
            continue
        found = [parse_decimal(part, _MAX_NUMBER) for part in fields[key].split(b"-")]
        if found != [first, segments.needed_shares, segments.total_shares]:
            raise FormatError("the URI extension block contradicts itself")
