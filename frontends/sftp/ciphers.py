"""How packets are sealed and opened: RFC 4253's framing under each cipher and MAC that is offered.

Pure but for random padding. A `Sealer` turns a message into the bytes of a packet, an `Opener`
finds the next packet in what has come and gives back what was sealed; each serves one direction
from one key exchange to the next. What does not fit, or was altered, is a ProtocolError.

With AES-GCM and with "encrypt-then-mac" the length of a packet travels in clear and nothing is
decrypted before it is known to be genuine. There is no ChaCha20-Poly1305: it is safe with strict
key exchange alone, OpenSSH would prefer it to everything else, and in Python it is the slowest.
"""

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from truckee.frontends.sftp.messages import ProtocolError, Reason

Piece = bytes | memoryview

_TAG = 16
_PLAIN_BLOCK = 8
_MINIMUM_PADDING = 4


@dataclass(frozen=True, slots=True)
class CipherKind:
    """A cipher's measures in bytes."""

    key_size: int
    iv_size: int
    is_aead: bool


@dataclass(frozen=True, slots=True)
class MacKind:
    """A MAC's hash, and whether it is over the ciphertext."""

    digest: str
    size: int
    over_ciphertext: bool


CIPHERS = {
    b"aes256-gcm@openssh.com": CipherKind(32, 12, is_aead=True),
    b"aes128-gcm@openssh.com": CipherKind(16, 12, is_aead=True),
    b"aes256-ctr": CipherKind(32, 16, is_aead=False),
    b"aes192-ctr": CipherKind(24, 16, is_aead=False),
    b"aes128-ctr": CipherKind(16, 16, is_aead=False),
}
"""Every cipher that is offered, the best first."""

MACS = {
    b"hmac-sha2-256-etm@openssh.com": MacKind("sha256", 32, over_ciphertext=True),
    b"hmac-sha2-512-etm@openssh.com": MacKind("sha512", 64, over_ciphertext=True),
    b"hmac-sha2-256": MacKind("sha256", 32, over_ciphertext=False),
    b"hmac-sha2-512": MacKind("sha512", 64, over_ciphertext=False),
}
"""Every MAC that is offered, the best first."""


class Sealer(Protocol):
    """One direction out."""

    def seal(self, sequence: int, pieces: Sequence[Piece], size: int) -> list[bytes]:
        """Return the packet of the message in `pieces`, `size` bytes in all, ready for TCP."""
        ...


class Opener(Protocol):
    """One direction in."""

    def measure(self, buffer: bytearray, start: int, limit: int) -> int | None:
        """Return how many bytes the packet at `start` takes; None while too few are there to tell.

        `limit` is for the length that the packet itself names.
        """
        ...

    def open(self, sequence: int, packet: memoryview) -> bytes:
        """Return what was sealed: length of the padding, message, padding."""
        ...


def sealer(cipher: bytes, mac: bytes, key: bytes, iv: bytes, mac_key: bytes) -> Sealer:
    """Return what seals under these names; keys may be longer than needed."""
    kind = CIPHERS[cipher]
    key, iv = key[: kind.key_size], iv[: kind.iv_size]
    if kind.is_aead:
        return _GcmSealer(key, iv)
    encrypt = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return _CtrSealer(encrypt.update, _Mac(MACS[mac], mac_key), MACS[mac].over_ciphertext)


def opener(cipher: bytes, mac: bytes, key: bytes, iv: bytes, mac_key: bytes) -> Opener:
    """Return what opens under these names; keys may be longer than needed."""
    kind = CIPHERS[cipher]
    key, iv = key[: kind.key_size], iv[: kind.iv_size]
    if kind.is_aead:
        return _GcmOpener(key, iv)
    decrypt = Cipher(algorithms.AES(key), modes.CTR(iv)).decryptor()
    if MACS[mac].over_ciphertext:
        return _CtrEtmOpener(decrypt.update, _Mac(MACS[mac], mac_key))
    return _CtrOpener(decrypt.update, _Mac(MACS[mac], mac_key))


def unpadded(plain: bytes) -> memoryview:
    """Return the message in what an opener gave back; there is at least one byte of it."""
    view = memoryview(plain)
    padding = view[0]
    if padding < _MINIMUM_PADDING or padding + 2 > len(view):
        raise ProtocolError("bad padding")
    return view[1 : len(view) - padding]


def _padding(size: int, block: int) -> int:
    missing = block - size % block
    return missing if missing >= _MINIMUM_PADDING else missing + block


def _length(head: bytes | bytearray, limit: int, block: int, outside: int) -> int:
    """Return the length that a packet names; `outside` bytes of it stand before its blocks."""
    length = int.from_bytes(head[:4])
    if length > limit:
        raise ProtocolError("packet too large")
    if length < block - outside or (length + outside) % block:
        raise ProtocolError("bad packet length")
    return length


class PlainSealer:
    """Before the first keys."""

    def seal(self, sequence: int, pieces: Sequence[Piece], size: int) -> list[bytes]:
        """Frame the message."""
        padding = _padding(5 + size, _PLAIN_BLOCK)
        head = (1 + size + padding).to_bytes(4) + bytes((padding,))
        return [head, *map(bytes, pieces), bytes(padding)]


