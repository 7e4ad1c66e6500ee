"""Keys that sign as SSH clients do, security keys with everything that they can get wrong."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fakes.account_lines import string

CURVES = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
RSA_HASHES = {
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
    b"ssh-rsa": hashes.SHA1(),
}
APPLICATION = b"ssh:"


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1))


def point(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def raw(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@dataclass(frozen=True)
class Key:
    """A private key with its SSH names."""

    key_type: str
    algorithm: bytes
    private: Any
    blob: bytes

    @property
    def line(self) -> str:
        """The two fields of an account line."""
        return f"{self.key_type} {base64.b64encode(self.blob).decode()}"

    def sign(
        self, data: bytes, algorithm: bytes = b"", flags: int = 1, application: bytes = APPLICATION
    ) -> bytes:
        """Return the signature in wire form."""
        name = algorithm or self.algorithm
        tail = b""
        if self.key_type.startswith("sk-"):
            tail = bytes([flags]) + (77).to_bytes(4)
            data = hashlib.sha256(application).digest() + tail + hashlib.sha256(data).digest()
        return string(name) + string(self.proper(data, name)) + tail

    def proper(self, data: bytes, algorithm: bytes) -> bytes:
        if "ed25519" in self.key_type:
            return self.private.sign(data)
        if self.key_type == "ssh-rsa":
            return self.private.sign(data, padding.PKCS1v15(), RSA_HASHES[algorithm])
        curve = self.key_type.removeprefix("sk-").removeprefix("ecdsa-sha2-").split("@")[0]
        r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(CURVES[curve][1])))
        return mpint(r) + mpint(s)


@cache
def key(kind: str, number: int = 0) -> Key:
    """Return the key of a type (an algorithm, for RSA); the same one each time."""
    name = kind.encode()
    if kind == "ssh-ed25519":
        private: Any = Ed25519PrivateKey.generate()
        return Key(kind, name, private, string(name) + string(raw(private)))
    if kind == "sk-ssh-ed25519@openssh.com":
        private = Ed25519PrivateKey.generate()
        blob = string(name) + string(raw(private)) + string(APPLICATION)
        return Key(kind, name, private, blob)
    if kind.startswith("rsa-sha2"):
        private = rsa_key(number)
        numbers = private.public_key().public_numbers()
        blob = string(b"ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)
        return Key("ssh-rsa", name, private, blob)
    curve = kind.removeprefix("sk-").removeprefix("ecdsa-sha2-").split("@")[0]
    private = ec.generate_private_key(CURVES[curve][0])
    tail = string(APPLICATION) if kind.startswith("sk-") else b""
    blob = string(name) + string(curve.encode()) + string(point(private)) + tail
    return Key(kind, name, private, blob)


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


KINDS = [
    "ssh-ed25519",
    "rsa-sha2-256",
    "rsa-sha2-512",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
]
