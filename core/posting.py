"""One POST to one address that the configuration names, and nowhere else.

Knows HTTP and TLS as Twisted has them; touches the network. What is sent may hold a password or a
name, so the address is bound: ``https`` with a certificate that is valid for its host; or plain
``http`` to this machine, when both the host that is written and the peer that is connected to are
loopback, whatever a resolver says. No redirect is followed, no proxy of the environment asked,
nothing tried twice, no connection used again. Answers are small and in time, or errors.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography import x509
from OpenSSL.crypto import X509
from OpenSSL.SSL import Context
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IConsumer, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from truckee.core.errors import ConfigError, ServerGoneError, ServerTimeoutError

LONGEST_BODY = 4096
_LONGEST_ANSWER = 65536  # with TLS and all headers
_LONGEST_URL = 2000
_LONGEST_CA_FILE = 1 << 20


def is_loopback(host: str) -> bool:
    """Return whether this text is an address of this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that may be posted to."""

    url: str
    host: str
    port: int
    secure: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the destination; ConfigError when nothing may be sent to such an address."""
        if len(url) > _LONGEST_URL or not re.fullmatch(r"[!-~]+", url) or "#" in url:
            raise ConfigError("this is not a URL that can be posted to")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ConfigError("this is not a well-formed URL") from None
        if parts.scheme not in {"http", "https"} or not host or port == 0:
            raise ConfigError("this is not a URL of https with a host")
        if "@" in parts.netloc:
            raise ConfigError("a URL with a user name in it is not taken")
        secure = parts.scheme == "https"
        if not secure and host != "localhost" and not is_loopback(host):
            raise ConfigError("http is only for this machine: use https")
        return cls(url, host, port or (443 if secure else 80), secure)


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered, however it was meant."""

    status: int
    headers: Headers
    body: bytes


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM file; ConfigError when it has none, or a bad one."""
    if len(pem) > _LONGEST_CA_FILE:
        raise ConfigError("the CA file is larger than 1 MiB")
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise ConfigError("the CA file holds no certificate, or a damaged one") from None


@implementer(IOpenSSLTrustRoot)
class _Trusted:
    """These authorities and no others."""

    def __init__(self, authorities: list[x509.Certificate]) -> None:
        self._authorities = authorities

    def _addCACertsToContext(self, context: Context) -> None:
        store: Any = context.get_cert_store()
        for authority in self._authorities:
            store.add_cert(X509.from_cryptography(authority))


class Poster:
    """Sends to one destination; see the head of the module."""

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401
        destination: Destination,
        seconds: float,
        ca: bytes | None = None,
    ) -> None:
        """Take the seconds that all may last, and the CA (PEM) that replaces the system's."""
        self._reactor = reactor
        self._destination = destination
        self._seconds = seconds
        trusted = None if ca is None else _Trusted(certificates(ca))
        self._policy = BrowserLikePolicyForHTTPS(trusted)

    async def post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return the answer, of whatever status; ServerGoneError or ServerTimeoutError."""
        asked = Deferred.fromCoroutine(self._post(headers, body))
        _ = asked.addTimeout(self._seconds, self._reactor, _too_late)
        try:
            return await asked
        except (ServerGoneError, CancelledError):
            raise
        except (ResponseFailed, ResponseNeverReceived) as error:
            raise ServerGoneError(_why(error.reasons)) from None
        except Exception as error:  # noqa: BLE001 - the ways in which a network fails have no end
            raise ServerGoneError(f"it cannot be reached ({type(error).__name__})") from None

    async def _post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        fields = Headers({name: [value] for name, value in headers.items()})
        way = _Way(self._reactor, self._destination, self._policy)
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self._reactor, way, pool)
        url = self._destination.url.encode("ascii")
        try:
            response: IResponse = await agent.request(b"POST", url, fields, _Bytes(body))
            reader = _Reader()
            response.deliverBody(reader)
            return Reply(response.code, response.headers, await reader.done)
        finally:
            way.close()


def _too_late(result: object, seconds: float) -> Failure:
    """Return the error of a wait that was broken off, whatever became of what was waited for."""
    return Failure(ServerTimeoutError(f"no answer within {seconds:g} seconds"))


def _why(reasons: list[Failure]) -> str:
    for failure in reasons:
        if failure.check(ServerGoneError):
            return str(failure.value)
        if failure.check(TLSError, VerificationError):
            return "its certificate, or its TLS, is not accepted"
    kinds = sorted({type(failure.value).__name__ for failure in reasons})
    return f"it broke off ({', '.join(kinds)})"


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Way:
    """Leads to the one destination, once; looks who was reached before anything is said."""

    def __init__(
        self,
        reactor: Any,  # noqa: ANN401
        destination: Destination,
        policy: BrowserLikePolicyForHTTPS,
    ) -> None:
        self._destination = destination
        place = destination
        endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, place.host, place.port)
        if place.secure:
            creator = policy.creatorForNetloc(place.host.encode("ascii"), place.port)
            endpoint = wrapClientTLS(creator, endpoint)
        self._endpoint = endpoint
        self._connection: Any = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> object:
        bounded: Any = _BoundedFactory(factory)  # type: ignore[no-untyped-call]
        connection: Any = await self._endpoint.connect(bounded)
        self._connection = connection
        peer = getattr(connection.getPeer(), "host", "")
        if not self._destination.secure and not is_loopback(str(peer)):
            raise ServerGoneError("its name does not lead to this machine")
        return connection.wrappedProtocol

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.abortConnection()


class _Bounded(ProtocolWrapper):
    """A connection that ends when the other side does not."""

    _received = 0

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > _LONGEST_ANSWER:
            self.abortConnection()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]


class _BoundedFactory(WrappingFactory[_Bounded]):
    protocol = _Bounded
    noisy = False


class _Reader(Protocol):
    """Gathers a body, unless it is too long."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        self._pieces.append(data)
        if self._size > LONGEST_BODY:
            self._pieces.clear()
            self._end(Failure(ServerGoneError("its answer is too long")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self._end(b"".join(self._pieces))
        else:
            self._end(Failure(ServerGoneError("it broke off in its answer")))

    def _end(self, result: bytes | Failure) -> None:
        if not self.done.called:
            self.done.callback(result)  # a Failure starts the errback chain


@implementer(IBodyProducer)
class _Bytes:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All is written."""

    def resumeProducing(self) -> None:
        """All is written."""

    def stopProducing(self) -> None:
        """All is written."""
