"""Which algorithms a connection uses: what is offered, and what comes of both sides' offers.

Pure. The lists are in order of preference; whatever is not in them is refused: CBC, 3DES, MD5 and
SHA-1 in any place, DSA, compression. A peer that cannot meet them is a ProtocolError.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from twisted.conch.ssh import _kex

from truckee.frontends.sftp.ciphers import CIPHERS, MACS
from truckee.frontends.sftp.messages import (
    Message,
    ProtocolError,
    Reader,
    Reason,
    name_list,
)

KEY_EXCHANGES = tuple(
    name
    for name in (
        b"mlkem768x25519-sha256",
        b"curve25519-sha256",
        b"curve25519-sha256@libssh.org",
    )
    if name in _kex.getSupportedKeyExchanges()
)

HOST_KEY_ALGORITHMS = {
    b"ssh-ed25519": b"ssh-ed25519",
    b"rsa-sha2-512": b"ssh-rsa",
    b"rsa-sha2-256": b"ssh-rsa",
}
"""How the host key may sign, and the type of the key that does."""

USER_KEY_ALGORITHMS = {
    b"ssh-ed25519": b"ssh-ed25519",
    b"sk-ssh-ed25519@openssh.com": b"sk-ssh-ed25519@openssh.com",
    b"ecdsa-sha2-nistp256": b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384": b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521": b"ecdsa-sha2-nistp521",
    b"sk-ecdsa-sha2-nistp256@openssh.com": b"sk-ecdsa-sha2-nistp256@openssh.com",
    b"rsa-sha2-512": b"ssh-rsa",
    b"rsa-sha2-256": b"ssh-rsa",
}
"""How a user may sign, and the type of the key that does. Not SHA-1, whose name is ssh-rsa."""

STRICT_CLIENT = b"kex-strict-c-v00@openssh.com"
STRICT_SERVER = b"kex-strict-s-v00@openssh.com"
EXTENSIONS_CLIENT = b"ext-info-c"

_COOKIE = 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides can do."""

    key_exchange: bytes
    host_key: bytes
    cipher_in: bytes
    cipher_out: bytes
    mac_in: bytes
    mac_out: bytes
    strict: bool
    """Whether the client counts packets anew with each key, and so do we."""
    extensions: bool
    """Whether the client wants to be told which signatures are taken."""
    ignore_guess: bool
    """Whether the next key exchange message is a guess that was wrong."""


def offer(host_key_algorithms: Sequence[bytes], *, first: bool) -> bytes:
    """Return a KEXINIT message of ours; the `first` one of a connection says that we are strict."""
    exchanges = [*KEY_EXCHANGES, STRICT_SERVER] if first else list(KEY_EXCHANGES)
    none = [b"none"]
    lists = [exchanges, host_key_algorithms, CIPHERS, CIPHERS, MACS, MACS, none, none, [], []]
    cookie = os.urandom(_COOKIE)
    head = bytes((Message.KEXINIT,)) + cookie
    return head + b"".join(name_list(names) for names in lists) + bytes(5)


def agree(theirs: Reader, host_key_algorithms: Sequence[bytes]) -> Agreement:
    """Return what follows from the client's offer; ProtocolError when nothing does."""
    theirs.skip(_COOKIE)
    exchanges, host_keys, ciphers_in, ciphers_out, macs_in, macs_out, packed_in, packed_out = (
        theirs.names() for _ in range(8)
    )
    theirs.skip(theirs.uint32())
    theirs.skip(theirs.uint32())
    guessed = theirs.boolean()
    theirs.skip(4)
    theirs.end()
    key_exchange = _common(exchanges, KEY_EXCHANGES, "key exchange")
    host_key = _common(host_keys, host_key_algorithms, "host key")
    cipher_in = _common(ciphers_in, tuple(CIPHERS), "cipher")
    cipher_out = _common(ciphers_out, tuple(CIPHERS), "cipher")
    _common(packed_in, (b"none",), "compression")
    _common(packed_out, (b"none",), "compression")
    right = (exchanges[0], host_keys[0]) == (KEY_EXCHANGES[0], host_key_algorithms[0])
    return Agreement(
        key_exchange=key_exchange,
        host_key=host_key,
        cipher_in=cipher_in,
        cipher_out=cipher_out,
        mac_in=_mac(cipher_in, macs_in),
        mac_out=_mac(cipher_out, macs_out),
        strict=STRICT_CLIENT in exchanges,
        extensions=EXTENSIONS_CLIENT in exchanges,
        ignore_guess=guessed and not right,
    )


def _mac(cipher: bytes, theirs: Sequence[bytes]) -> bytes:
    """Return the MAC beside a cipher; one that is its own needs none."""
    return b"" if CIPHERS[cipher].is_aead else _common(theirs, tuple(MACS), "MAC")


def _common(theirs: Sequence[bytes], ours: Sequence[bytes], what: str) -> bytes:
    """Return the client's first choice that we offer."""
    for name in theirs:
        if name in ours:
            return name
    raise ProtocolError(f"no {what} in common", Reason.KEY_EXCHANGE_FAILED)
