"""The SFTP server: real connections, limits, and an end in order."""

import gc
import tempfile
import weakref
from pathlib import Path

import pytest
from twisted.conch.interfaces import IConchUser
from twisted.cred.portal import Portal
from twisted.internet import reactor  # noqa: TID251 - real sockets
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.fakes.sftp_node import SftpNode
from tests.fakes.ssh_wire import HOST_KEYS, Client, Door, Realm, Recorder, Server
from truckee.auth.accounts import Options
from truckee.auth.realm import FTPAvatarID
from truckee.frontends.gate.registry import Limits, Registry
from truckee.frontends.sftp.service import SFTPServer
from truckee.frontends.sftp.settings import SFTPSettings
from truckee.frontends.sftp.shell import Peer, SFTPUser, user_factory


def server(clock, registry=None, **settings) -> SFTPServer:
    return SFTPServer(
        clock,
        Portal(Realm(), [Door()]),
        SFTPSettings(**settings),
        registry or Registry("sftp"),
        HOST_KEYS,
        make_subsystem=lambda user, host: Recorder(),
    )


class ServerTests(SynchronousTestCase):
    def test_who_is_banned_is_hung_up_on_without_a_word(self):
        registry = Registry("sftp", may_connect=lambda host: host != "192.0.2.1")
        sftp = server(Clock(), registry)
        assert sftp.build("192.0.2.1") is None
        assert sftp.build("192.0.2.2") is not None

    def test_addresses_are_counted_as_ipv4_also_where_ipv6_wraps_them(self):
        sftp = server(Clock())
        asked = []
        sftp.build = asked.append
        reactor_ = MemoryReactorClock()
        endpoint = TCP4ServerEndpoint(reactor_, 22)
        self.successResultOf(_coroutine(sftp.listen([endpoint])))
        factory = reactor_.tcpServers[0][1]
        factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        factory.buildProtocol(IPv6Address("TCP", "::ffff:192.0.2.1", 1))
        factory.buildProtocol(IPv6Address("TCP", "2001:db8::1", 1))
        factory.buildProtocol(UNIXAddress(None))
        factory.buildProtocol(None)
        assert asked == ["192.0.2.1", "192.0.2.1", "2001:db8::1", "", ""]

    def test_closing_an_account_ends_its_sessions(self):
        registry = Registry("sftp")
        sftp = server(Clock(), registry)
        client = Client(Server(registry=registry)).working()
        stranger = Client(Server(registry=registry)).logging_in()
        assert sftp.accounts() == {"alice"}
        assert sftp.close_account("bob") == 0
        assert sftp.close_account("alice") == 1
        assert client.goodbye() == 11
        assert not stranger.server.session.ended

    @pytest.mark.threat("D2")
    def test_silent_strangers_make_room(self):
        registry = Registry("sftp", Limits(max_unauthenticated=2))
        clients = [Client(Server(registry=registry)) for _ in range(3)]
        assert [c.server.session.ended for c in clients] == [True, False, False]

    def test_an_idle_server_stops_at_once_and_a_second_time(self):
        sftp = server(Clock())
        self.successResultOf(sftp.stopService())
        self.successResultOf(sftp.stopService())

    def test_sessions_at_work_have_a_grace(self):
        registry = Registry("sftp")
        clock = Clock()
        sftp = server(clock, registry, transfer_grace=10.0, drain_timeout=30.0)
        idle = Client(Server(registry=registry)).working()
        busy = Client(Server(registry=registry)).working()
        busy.sftp()[1].busy = True
        stopped = sftp.stopService()
        assert idle.goodbye() == 11
        idle.server.lose()
        clock.advance(9)
        assert not busy.server.session.ended
        clock.advance(1)
        assert busy.goodbye() == 11
        self.assertNoResult(stopped)
        busy.server.lose()
        self.successResultOf(stopped)

    def test_an_avatar_is_a_session_with_the_limit_of_its_account(self):
        class Root:
            def get_cap(self):
                return None

        asked = []

        class Session:
            def __init__(self, vfs, client, root, avatar_id, peer, protocol):
                asked.append((client, avatar_id.username, peer, protocol))
                self.account = avatar_id.username

            async def logout(self):
                asked.append("logout")

        self.patch(__import__(user_factory.__module__, fromlist=["x"]), "VFSSession", Session)
        make = user_factory(None, lambda name: f"client of {name}")
        avatar_id = FTPAvatarID("alice", None, options=Options(max_sessions=4))
        user, logout = make(Root(), avatar_id, Peer("192.0.2.9"))
        assert isinstance(user, SFTPUser)
        assert user.max_sessions == 4
        logout()
        assert asked == [("client of alice", "alice", "192.0.2.9", "sftp"), "logout"]


def _coroutine(coroutine):
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


class ListeningTests(TestCase):
    async def test_a_node_listens_and_stops_and_its_port_is_free_again(self):
        with tempfile.TemporaryDirectory() as folder:
            node = await SftpNode(reactor, Path(folder)).start()
            endpoint = TCP4ServerEndpoint(reactor, node.port, interface="127.0.0.1")
            with pytest.raises(CannotListenError):
                await node.sftp.listen([endpoint])
            await node.stop()
            again = server(reactor)
            (address,) = await again.listen([endpoint])
            assert address.port == node.port
            await again.stopService()
            await deferLater(reactor, 0)

    def test_the_interface_is_that_of_conch(self):
        user, _, _ = Realm().requestAvatar(b"alice", None, IConchUser)
        assert user is IConchUser


def test_nothing_of_a_session_waits_for_the_collector_of_circles():
    gc.collect()
    gc.disable()
    try:
        client = Client().working()
        client.sftp()
        session = weakref.ref(client.server.session)
        client.server.lose()
        client.server.session = client.server.tcp.producer = None
        client.server.subsystems.clear()
        assert session() is None
    finally:
        gc.enable()
