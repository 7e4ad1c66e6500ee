"""SSH public keys as account lines and ``authorized_keys`` files write them.

Knows the key types that may log in and the wire form of a key blob (RFC 4253, 5656, 8709, OpenSSH's
PROTOCOL.u2f); touches nothing. Errors are AccountError with a reason that quotes no key.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from truckee.core.errors import AccountError

RSA_MINIMUM_BITS = 2048
_MAXIMUM_BLOB = 8192
_CURVES = {
    b"nistp256": 65,
    b"nistp384": 97,
    b"nistp521": 133,
}
KEY_TYPES = frozenset(
    {
        "ssh-rsa",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key that may log in: its type, its wire form, and the comment beside it."""

    key_type: str
    blob: bytes
    comment: str = ""

    @property
    def fingerprint(self) -> str:
        """Return the name that ssh-keygen gives it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest())
        return f"SHA256:{digest.decode('ascii').rstrip('=')}"

    @property
    def text(self) -> str:
        """Return the blob as base64."""
        return base64.b64encode(self.blob).decode("ascii")


def is_key_type(word: str) -> bool:
    """Return whether a word in the second field announces a public key, supported or not."""
    return word in KEY_TYPES or word.startswith("ssh-") or word.endswith("-cert-v01@openssh.com")


def parse(key_type: str, text: str, comment: str = "") -> PublicKey:
    """Return the key; raise AccountError with the reason when it may not be used."""
    if key_type not in KEY_TYPES:
        raise AccountError(f"key type {key_type[:40]} not supported")
    try:
        blob = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise AccountError("the public key is not base64") from None
    if len(blob) > _MAXIMUM_BLOB:
        raise AccountError("the public key is too long")
    _check(key_type.encode("ascii"), strings(blob))
    return PublicKey(key_type, blob, comment)


def parse_file(text: str) -> list[PublicKey]:
    """Return the keys of an OpenSSH public key file or an ``authorized_keys`` file.

    Raises AccountError with the number of a line that is none, or that has options of its own:
    to leave them out would make more of a key than it was.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(None, 2)
        if not fields or fields[0].startswith("#"):
            continue
        try:
            if "PRIVATE KEY" in line or fields[0].startswith("PuTTY-User-Key-File"):
                raise AccountError("this is a private key")
            if not is_key_type(fields[0]) and any(map(is_key_type, line.split())):
                raise AccountError("options in front of a key are not taken")
            if len(fields) < 2 or not is_key_type(fields[0]):
                raise AccountError("this is no public key")
            found.append(parse(fields[0], fields[1], fields[2] if len(fields) > 2 else ""))
        except AccountError as error:
            raise AccountError(f"line {number}: {error}") from None
    if not found:
        raise AccountError("there is no public key in it")
    return found


def strings(blob: bytes) -> list[bytes]:
    """Return the length-prefixed strings that make up a key blob; AccountError if it is cut."""
    found, position = [], 0
    while position < len(blob):
        length = int.from_bytes(blob[position : position + 4])
        if position + 4 + length > len(blob):
            raise AccountError("the public key is cut short")
        found.append(blob[position + 4 : position + 4 + length])
        position += 4 + length
    return found


def _check(key_type: bytes, parts: list[bytes]) -> None:
    if not parts or parts[0] != key_type:
        raise AccountError("the public key is of another type than its line says")
    match key_type, parts[1:]:
        case b"ssh-rsa", [exponent, modulus]:
            _check_rsa(int.from_bytes(exponent), int.from_bytes(modulus))
        case b"ssh-ed25519", [point]:
            _check_size(point, 32)
        case b"sk-ssh-ed25519@openssh.com", [point, application]:
            _check_size(point, 32)
            _check_application(application)
        case b"sk-ecdsa-sha2-nistp256@openssh.com", [b"nistp256", point, application]:
            _check_point(b"nistp256", point)
            _check_application(application)
        case _, [curve, point] if key_type == b"ecdsa-sha2-" + curve and curve in _CURVES:
            _check_point(curve, point)
        case _:
            raise AccountError("the public key does not have the parts of its type")


def _check_rsa(exponent: int, modulus: int) -> None:
    if modulus.bit_length() < RSA_MINIMUM_BITS:
        raise AccountError(f"RSA key shorter than {RSA_MINIMUM_BITS} bits")
    if exponent < 3 or not exponent & 1 or exponent.bit_length() > 32:
        raise AccountError("RSA key with an unusable exponent")


def _check_size(part: bytes, size: int) -> None:
    if len(part) != size:
        raise AccountError("the public key has a part of the wrong length")


def _check_point(curve: bytes, point: bytes) -> None:
    _check_size(point, _CURVES[curve])
    if point[:1] != b"\x04":
        raise AccountError("the public key is not an uncompressed curve point")


def _check_application(application: bytes) -> None:
    if not application:
        raise AccountError("the public key names no application")
