"""Whether a signature of SSH user authentication is good.

Knows the signature formats of RFC 4253, 5656, 8332, 8709 and OpenSSH's PROTOCOL.u2f, and which
algorithm goes with which type of key; touches nothing. All of it comes from somebody who has not
logged in yet: whatever is malformed is simply not a good signature. SHA-1 (``ssh-rsa`` as an
algorithm) is not known here. `verify` costs up to a few milliseconds: run it behind a `Cpu` door.
"""

import hashlib
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from truckee.auth.public_keys import strings
from truckee.core.errors import AccountError

USER_PRESENT = 0x01
USER_VERIFIED = 0x04
_LONGEST = 16384

_CURVES: dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
    b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
    b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
}

KEY_TYPE_OF = MappingProxyType(
    {
        b"ssh-ed25519": b"ssh-ed25519",
        b"sk-ssh-ed25519@openssh.com": b"sk-ssh-ed25519@openssh.com",
        b"ecdsa-sha2-nistp256": b"ecdsa-sha2-nistp256",
        b"ecdsa-sha2-nistp384": b"ecdsa-sha2-nistp384",
        b"ecdsa-sha2-nistp521": b"ecdsa-sha2-nistp521",
        b"sk-ecdsa-sha2-nistp256@openssh.com": b"sk-ecdsa-sha2-nistp256@openssh.com",
        b"rsa-sha2-512": b"ssh-rsa",
        b"rsa-sha2-256": b"ssh-rsa",
    }
)
"""The algorithms that are taken, in the order in which a server names them, with the key's type."""


class _Bad(Exception):
    """It is no good signature."""


def fits(algorithm: bytes, blob: bytes) -> bool:
    """Return whether this algorithm is taken at all, and belongs to the type of this key."""
    key_type = KEY_TYPE_OF.get(algorithm)
    return key_type is not None and blob.startswith(len(key_type).to_bytes(4) + key_type)


def verify(
    algorithm: bytes, blob: bytes, signed: bytes, signature: bytes, *, verified: bool = False
) -> bool:
    """Return whether `signature` was made over `signed` by this key with exactly this algorithm.

    A security key must have felt a touch and, with `verified`, have checked who touched it (by PIN
    or fingerprint); `verified` asks nothing of keys that cannot tell.
    """
    if not fits(algorithm, blob) or len(signature) > _LONGEST:
        return False
    try:
        name, rest = _string(signature)
        if name != algorithm:
            return False
        key_type, *parts = strings(blob)
        _check(algorithm, key_type, parts, rest, signed, verified)
    except (_Bad, AccountError, ValueError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check(
    algorithm: bytes,
    key_type: bytes,
    parts: list[bytes],
    rest: bytes,
    signed: bytes,
    verified: bool,
) -> None:
    match key_type, parts:
        case b"ssh-rsa", [exponent, modulus]:
            _check_rsa(_RSA_HASHES[algorithm], exponent, modulus, _only(rest), signed)
        case b"ssh-ed25519", [point]:
            _check_ed25519(point, _only(rest), signed)
        case b"sk-ssh-ed25519@openssh.com", [point, application]:
            proper, flags = _string(rest)
            _check_ed25519(point, proper, _by_security_key(application, flags, signed, verified))
        case b"sk-ecdsa-sha2-nistp256@openssh.com", [b"nistp256", point, application]:
            proper, flags = _string(rest)
            told = _by_security_key(application, flags, signed, verified)
            _check_ecdsa(b"nistp256", point, proper, told)
        case _, [curve, point] if key_type == b"ecdsa-sha2-" + curve and curve in _CURVES:
            _check_ecdsa(curve, point, _only(rest), signed)
        case _:
            raise _Bad


def _by_security_key(application: bytes, flags: bytes, signed: bytes, verified: bool) -> bytes:
    """Return what a security key signs in the place of `signed`, its own report included."""
    wanted = USER_PRESENT | (USER_VERIFIED if verified else 0)
    if len(flags) != 5 or flags[0] & wanted != wanted:  # one byte, then a counter
        raise _Bad
    return hashlib.sha256(application).digest() + flags + hashlib.sha256(signed).digest()


def _check_rsa(
    algorithm: hashes.HashAlgorithm, exponent: bytes, modulus: bytes, proper: bytes, signed: bytes
) -> None:
    n = _number(modulus)
    key = rsa.RSAPublicNumbers(_number(exponent), n).public_key()
    size = (n.bit_length() + 7) // 8
    if len(proper) > size:
        raise _Bad
    # some clients leave out zeros in front
    key.verify(proper.rjust(size, b"\x00"), signed, padding.PKCS1v15(), algorithm)


def _check_ed25519(point: bytes, proper: bytes, signed: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(point).verify(proper, signed)


def _check_ecdsa(curve: bytes, point: bytes, proper: bytes, signed: bytes) -> None:
    kind, algorithm = _CURVES[curve]
    r, rest = _string(proper)
    key = ec.EllipticCurvePublicKey.from_encoded_point(kind, point)
    key.verify(encode_dss_signature(_number(r), _number(_only(rest))), signed, ec.ECDSA(algorithm))


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Return the length-prefixed string that `data` begins with, and what follows it."""
    length = int.from_bytes(data[:4])
    if len(data) < 4 + length:
        raise _Bad
    return data[4 : 4 + length], data[4 + length :]


def _only(data: bytes) -> bytes:
    """Return the length-prefixed string that `data` consists of."""
    found, rest = _string(data)
    if rest:
        raise _Bad
    return found


def _number(data: bytes) -> int:
    """Return a positive number of SSH's mpint form."""
    if not data or data[0] & 0x80:
        raise _Bad
    return int.from_bytes(data)
