"""The beginning of a share, judged: is it a share of this file, and of which version? Pure.

Knows both layouts and what a signature covers; touches nothing. Everything here comes from a
server and is believed only as far as the signature and the fingerprint in the capability reach.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from truckee.core.crypto import rsa
from truckee.core.crypto.hashes import mutable_fingerprint
from truckee.core.errors import CorruptShareError, FormatError, LayoutError, UnknownVersionError
from truckee.core.formats import mdmf, sdmf
from truckee.core.formats.mutable_share import Sections
from truckee.core.mutable.encoding import Header

HEAD_SIZE = 4000
"""Bytes asked of each share at first: they hold all that a version is known by, as a rule."""


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    """What the beginning of a share says of itself; the signature is still to be checked."""

    header: Header
    sections: Sections
    head: bytes
    pubkey: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """Return a name for the three things that a check of the signature depends on."""
        parts = (self.header.prefix, self.pubkey, self.signature)
        return hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()


def decode_header(raw: bytes) -> tuple[Header, Sections]:
    """Return header and sections of a share of either layout.

    Raises UnknownVersionError or LayoutError.
    """
    match raw[:1]:
        case b"\x00":
            return sdmf.decode_header(raw)
        case b"\x01":
            return mdmf.decode_header(raw)
    raise UnknownVersionError("a mutable share of unknown layout")


def bytes_needed(raw: bytes) -> int:
    """Return how many bytes from the start it takes to judge this share; raise FormatError."""
    _, sections = decode_header(raw)
    return sections.proof_end


def claim(raw: bytes, shnum: int, fingerprint: bytes, *, whole: bool) -> Claim:
    """Return what the first bytes of share `shnum` claim; `whole` says that there are no more.

    Raises FormatError for bytes that break their layout, CorruptShareError for another file's key
    or a share number that the version does not have.
    """
    header, sections = decode_header(raw)
    if whole and sections.end > len(raw):
        raise LayoutError("a mutable share is cut short")
    if not 0 <= shnum < header.geometry.total_shares:
        raise CorruptShareError("a share number beyond those of its version")
    pubkey = sections.pubkey.cut(raw)
    if not hmac.compare_digest(mutable_fingerprint(pubkey), fingerprint):
        raise CorruptShareError("a share carries another public key")
    return Claim(header, sections, raw, pubkey, sections.signature.cut(raw))


def verify(claims: Sequence[Claim]) -> list[bool]:
    """Return for each claim whether its signature is good. CPU work: 25 to 300 us each."""
    return [_verify(claim) for claim in claims]


def _verify(claim: Claim) -> bool:
    try:
        public = rsa.PublicKey.load(claim.pubkey)
    except FormatError:
        return False
    return public.verify(claim.signature, claim.header.prefix)
