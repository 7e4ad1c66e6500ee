"""TLS without sockets: the settings of a listener, and one end of one connection.

Knows OpenSSL; touches nothing: ciphertext in, ciphertext out. Both kinds of FTP connection feed an
`Engine` with what their socket gives, and send what it gives back. That keeps in our hands what
Twisted's own layer hides: whether the peer said that it ends (close_notify) or the stream was cut,
pieces of any size in one go, and that a client which uploads is sent nothing it will never read.

Every listener has a context of its own: its session id context and the keys of its tickets are new,
so that what one listener gave out is worth nothing at another.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

TLSVersion = Literal["1.2", "1.3"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

PROTOCOL = b"ftp"
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
_PARTIAL_WRITES = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE: without it one call takes any piece whole
_RECORD = 1 << 14
_OVERHEAD = 64  # bytes that a record adds, at the very most
_ROOM = 1 << 14  # for handshake messages and alerts
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


class TLSFailed(Exception):
    """The peer broke TLS, or would not talk as we do; what `Engine.outgoing` gives tells it why."""


class ForeignProtocolError(SSL.Error):
    """A client came for something else than FTP."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with the chain behind it, and its key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)


def server_context(
    identity: Identity,
    highest: TLSVersion = "1.2",
    random: Callable[[int], bytes] = os.urandom,
) -> SSL.Context:
    """Return the settings of one listener."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(_VERSIONS[highest])
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_cipher_list(_CIPHERS)
    context.clear_mode(_PARTIAL_WRITES)
    context.set_session_id(random(32))
    context.set_alpn_select_callback(_choose)
    context.use_certificate(identity.chain[0])
    for above in identity.chain[1:]:
        context.add_extra_chain_cert(above)
    context.use_privatekey(identity.key)
    context.check_privatekey()
    return context


def _choose(connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """Take a client that came for FTP; a browser that was led here is shown nothing.

    A client that offers nothing is not asked.
    """
    if PROTOCOL in offered:
        return PROTOCOL
    raise ForeignProtocolError


class Engine:
    """The server's end of one TLS connection."""

    def __init__(self, context: SSL.Context) -> None:
        """Wait for a client's first message."""
        self._connection = SSL.Connection(context, None)
        self._connection.set_accept_state()
        self._unsent: list[bytes] = []
        self.established = False
        self.ended = False
        """Whether the peer said that it sends no more."""

    @property
    def sends_unasked(self) -> bool:
        """Whether what is outgoing after the handshake is for later, and nobody waits for it.

        The tickets of TLS 1.3. A client that uploads and closes at once never reads them, its
        kernel then answers our records with a reset, and the end of the file is lost with it.
        """
        return self._connection.get_protocol_version() == SSL.TLS1_3_VERSION

    def feed(self, data: bytes) -> None:
        """Take what came from the network; TLSFailed ends the connection."""
        if data:
            self._connection.bio_write(data)
        if not self.established:
            self._guard(self._connection.do_handshake)

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise TLSFailed(type(error).__name__) from None
        finally:
            self._drain(_ROOM)
        self.established = True

    def receive(self) -> bytes:
        """Return everything that can be decrypted now. Raises TLSFailed."""
        pieces = []
        try:
            while self.established and not self.ended:
                pieces.append(self._connection.recv(_RECORD))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            raise TLSFailed(type(error).__name__) from None
        finally:
            self._drain(_ROOM)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return what to send so that the peer gets `data`. Raises TLSFailed."""
        if data:
            try:
                self._connection.send(data)
            except SSL.Error as error:
                raise TLSFailed(type(error).__name__) from None
            self._drain(len(data) + (len(data) // _RECORD + 2) * _OVERHEAD)
        return self.outgoing()

    def close(self) -> bytes:
        """Return what tells the peer that nothing more will come."""
        if self.established:
            try:
                self._connection.shutdown()
            except SSL.Error:
                return b""
            self._drain(_ROOM)
        return self.outgoing()

    def outgoing(self) -> bytes:
        """Return what is to be sent, once."""
        unsent, self._unsent = self._unsent, []
        return unsent[0] if len(unsent) == 1 else b"".join(unsent)

    def _drain(self, room: int) -> None:
        try:
            while True:
                self._unsent.append(self._connection.bio_read(room))
                room = _ROOM
        except SSL.Error:
            return

    def same_session(self, other: "Engine") -> bool:
        """Return whether this connection resumed the session of `other`; never in TLS 1.3."""
        mine, theirs = self._connection.master_key(), other._connection.master_key()
        return bool(
            mine
            and theirs
            and not (self.sends_unasked or other.sends_unasked)
            and hmac.compare_digest(mine, theirs)
        )
