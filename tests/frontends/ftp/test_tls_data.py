"""Protected data connections in memory: what is sent when, and bytes that are hostile."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from tests.fakes.fake_vfs import FakeSession
from tests.fakes.ftp_wire import Server, Wire
from tests.fakes.ftps import TLSClient, client_context, identity, shake
from truckee.frontends.ftp.data import DataConnection, TransferFailed
from truckee.frontends.ftp.settings import FTPSettings
from truckee.frontends.ftp.tls import Engine, server_context


class Pair:
    """A data connection that shakes hands, and the client at its other end."""

    def __init__(self, highest="1.2") -> None:
        self.clock = MemoryReactorClock()
        self.connection = DataConnection(self.clock, 60.0, lambda c: None)
        self.wire = Wire(self.clock).attach(self.connection)
        self.client = TLSClient()
        self.engine = Engine(server_context(identity(), highest))
        self.secured = Deferred.fromCoroutine(self.connection.secure(self.engine, 10.0))

    def shake(self) -> "Pair":
        for _ in range(4):
            self.wire.feed(self.client.step())
            self.client.put(self.wire.read())
        self.client.step()
        assert self.secured.called
        return self

    def receive(self) -> Deferred:
        return Deferred.fromCoroutine(self.connection.receive())


def result_of(d: Deferred) -> object:
    found: list[object] = []
    d.addBoth(found.append)
    assert found
    return found[0]


def failure_of(d: Deferred) -> TransferFailed:
    failure = result_of(d)
    assert isinstance(failure.value, TransferFailed)
    return failure.value


@pytest.mark.threat("N9")
@pytest.mark.parametrize("highest", ["1.2", "1.3"])
def test_a_client_that_uploads_is_sent_nothing_until_it_has_ended(highest) -> None:
    pair = Pair(highest).shake()
    assert pair.wire.read() == b""
    waiting = pair.receive()
    pair.wire.feed(pair.client.say(b"x" * 100_000))
    assert pair.wire.read() == b""
    pair.wire.feed(pair.client.end())
    assert result_of(waiting) == b"x" * 100_000
    assert result_of(pair.receive()) == b""
    assert not pair.connection.cut_off
    pair.client.take(pair.wire.read())
    pair.client.tls.unwrap()


@pytest.mark.parametrize("highest", ["1.2", "1.3"])
def test_a_client_that_downloads_gets_all_and_an_end(highest) -> None:
    pair = Pair(highest).shake()
    sent = Deferred.fromCoroutine(pair.connection.send(b"y" * 100_000))
    finished = Deferred.fromCoroutine(pair.connection.finish())
    assert pair.client.take(pair.wire.read()) == b"y" * 100_000
    pair.client.tls.unwrap()
    pair.clock.advance(1)
    assert result_of(sent) is None
    assert result_of(finished) is None


def test_data_and_end_that_come_with_the_handshake_are_not_lost() -> None:
    pair = Pair("1.3")
    pair.wire.feed(pair.client.step())
    pair.client.put(pair.wire.read())
    pair.wire.feed(pair.client.step() + pair.client.say(b"early") + pair.client.end())
    assert pair.secured.called
    assert result_of(pair.receive()) == b"early"
    assert result_of(pair.receive()) == b""
    assert not pair.connection.cut_off


def test_a_stream_that_is_cut_is_known_as_such() -> None:
    for how in ("readConnectionLost", "lose"):
        pair = Pair().shake()
        waiting = pair.receive()
        pair.wire.feed(pair.client.say(b"some"))
        getattr(pair.connection if how == "readConnectionLost" else pair.wire, how)()
        assert result_of(waiting) == b"some"
        assert pair.connection.cut_off


def test_nothing_is_read_between_the_handshake_and_the_transfer() -> None:
    pair = Pair().shake()
    assert not pair.wire.reading
    pair.receive()
    assert pair.wire.reading


def test_abort_and_time_end_a_handshake() -> None:
    pair = Pair()
    pair.clock.advance(11)
    assert failure_of(pair.secured).code == 425
    pair = Pair()
    pair.connection.abort(TransferFailed(426, "transfer aborted"))
    assert failure_of(pair.secured).code == 426
    assert pair.clock.getDelayedCalls()[0].getTime() <= pair.clock.seconds()


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_for_a_handshake_end_it_or_wait_for_more(data: bytes) -> None:
    pair = Pair()
    pair.wire.feed(data)
    pair.clock.advance(11)
    assert failure_of(pair.secured).code == 425
    assert pair.wire.closed


@given(st.integers(0, 99), st.integers(1, 255))
def test_a_record_that_was_changed_never_becomes_data(place: int, change: int) -> None:
    pair = Pair().shake()
    waiting = pair.receive()
    stream = bytearray(pair.client.say(b"data"))
    stream[place % len(stream)] ^= change
    pair.wire.feed(bytes(stream))
    pair.connection.readConnectionLost()
    assert pair.connection.received == 0
    found = result_of(waiting)
    assert pair.connection.cut_off if found == b"" else found.value.code == 426


def test_a_flood_of_questions_in_an_upload_ends_it() -> None:
    pair = Pair("1.3").shake()
    waiting = pair.receive()
    pair.connection._withheld.append(b"x" * (1 << 16))
    pair.engine._unsent.append(b"one more")
    pair.wire.feed(pair.client.say(b"data"))
    assert failure_of(waiting).code == 426


# the control connection


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_behind_auth_close_or_wait_and_are_not_commands(data: bytes) -> None:
    server = Server(FTPSettings(), FakeSession(root={"a": b""}), identity=identity())
    client = server.connect()
    client.ask("AUTH TLS")
    client.wire.feed(data + b"\r\nUSER alice\r\nPASS secret\r\nDELE a\r\n")
    for _ in range(20):
        server.reactor.advance(1)
    assert client.wire.closed
    assert server.ftp.sessions == 0
    assert server.vfs.root == {"a": b""}
    assert server.portal.seen == []
    assert [c for c in server.reactor.getDelayedCalls() if c.active()] == []


@pytest.mark.threat("N12")
def test_a_session_of_one_port_is_refused_at_the_other() -> None:
    server = Server(identity=identity())
    one, other = server.ftp.new_listener(), server.ftp.new_listener()
    assert one.context is not other.context
    context = client_context(highest=ssl.TLSVersion.TLSv1_2)
    first = TLSClient(context)
    shake(Engine(one.context), first)
    for listener, resumed in ((one, True), (other, False)):
        again = TLSClient(context, first.tls.session)
        shake(Engine(listener.context), again)
        assert again.tls.session_reused == resumed
