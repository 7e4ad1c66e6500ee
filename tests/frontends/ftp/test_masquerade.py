"""The address behind a router: given, or looked up again and again."""

from twisted.internet import reactor  # noqa: TID251 - real names
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import TestCase

from tests.fakes.ftp_wire import Server
from tests.fakes.ftps import identity
from truckee.frontends.ftp.masquerade import EVERY, SOON, Name
from truckee.frontends.ftp.settings import FTPSettings


class Names:
    """A reactor that answers for names."""

    def __init__(self, reactor, *answers) -> None:
        self.answers, self.asked, self._reactor = list(answers), [], reactor

    def resolve(self, name):
        self.asked.append(name)
        answer = self.answers.pop(0)
        d: Deferred[str] = Deferred()
        if isinstance(answer, Exception):
            d.errback(answer)
        elif answer is not None:
            d.callback(answer)
        return d

    def __getattr__(self, name):
        return getattr(self._reactor, name)


def named(*answers):
    """A server whose address is a name, with what the name resolves to, one after the other."""
    server = Server(
        FTPSettings(masquerade_address="router.example", tls="off", insecure_plaintext=True),
        identity=identity(),
    )
    masquerade = Name(Names(server.reactor, *answers), "router.example")
    server.ftp._masquerade = masquerade
    return server, masquerade


def pasv(server: Server, peer="10.0.0.5") -> str:
    client = server.connect(peer, "10.0.0.1" if peer != "127.0.0.1" else peer)
    client.ask("USER alice", "PASS secret")
    return client.ask("PASV")


def test_a_name_is_looked_up_and_looked_up_again_every_five_minutes() -> None:
    server, masquerade = named("192.0.2.1", "192.0.2.9")
    masquerade.start()
    assert "(192,0,2,1," in pasv(server)
    server.reactor.advance(EVERY - 1)
    assert "(192,0,2,1," in pasv(server)
    server.reactor.advance(2)
    assert "(192,0,2,9," in pasv(server)
    masquerade.stop()
    assert masquerade._reactor.asked == ["router.example"] * 2


def test_clients_of_this_machine_are_told_where_they_are() -> None:
    server, masquerade = named("192.0.2.1")
    masquerade.start()
    assert "(127,0,0,1," in pasv(server, "127.0.0.1")
    masquerade.stop()


def test_a_name_that_vanishes_keeps_its_address_and_one_never_known_is_asked_for_soon() -> None:
    server, masquerade = named(DNSLookupError(), "not an address", "192.0.2.1", DNSLookupError())
    masquerade.start()
    assert pasv(server).startswith("425 our own address is not known now, use EPSV")
    server.reactor.advance(SOON + 1)
    assert pasv(server).startswith("425")
    server.reactor.advance(SOON + 1)
    assert "(192,0,2,1," in pasv(server)
    server.reactor.advance(EVERY + 1)
    assert "(192,0,2,1," in pasv(server)
    masquerade.stop()


def test_nothing_is_asked_after_the_end() -> None:
    server, masquerade = named(None, "192.0.2.1")
    masquerade.start()
    masquerade.stop()
    masquerade.stop()
    server.reactor.advance(2 * EVERY)
    assert masquerade._reactor.asked == ["router.example"]
    assert [c for c in server.reactor.getDelayedCalls() if c.active()] == []


def test_the_server_looks_up_a_name_while_it_listens() -> None:
    server = Server(FTPSettings(masquerade_address="router.example"))
    assert isinstance(server.ftp.new_listener().masquerade, Name)


class RealNames(TestCase):
    """With the names of this machine."""

    timeout = 20

    async def test_localhost_is_found_and_a_name_that_cannot_be_is_not(self) -> None:
        for name, expected in (("localhost", "127.0.0.1"), ("no such name.invalid", None)):
            masquerade = Name(reactor, name)
            masquerade.start()
            self.addCleanup(masquerade.stop)
            await masquerade._asking
            assert (str(masquerade.address) if masquerade.address else None) == expected
