"""RSA key pairs of mutable files: make, load, sign, verify.

Knows DER, PEM and RSASSA-PSS; touches ``cryptography``. DER bytes are kept as found, since
capabilities are hashes over them. Everything here but `PublicKey.load` and `PublicKey.verify` on
2048-bit keys takes long enough for a worker thread. Format: docs/formats/mutable.rst.
"""

from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes as digests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from truckee.core.errors import FormatError

KEY_BITS = 2048
MAX_PUBLIC_BITS = 4096
MAX_PUBLIC_DER = 1024
MAX_PRIVATE_DER = 4096
MAX_PEM = 16384
SIGNATURE_SIZE = KEY_BITS // 8
MAX_SIGNATURE_SIZE = MAX_PUBLIC_BITS // 8
_EXPONENT = 65537
_LEAST_EXPONENT, _EXPONENT_LIMIT = 3, 2**32
_PSS = padding.PSS(mgf=padding.MGF1(digests.SHA256()), salt_length=32)
_HASH = digests.SHA256()
_LOAD_ERRORS = (ValueError, TypeError, UnsupportedAlgorithm)


def _check_exponent(e: int) -> None:
    if not (_LEAST_EXPONENT <= e < _EXPONENT_LIMIT and e % 2):
        raise FormatError("the exponent of an RSA key is out of range")


@dataclass(frozen=True, slots=True, repr=False)
class PublicKey:
    """The key that verifies signatures; equal when the DER bytes are."""

    der: bytes
    _key: rsa.RSAPublicKey = field(compare=False)

    @classmethod
    def load(cls, der: bytes) -> Self:
        """Return the key in a DER SubjectPublicKeyInfo.

        Raises FormatError unless it is RSA of 2048 to 4096 bits with an odd 32-bit exponent >= 3.
        """
        if len(der) > MAX_PUBLIC_DER:
            raise FormatError("a public key is too long")
        try:
            key = serialization.load_der_public_key(der)
        except _LOAD_ERRORS:
            raise FormatError("bytes are no public key") from None
        if not isinstance(key, rsa.RSAPublicKey):
            raise FormatError("a public key is not RSA")
        if not KEY_BITS <= key.key_size <= MAX_PUBLIC_BITS:
            raise FormatError("the size of a public key is out of range")
        _check_exponent(key.public_numbers().e)
        return cls(der, key)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` over `message` was made by the private half of this key."""
        if len(signature) > MAX_SIGNATURE_SIZE:
            return False
        try:
            self._key.verify(signature, message, _PSS, _HASH)
        except (InvalidSignature, ValueError):
            return False
        return True

    def numbers(self) -> tuple[int, int]:
        """Return modulus and exponent."""
        numbers = self._key.public_numbers()
        return numbers.n, numbers.e


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """Both halves of a key; the DER bytes of each are those that capabilities are made from."""

    private_der: bytes
    public_der: bytes
    _key: rsa.RSAPrivateKey = field(compare=False)

    def sign(self, message: bytes) -> bytes:
        """Return a 256-byte signature; another one each time. Takes about 0.3 ms."""
        return self._key.sign(message, _PSS, _HASH)


def _public_der(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _private_der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _checked(key: object) -> rsa.RSAPrivateKey:
    if not isinstance(key, rsa.RSAPrivateKey):
        raise FormatError("a private key is not RSA")
    if key.key_size != KEY_BITS:
        raise FormatError("a private key has not 2048 bits")
    _check_exponent(key.public_key().public_numbers().e)
    return key


def generate() -> KeyPair:
    """Make a new key pair; takes 10 to 130 ms."""
    key = rsa.generate_private_key(_EXPONENT, KEY_BITS)
    return KeyPair(_private_der(key), _public_der(key), key)


def load_private(der: bytes, public: PublicKey | None = None) -> KeyPair:
    """Return the pair in an unencrypted DER PKCS#8 key of 2048 bits.

    With `public` the caller vouches for the bytes (they hash to the write key of a capability):
    the primes are not tested, which would take 36 ms, but the key must be the private half of
    `public`, whose DER is kept as found. Raises FormatError.
    """
    if len(der) > MAX_PRIVATE_DER:
        raise FormatError("a private key is too long")
    try:
        loaded = serialization.load_der_private_key(
            der, None, unsafe_skip_rsa_key_validation=public is not None
        )
    except _LOAD_ERRORS:
        raise FormatError("bytes are no private key") from None
    key = _checked(loaded)
    if public is None:
        return KeyPair(der, _public_der(key), key)
    numbers = key.public_key().public_numbers()
    if (numbers.n, numbers.e) != public.numbers():
        raise FormatError("a private key does not belong to the public one")
    return KeyPair(der, public.der, key)


def load_pem(pem: bytes) -> KeyPair:
    """Return the pair in an unencrypted PEM private key of 2048 bits; raise FormatError.

    The DER is made anew from the key's numbers, as Tahoe-LAFS does with a key that it is given.
    """
    if len(pem) > MAX_PEM:
        raise FormatError("a private key file is too long")
    try:
        loaded = serialization.load_pem_private_key(pem, None)
    except _LOAD_ERRORS:
        raise FormatError("not an unencrypted PEM private key") from None
    key = _checked(loaded)
    return KeyPair(_private_der(key), _public_der(key), key)
