import socket
from typing import Any

import pytest
from twisted.internet import reactor as _reactor  # noqa: TID251 - real sockets
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import directlyProvides, implementer, providedBy

from tests.fakes.certificates import authority
from tests.fakes.web_server import Raw, Server
from truckee.core.errors import ConfigError, ServerGoneError, ServerTimeoutError
from truckee.core.posting import Destination, Poster

reactor: Any = _reactor
SECRET = b"the password"


def own_address() -> str:
    """Return an address of this machine that is not loopback, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("203.0.113.1", 9))
        except OSError:
            return ""
        found = s.getsockname()[0]
    return "" if found.startswith("127.") or found == "0.0.0.0" else found


@pytest.mark.threat("N11")
@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/login",
        "http://192.0.2.1/login",
        "http://127.0.0.1.example.org/",
        "http://localhost.example.org/",
        "http://[::2]/",
        "http://0.0.0.0/",
        "http://0x7f.1/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "https://user:word@example.org/",
        "https://@example.org/",
        "http://localhost@example.org/",
        "https:///login",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://exa\tmple.org/",
        "https://example.org/ login",
        "https://example.org/#part",
        "https://[::1/",
        "https://bücher.example/",
        "https://example.org/" + "a" * 3000,
        "example.org",
        "",
    ],
)
def test_there_are_addresses_that_nothing_is_ever_sent_to(url):
    with pytest.raises(ConfigError):
        Destination.parse(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/login?a=b", ("example.org", 443, True)),
        ("https://192.0.2.1:8443", ("192.0.2.1", 8443, True)),
        ("http://localhost/", ("localhost", 80, False)),
        ("HTTP://LocalHost:8080/", ("localhost", 8080, False)),
        ("http://127.9.9.9/", ("127.9.9.9", 80, False)),
        ("http://[::1]:81/", ("::1", 81, False)),
    ],
)
def test_https_to_anybody_and_http_to_this_machine_may_be_configured(url, expected):
    found = Destination.parse(url)
    assert (found.host, found.port, found.secure) == expected


def test_a_ca_file_must_hold_certificates():
    place = Destination.parse("https://localhost/")
    for pem in (
        b"",
        b"\xff\xfe",
        authority().pem * 3000,
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ):
        with pytest.raises(ConfigError):
            Poster(reactor, place, 1.0, pem)


async def left(raw: Raw) -> None:
    """Wait until the one connection to a server has ended."""
    for _ in range(2000):
        if raw.lost:
            break
        await deferLater(reactor, 0.01, lambda: None)
    assert raw.lost == 1


class Case(TestCase):
    def serve(self, certificate=None, **kwargs) -> Server:
        server = Server(certificate, **kwargs)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    def secure(self, **kwargs) -> Server:
        return self.serve(authority().certificate("localhost", "127.0.0.1"), **kwargs)

    async def post(self, url, *, seconds=5.0, ca=None, net=reactor):
        poster = Poster(net, Destination.parse(url), seconds, ca or authority().pem)
        return await poster.post({"X-Who": "me"}, SECRET)

    async def refusal(self, url, **kwargs) -> str:
        error = ServerTimeoutError if "seconds" in kwargs else ServerGoneError
        with pytest.raises(error) as caught:
            await self.post(url, **kwargs)
        return str(caught.value)


class PostTest(Case):
    async def test_what_is_posted_arrives_once_with_its_headers(self) -> None:
        server = self.secure()
        server.answering.fields = {"X-Back": "yes"}
        server.answering.body = b"fine"
        reply = await self.post(server.url)
        assert (reply.status, reply.body) == (200, b"fine")
        assert reply.headers.getRawHeaders("x-back") == ["yes"]
        (heard,) = server.answering.heard
        assert (heard.method, heard.path, heard.body) == (b"POST", b"/login", SECRET)
        assert heard.headers[b"x-who"] == b"me"

    async def test_http_to_loopback_is_served_by_name_and_by_number(self) -> None:
        server = self.serve()
        for host in ("localhost", "127.0.0.1"):
            await self.post(server.url.replace("localhost", host))
        assert len(server.answering.heard) == 2

    async def test_http_to_loopback_works_over_ipv6(self) -> None:
        try:
            server = self.serve(interface="::1")
        except CannotListenError:
            raise pytest.skip.Exception("no IPv6 here") from None
        assert (await self.post(server.url.replace("localhost", "[::1]"))).status == 200

    async def test_an_address_in_the_certificate_is_as_good_as_a_name(self) -> None:
        server = self.secure()
        assert (await self.post(server.url.replace("localhost", "127.0.0.1"))).status == 200

    async def test_every_status_is_an_answer(self) -> None:
        server = self.serve()
        for status in (201, 204, 403, 500):
            server.answering.status = status
            assert (await self.post(server.url)).status == status


class RefuseTest(Case):
    @pytest.mark.threat("N11")
    async def test_a_redirect_is_an_answer_and_is_not_followed(self) -> None:
        other, server = self.secure(), self.secure()
        for status in (301, 302, 303, 307, 308):
            server.answering.status = status
            server.answering.fields = {"Location": other.url}
            assert (await self.post(server.url)).status == status
        assert other.answering.heard == []
        assert len(server.answering.heard) == 5

    @pytest.mark.threat("N11")
    async def test_a_server_without_the_right_certificate_is_told_nothing(self) -> None:
        for certificate in (
            authority(1).certificate("localhost"),
            authority().certificate("example.org"),
            authority().certificate("127.0.0.1"),
            authority().certificate("localhost", days=-1),
        ):
            server = self.serve(certificate)
            assert "certificate" in await self.refusal(server.url)
            assert server.answering.heard == []

    @pytest.mark.threat("N11")
    async def test_the_systems_authorities_are_the_ones_without_a_ca_file(self) -> None:
        server = self.secure()
        poster = Poster(reactor, Destination.parse(server.url), 5.0)
        with pytest.raises(ServerGoneError):
            await poster.post({}, SECRET)
        assert server.answering.heard == []

    async def test_a_server_that_speaks_no_tls_is_told_nothing(self) -> None:
        raw = Raw(lambda transport: transport.write(b"HTTP/1.1 200 OK\r\n\r\nURI:DIR2:"))
        server = self.serve(factory=raw)
        await self.refusal(server.url.replace("http:", "https:"))
        assert SECRET not in b"".join(raw.received)

    @pytest.mark.threat("N11")
    async def test_no_proxy_of_the_environment_is_asked(self) -> None:
        proxy, server = self.serve(), self.serve()
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
            import os

            self.patch(os, "environ", {**os.environ, name: proxy.url})
        await self.post(server.url)
        assert proxy.answering.heard == []
        assert len(server.answering.heard) == 1

    async def test_a_closed_port_is_an_error(self) -> None:
        server = self.serve()
        await server.stop()
        assert "reached" in await self.refusal(server.url)

    async def test_long_answers_are_cut_off(self) -> None:
        server = self.serve()
        server.answering.body = b"x" * 4096
        assert len((await self.post(server.url)).body) == 4096
        server.answering.body += b"x"
        assert "too long" in await self.refusal(server.url)

    async def test_an_answer_that_breaks_off_is_an_error(self) -> None:
        for text in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nURI", b"nonsense\r\n"):

            def talk(transport: Any, text: bytes = text) -> None:
                transport.write(text)
                transport.loseConnection()

            server = self.serve(factory=Raw(talk))
            await self.refusal(server.url)

    async def test_headers_without_end_are_cut_off(self) -> None:
        def talk(transport: Any) -> None:
            transport.write(b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 20_000)

        raw = Raw(talk)
        server = self.serve(factory=raw)
        await self.refusal(server.url)
        await left(raw)

    async def test_servers_that_do_not_answer_in_time_are_left(self) -> None:
        def drip(transport: Any) -> None:
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nURI")

        for talk in (lambda transport: None, drip):
            raw = Raw(talk)
            server = self.serve(factory=raw)
            await self.refusal(server.url, seconds=1.0)
            await left(raw)
            assert b"".join(raw.received).count(SECRET) == 1

    async def test_a_server_that_never_ends_its_handshake_is_left(self) -> None:
        raw = Raw(lambda transport: None)
        server = self.serve(factory=raw)
        await self.refusal(server.url.replace("http:", "https:"), seconds=1.0)
        await left(raw)


@implementer(IHostnameResolver)
class Hostile:
    """Says of every name that it is somewhere else."""

    def __init__(self, address: str, port: int) -> None:
        self.place = IPv4Address("TCP", address, port)
        self.asked: list[str] = []

    def resolveHostName(self, receiver, hostName, *args, **kwargs):
        self.asked.append(hostName)
        receiver.resolutionBegan(None)
        receiver.addressResolved(self.place)
        receiver.resolutionComplete()


class Net:
    """The reactor with another resolver."""

    def __init__(self, resolver: Hostile) -> None:
        self.nameResolver = resolver
        directlyProvides(self, providedBy(reactor), IReactorPluggableNameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class RebindingTest(Case):
    @pytest.mark.threat("N11")
    async def test_a_name_that_leads_elsewhere_is_told_nothing_in_clear(self) -> None:
        address = own_address()
        if not address:
            raise pytest.skip.Exception("this machine has no address but loopback")
        raw = Raw(lambda transport: None)
        server = self.serve(factory=raw, interface=address)
        resolver = Hostile(address, server.number)
        refusal = await self.refusal(server.url, net=Net(resolver))
        assert "this machine" in refusal
        assert resolver.asked == ["localhost"]
        await left(raw)
        assert len(raw.connections) == 1
        assert raw.received == []

    @pytest.mark.threat("N11")
    async def test_a_name_that_leads_elsewhere_needs_its_certificate(self) -> None:
        server = self.serve(authority().certificate("localhost"))
        resolver = Hostile("127.0.0.1", server.number)
        url = server.url.replace("localhost", "accounts.example")
        assert "certificate" in await self.refusal(url, net=Net(resolver))
        assert server.answering.heard == []
