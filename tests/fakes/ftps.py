"""A certificate, and TLS clients in memory, for tests of FTPS."""

import contextlib
import datetime
import ssl
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from truckee.frontends.ftp.tls import Engine, Identity


def sign(key, *, name="test", before=-1.0, after=10.0) -> x509.Certificate:
    """A certificate of `key` signed by itself, valid between these days from now."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=before))
        .not_valid_after(now + datetime.timedelta(days=after))
        .sign(key, hashes.SHA256())
    )


@cache
def identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity((sign(key),), key)


def client_context(alpn=(), *, highest=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if highest is not None:
        context.maximum_version = highest
    return context


class TLSClient:
    """The client's end of a TLS connection in memory."""

    def __init__(self, context=None, session=None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context()).wrap_bio(self._in, self._out, session=session)

    def step(self) -> bytes:
        """Go on with the handshake; return what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def put(self, data: bytes) -> None:
        """Take what the server sent."""
        self._in.write(data)

    def take(self, data: bytes) -> bytes:
        """Take what the server sent; return what it says."""
        self._in.write(data)
        said = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.tls.read(1 << 16):
                said += piece
        return said

    def say(self, data: bytes) -> bytes:
        """Return what carries `data` to the server."""
        while data:
            data = data[self.tls.write(data) :]
        return self._out.read()

    def end(self) -> bytes:
        """Return what says that nothing more will come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()


def shake(engine: Engine, client: TLSClient) -> None:
    """Bring a handshake to its end."""
    for _ in range(4):
        engine.feed(client.step())
        client.put(engine.outgoing())
    client.step()
    assert engine.established
