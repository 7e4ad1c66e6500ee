"""Where a door listens: as told, or near its usual port."""

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from truckee.core.errors import ConfigError
from truckee.frontends.gate.proxy import ProxyEndpoint
from truckee.frontends.gate.registry import LOOPBACK
from truckee.frontends.node.doors import (
    FTP_PORTS,
    SFTP_PORTS,
    Place,
    PortTakenError,
    listen_at,
    listen_near,
)


class Server:
    """Listens unless the port is taken."""

    def __init__(self, *taken: int) -> None:
        self.taken = taken
        self.reactor = MemoryReactorClock()
        self.kinds: list = []

    async def listen(self, found):
        self.kinds += [type(endpoint) for endpoint in found]
        return [self._open(endpoint) for endpoint in found]

    def _open(self, endpoint):
        inner = getattr(endpoint, "_inner", endpoint)
        if inner._port in self.taken:
            raise CannotListenError(inner._interface, inner._port, OSError(98, "in use"))
        return IPv4Address("TCP", inner._interface, inner._port)


def result(coroutine):
    found: list = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    if isinstance(found[0], Place):
        return found[0]
    raise found[0].value


def ports(place: Place) -> list[int]:
    return [address.port for address in place.addresses]


def test_the_usual_port_is_taken_if_nobody_has_it():
    server = Server()
    place = result(listen_near(server.listen, SFTP_PORTS, server.reactor))
    assert (ports(place), place.moved) == ([8022], False)
    assert [address.host for address in place.addresses] == ["127.0.0.1"]


def test_the_next_free_port_is_taken_and_it_is_not_that_of_another_door():
    server = Server(8021, 8024, 8025)
    place = result(listen_near(server.listen, FTP_PORTS, server.reactor))
    assert (ports(place), place.moved) == ([8026], True)


def test_any_port_is_better_than_none_and_none_is_an_error():
    server = Server(*range(8000, 9000))
    assert result(listen_near(server.listen, FTP_PORTS, server.reactor)).moved
    with pytest.raises(PortTakenError):
        result(listen_near(Server(*range(9000)).listen, FTP_PORTS, server.reactor))


def test_a_port_that_was_asked_for_is_never_exchanged():
    server = Server(2222)
    wanted = ["tcp:2221:interface=127.0.0.1", "tcp:2222:interface=127.0.0.1"]
    with pytest.raises(PortTakenError, match=r"127\.0\.0\.1:2222: in use"):
        result(listen_at(server.listen, wanted, server.reactor))
    place = result(listen_at(Server().listen, ["2221", "tcp:2222"], server.reactor))
    assert (ports(place), place.moved) == ([2221, 2222], False)
    assert place.addresses[0].host == "127.0.0.1"


def test_what_is_no_endpoint_is_an_error():
    server = Server()
    with pytest.raises(ConfigError):
        result(listen_at(server.listen, ["unix:/tmp/x"], server.reactor))


@pytest.mark.threat("N13")
def test_headers_of_proxies_are_understood_only_where_proxies_are_named():
    server = Server()
    result(listen_at(server.listen, ["0"], server.reactor))
    assert ProxyEndpoint not in server.kinds
    result(listen_at(server.listen, ["0"], server.reactor, LOOPBACK))
    assert server.kinds[-1] is ProxyEndpoint
