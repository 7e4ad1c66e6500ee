"""Limits on sessions, revoked accounts, and stopping."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError

from tests.fakes.fake_vfs import FakePortal, FakeSession, Gate
from tests.fakes.ftp_wire import Server
from truckee.frontends.ftp.service import FTPServer
from truckee.frontends.gate.registry import Limits


@pytest.mark.threat("D2")
def test_one_connection_too_many_is_told_so() -> None:
    server = Server(limits=Limits(max_sessions=3))
    clients = [server.connect() for _ in range(3)]
    late = server.connect()
    assert late.greeting.startswith("421 ")
    late.pass_time(1)
    assert late.wire.closed
    clients[0].wire.lose()
    assert server.connect().greeting.startswith("220 ")


@pytest.mark.threat("D2")
@pytest.mark.threat("D1")
def test_strangers_who_say_nothing_make_room_for_who_comes() -> None:
    server = Server(limits=Limits(max_unauthenticated=3))
    logged_in = server.login()
    other = server.connect("10.0.0.1")
    drips = []
    for _ in range(10):
        drips += [server.connect() for _ in range(30)]
        server.reactor.advance(0)
    good = server.connect()
    assert good.greeting.startswith("220 ")
    server.reactor.advance(0)
    assert [d.wire.closed is None for d in drips[-3:]] == [False, False, True]
    assert other.wire.closed is None  # the crowd pays, not the lonely
    good.ask("USER alice")
    assert good.ask("PASS secret").startswith("230 ")
    assert logged_in.ask("NOOP").startswith("200 ")
    assert server.ftp.sessions <= 5


def test_strangers_whose_password_is_being_checked_are_not_sent_away() -> None:
    server = Server(limits=Limits(max_unauthenticated=2))
    server.portal.held = []
    waiting = [server.connect() for _ in range(2)]
    for client in waiting:
        client.send("USER alice", "PASS secret")
    assert server.connect().greeting.startswith("421 ")
    for d in server.portal.held:
        d.callback(None)
    assert all("230 " in client.text() for client in waiting)


@pytest.mark.threat("D2")
def test_a_flood_within_one_turn_is_hung_up_on() -> None:
    server = Server(limits=Limits(max_sessions=10))
    built = [server.ftp.build("127.0.0.1") for _ in range(100)]
    assert sum(p is not None for p in built) == 20


def test_one_address_has_a_limit_and_loopback_has_none() -> None:
    server = Server(limits=Limits(max_sessions_per_ip=2))
    assert server.connect("10.0.0.1").greeting.startswith("220 ")
    assert server.connect("10.0.0.1").greeting.startswith("220 ")
    assert server.connect("10.0.0.1").greeting.startswith("421 ")
    assert server.connect("10.0.0.2").greeting.startswith("220 ")
    assert all(server.connect().greeting.startswith("220 ") for _ in range(5))


def test_one_account_has_a_limit() -> None:
    server = Server(limits=Limits(max_sessions_per_user=2))
    server.login()
    server.login()
    client = server.connect()
    client.ask("USER alice")
    assert client.ask("PASS secret").startswith("421 ")
    assert server.vfs.logged_out == 1


@pytest.mark.threat("A2")
def test_a_banned_address_is_not_even_greeted() -> None:
    server = Server()
    server.banned.add("10.0.0.9")
    assert server.ftp.build("10.0.0.9") is None
    assert server.ftp.sessions == 0


@pytest.mark.threat("A7")
def test_a_revoked_account_is_shown_out_and_others_stay() -> None:
    bob = FakeSession(account="bob", root={"a": b"1"})
    alice = FakeSession(account="alice")
    server = Server(portal=FakePortal(lambda c: bob if c.username == "bob" else alice))
    mine, idle, busy = server.connect(), server.connect(), server.connect()
    for client, name in ((mine, "alice"), (idle, "bob"), (busy, "bob")):
        client.ask(f"USER {name}", "PASS x")
    data = busy.open_data()
    busy.ask("STOR up")
    data.feed(b"half")
    assert server.ftp.close_account("bob") == 2
    assert idle.text().startswith("421 ")
    assert [line[:3] for line in busy.text().split("\r\n")] == ["426", "421", ""]
    server.reactor.advance(1)
    assert server.ftp.registry.accounts() == {"alice"}
    assert mine.ask("NOOP").startswith("200 ")
    assert bob.root == {"a": b"1"}


def stop(server: Server) -> list:
    done: list = []
    d = server.ftp.stopService()
    assert isinstance(d, Deferred)
    d.addCallback(done.append)
    return done


def test_stopping_ends_idle_sessions_at_once() -> None:
    server = Server()
    server.ftp.startService()
    client = server.login()
    done = stop(server)
    assert client.text().startswith("421 ")
    server.reactor.advance(0)
    assert done == [None]


def test_stopping_twice_is_stopping_once() -> None:
    server = Server()
    server.vfs.gates["mkdir"] = Gate(held=[])
    server.login().ask("MKD d")
    first = stop(server)
    assert stop(server) == [None]
    assert first == []
    server.vfs.gates["mkdir"].release()
    server.reactor.advance(0)
    assert first == [None]


def test_stopping_waits_for_a_commit() -> None:
    server = Server()
    server.ftp.startService()
    client = server.login()
    server.vfs.gates["commit"] = Gate(held=[])
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"abc")
    data.lose()
    client.pass_time(0.2, 0.1)
    done = stop(server)
    server.reactor.advance(20)
    assert done == []
    server.vfs.gates["commit"].release()
    assert client.text().startswith("226 ")
    server.reactor.advance(0)
    assert done == [None]
    assert server.vfs.root == {"a": b"abc"}


def test_stopping_ends_transfers_after_a_while() -> None:
    server = Server()
    server.ftp.startService()
    client = server.login()
    data = client.open_data()
    client.ask("STOR a")
    data.feed(b"abc")
    done = stop(server)
    server.reactor.advance(9)
    assert done == []
    server.reactor.advance(2)
    server.reactor.advance(0)
    assert done == [None]
    assert server.vfs.root == {}


def test_stopping_does_not_wait_for_ever() -> None:
    server = Server()
    server.ftp.startService()
    client = server.login()
    server.vfs.gates["mkdir"] = Gate(held=[])
    client.ask("MKD d")
    done = stop(server)
    server.reactor.advance(31)
    assert done == [None]


def test_a_port_that_is_taken_is_told_and_nothing_stays_open() -> None:
    server = Server()
    server.reactor.listenTCP = _second_fails(server.reactor.listenTCP)
    endpoints = [TCP4ServerEndpoint(server.reactor, 0), TCP4ServerEndpoint(server.reactor, 1)]
    failed: list = []
    Deferred.fromCoroutine(server.ftp.listen(endpoints)).addErrback(failed.append)
    assert failed[0].check(CannotListenError)


def _second_fails(listen):
    def fake(port, *args, **kwargs):
        if port == 1:
            raise CannotListenError("", 1, OSError())
        return listen(port, *args, **kwargs)

    return fake


@pytest.mark.parametrize("account_limit", [1])
def test_an_accounts_own_limit_counts_too(account_limit) -> None:
    server = Server()
    first = server.login()
    assert isinstance(server.ftp, FTPServer)
    assert server.ftp.registry.admit(first.protocol, "alice", account_limit)
    server.login()
    assert not server.ftp.registry.admit(first.protocol, "alice", account_limit)