class PlainOpener:
    """Before the first keys."""

    def measure(self, buffer: bytearray, start: int, limit: int) -> int | None:
        """Read the length."""
        if len(buffer) < start + 4:
            return None
        return 4 + _length(buffer[start : start + 4], limit, _PLAIN_BLOCK, 4)

    def open(self, sequence: int, packet: memoryview) -> bytes:
        """Take the frame off."""
        return bytes(packet[4:])


class _Counter:
    """The nonce of AES-GCM: a fixed part, and a number that grows by one with each packet."""

    def __init__(self, iv: bytes) -> None:
        self._fixed = iv[:4]
        self._number = int.from_bytes(iv[4:])

    def __call__(self) -> bytes:
        nonce = self._fixed + self._number.to_bytes(8)
        self._number = (self._number + 1) & 0xFFFFFFFFFFFFFFFF
        return nonce


class _GcmSealer:
    def __init__(self, key: bytes, iv: bytes) -> None:
        self._encrypt = AESGCM(key).encrypt
        self._nonce = _Counter(iv)

    def seal(self, sequence: int, pieces: Sequence[Piece], size: int) -> list[bytes]:
        padding = _padding(1 + size, 16)
        head = (1 + size + padding).to_bytes(4)
        plain = b"".join((bytes((padding,)), *pieces, os.urandom(padding)))
        return [head, self._encrypt(self._nonce(), plain, head)]


class _GcmOpener:
    def __init__(self, key: bytes, iv: bytes) -> None:
        self._decrypt = AESGCM(key).decrypt
        self._nonce = _Counter(iv)

    def measure(self, buffer: bytearray, start: int, limit: int) -> int | None:
        if len(buffer) < start + 4:
            return None
        return 4 + _length(buffer[start : start + 4], limit, 16, 0) + _TAG

    def open(self, sequence: int, packet: memoryview) -> bytes:
        try:
            return self._decrypt(self._nonce(), packet[4:], packet[:4])
        except InvalidTag:
            raise _altered() from None


class _Mac:
    """A keyed hash over the number of a packet and its bytes."""

    def __init__(self, kind: MacKind, key: bytes) -> None:
        self.size = kind.size
        self._keyed = hmac.new(key[: kind.size], digestmod=kind.digest)

    def __call__(self, sequence: int, *pieces: Piece) -> bytes:
        mac = self._keyed.copy()
        mac.update(sequence.to_bytes(4))
        for piece in pieces:
            mac.update(piece)
        return mac.digest()

    def check(self, given: Piece, sequence: int, *pieces: Piece) -> None:
        if not hmac.compare_digest(self(sequence, *pieces), given):
            raise _altered()


class _Stream(Protocol):
    def __call__(self, data: Piece, /) -> bytes: ...


class _CtrSealer:
    def __init__(self, encrypt: _Stream, mac: _Mac, over_ciphertext: bool) -> None:
        self._encrypt = encrypt
        self._mac = mac
        self._over_ciphertext = over_ciphertext

    def seal(self, sequence: int, pieces: Sequence[Piece], size: int) -> list[bytes]:
        padding = _padding((1 if self._over_ciphertext else 5) + size, 16)
        head = (1 + size + padding).to_bytes(4)
        plain = (bytes((padding,)), *pieces, os.urandom(padding))
        if self._over_ciphertext:
            sealed = self._encrypt(b"".join(plain))
            return [head, sealed, self._mac(sequence, head, sealed)]
        packet = b"".join((head, *plain))
        return [self._encrypt(packet), self._mac(sequence, packet)]


class _CtrEtmOpener:
    def __init__(self, decrypt: _Stream, mac: _Mac) -> None:
        self._decrypt = decrypt
        self._mac = mac

    def measure(self, buffer: bytearray, start: int, limit: int) -> int | None:
        if len(buffer) < start + 4:
            return None
        return 4 + _length(buffer[start : start + 4], limit, 16, 0) + self._mac.size

    def open(self, sequence: int, packet: memoryview) -> bytes:
        end = len(packet) - self._mac.size
        self._mac.check(packet[end:], sequence, packet[:end])
        return self._decrypt(packet[4:end])


class _CtrOpener:
    """The length is encrypted, too: the first block is opened to learn it, and kept."""

    def __init__(self, decrypt: _Stream, mac: _Mac) -> None:
        self._decrypt = decrypt
        self._mac = mac
        self._first = b""

    def measure(self, buffer: bytearray, start: int, limit: int) -> int | None:
        if not self._first:
            if len(buffer) < start + 16:
                return None
            self._first = self._decrypt(bytes(buffer[start : start + 16]))
        return 4 + _length(self._first, limit, 16, 4) + self._mac.size

    def open(self, sequence: int, packet: memoryview) -> bytes:
        end = len(packet) - self._mac.size
        plain = self._first + self._decrypt(packet[16:end])
        self._first = b""
        self._mac.check(packet[end:], sequence, plain)
        return plain[4:]


def _altered() -> ProtocolError:
    return ProtocolError("packet altered on its way", Reason.MAC_ERROR)
