"""Channels: what is refused, what is sent when, and how much may be under way."""

import pytest

from tests.fakes.account_lines import string
from tests.fakes.ssh_wire import Client, Server
from truckee.frontends.sftp.channel import FURTHER_WINDOW, PACKET, WINDOW
from truckee.frontends.sftp.packets import MAX_PACKET
from truckee.frontends.sftp.seam import HIGH, LOW
from truckee.frontends.sftp.settings import SFTPSettings

SFTP = string(b"subsystem") + b"\1" + string(b"sftp")


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4) for value in values)


def data(client, number, octets) -> None:
    client.send(94, numbers(number) + string(octets))


def received(client) -> list[bytes]:
    """Return the pieces of data that have come."""
    client.collect()
    found = [payload[8:] for kind, payload in client.inbox if kind == 94]
    client.inbox = [m for m in client.inbox if m[0] != 94]
    return found


def test_data_goes_both_ways():
    client = Client().working()
    number, subsystem = client.sftp(number=40)
    data(client, number, b"hello")
    assert subsystem.came == b"hello"
    subsystem.channel.write([b"wor", memoryview(b"ld")])
    assert client.expect(94) == numbers(40) + string(b"world")


@pytest.mark.parametrize(
    "request_",
    [
        string(b"shell") + b"\1",
        string(b"exec") + b"\1" + string(b"md5sum x"),
        string(b"pty-req") + b"\1" + string(b"xterm") + bytes(16) + string(b""),
        string(b"env") + b"\1" + string(b"LANG") + string(b"C"),
        string(b"x11-req") + b"\1" + bytes(14),
        string(b"auth-agent-req@openssh.com") + b"\1",
        string(b"subsystem") + b"\1" + string(b"other"),
        string(b"subsystem") + b"\1" + string(b""),
        string(b"\xff\x00") + b"\1",
    ],
)
def test_everything_but_sftp_is_refused_at_once_and_quietly(request_):
    client = Client().working()
    number = client.open_channel()
    for _ in range(3):
        client.send(98, numbers(number) + request_)
        assert client.expect(100) == numbers(7)
    client.send(98, numbers(number) + request_.replace(b"\1", b"\0", 1))
    assert client.silent()
    client.send(98, numbers(number) + SFTP)
    client.expect(99)


def test_sftp_is_started_once_on_a_channel():
    client = Client().working()
    number, _ = client.sftp()
    client.send(98, numbers(number) + SFTP)
    client.expect(100)
    assert len(client.server.subsystems) == 1


@pytest.mark.parametrize(
    "kind", [b"direct-tcpip", b"forwarded-tcpip", b"x11", b"auth-agent@openssh.com", b"", b"shell"]
)
def test_channels_of_other_kinds_are_refused(kind):
    client = Client().working()
    client.send(90, string(kind) + numbers(3, 1 << 20, 1 << 15) + string(b"host") + numbers(80))
    assert client.expect(92)[:8] == numbers(3, 1)


def test_there_are_ten_channels_and_a_closed_one_makes_room():
    client = Client().working()
    opened = [client.open_channel(i) for i in range(10)]
    client.send(90, string(b"session") + numbers(10, 1 << 20, 1 << 15))
    assert client.expect(92)[:8] == numbers(10, 4)
    client.send(97, numbers(opened[3]))
    assert client.expect(97) == numbers(3)
    client.open_channel(11)


def test_a_client_that_takes_next_to_nothing_at_a_time_is_refused():
    client = Client().working()
    for packet in (0, 1, 1023):
        client.send(90, string(b"session") + numbers(3, 1 << 20, packet))
        assert client.expect(92)[:8] == numbers(3, 2)


@pytest.mark.parametrize(
    "request_", [b"tcpip-forward", b"keepalive@openssh.com", b"no-more-sessions@openssh.com", b""]
)
def test_no_global_request_is_granted(request_):
    client = Client().working()
    client.send(80, string(request_) + b"\1" + string(b"x") + numbers(22))
    assert client.expect(82) == b""
    client.send(80, string(request_) + b"\0")
    assert client.silent()


@pytest.mark.parametrize("kind", [93, 94, 95, 96, 97, 98])
def test_a_channel_that_is_not_there_ends_the_connection(kind):
    client = Client().working()
    client.send(kind, numbers(5) + bytes(20))
    assert client.goodbye() == 2


# how much may come


@pytest.mark.threat("D1")
def test_the_window_opens_again_only_for_what_was_dealt_with():
    client = Client().working()
    number, subsystem = client.sftp()
    for _ in range(WINDOW // PACKET):
        data(client, number, bytes(PACKET))
    assert len(subsystem.came) == WINDOW
    assert client.silent()
    subsystem.channel.consumed(WINDOW // 2)
    assert client.expect(93) == numbers(7, WINDOW // 2)
    subsystem.channel.consumed(10)
    assert client.silent()
    for _ in range(WINDOW // PACKET // 2):
        data(client, number, bytes(PACKET))
    data(client, number, b"x")
    assert client.goodbye() == 2


@pytest.mark.threat("F3")
def test_further_channels_have_a_smaller_window():
    client = Client().working()
    client.sftp(number=1)
    number, subsystem = client.sftp(number=2)
    for _ in range(FURTHER_WINDOW // PACKET):
        data(client, number, bytes(PACKET))
    subsystem.channel.consumed(FURTHER_WINDOW // 8)
    assert client.expect(93) == numbers(2, FURTHER_WINDOW // 8)
    longest = MAX_PACKET + 4  # must fit beside what was dealt with and not yet told
    assert longest <= FURTHER_WINDOW - FURTHER_WINDOW // 8
    data(client, number, bytes(PACKET))
    data(client, number, b"x")
    assert client.goodbye() == 2


@pytest.mark.parametrize("kind", [94, 95])
def test_a_piece_larger_than_agreed_ends_the_connection(kind):
    client = Client().working()
    number, _ = client.sftp()
    code = numbers(1) if kind == 95 else b""
    client.send(kind, numbers(number) + code + string(bytes(PACKET + 1)))
    assert client.goodbye() == 2


def test_what_nobody_has_a_use_for_opens_the_window_at_once():
    client = Client().working()
    number, subsystem = client.sftp()
    other = client.open_channel(8)
    for _ in range(3 * WINDOW // PACKET):
        client.send(95, numbers(number, 1) + string(bytes(PACKET)))
        data(client, other, bytes(PACKET))
    assert not client.server.session.ended
    assert subsystem.came == b""


def test_a_window_beyond_all_bounds_ends_the_connection():
    client = Client().working()
    number, _ = client.sftp(window=1)
    client.send(93, numbers(number, 0xFFFFFFFE))
    assert client.silent()
    client.send(93, numbers(number, 1))
    assert client.goodbye() == 2


def test_data_after_the_end_of_data_ends_the_connection():
    client = Client().working()
    number, _ = client.sftp()
    client.send(96, numbers(number))
    data(client, number, b"x")
    assert client.goodbye() == 2


# how much goes out


def test_packets_are_as_large_as_the_client_takes_whatever_the_pieces_are():
    client = Client().working()
    _, subsystem = client.sftp(packet=5000)
    subsystem.channel.write([b"a" * 13, b"b" * 12_000, b"", b"c" * 13])
    assert list(map(len, received(client))) == [5000, 5000, 2026]
    _, large = client.sftp(number=8, packet=1 << 31)
    large.channel.write([bytes(150_000)])
    assert max(map(len, received(client))) == PACKET


def test_no_more_is_sent_than_the_window_lets_through():
    client = Client().working()
    number, subsystem = client.sftp(window=10_000)
    subsystem.channel.write([b"x" * 25_000])
    assert sum(map(len, received(client))) == 10_000
    assert subsystem.channel.unsent == 15_000
    client.send(93, numbers(number, 5000))
    assert sum(map(len, received(client))) == 5000
    client.send(93, numbers(number, 1 << 20))
    assert sum(map(len, received(client))) == 10_000
    assert subsystem.channel.unsent == 0


def test_nothing_is_sent_while_tcp_is_full_and_the_rest_when_it_is_empty():
    client = Client().working()
    client.server.tcp.room = 100_000
    _, subsystem = client.sftp(window=1 << 30)
    client.server.tcp.kept = 0
    subsystem.channel.write([bytes(2_000_000)])
    first = sum(map(len, received(client)))
    assert 100_000 <= first < 100_000 + 2 * PACKET
    assert subsystem.channel.unsent == 2_000_000 - first
    while subsystem.channel.unsent:
        client.server.tcp.taken()
        first += sum(map(len, received(client)))
    assert first == 2_000_000


def test_channels_send_in_turns():
    client = Client().working()
    client.server.tcp.room = 0
    one, two = client.sftp(number=1)[1], client.sftp(number=2)[1]
    one.channel.write([b"1" * 200_000])
    two.channel.write([b"2" * 200_000])
    client.server.tcp.room = 150_000
    client.server.tcp.taken()
    assert {piece[:1] for piece in received(client)} == {b"1", b"2"}


def test_a_subsystem_that_wrote_too_much_is_told_when_little_is_left():
    client = Client().working()
    number, subsystem = client.sftp(window=0)
    subsystem.channel.write([bytes(LOW)])
    client.send(93, numbers(number, LOW - 1))
    assert subsystem.drains == 0, "it was never above"
    subsystem.channel.write([bytes(HIGH)])
    client.send(93, numbers(number, HIGH - LOW))
    assert subsystem.drains == 0
    client.send(93, numbers(number, 1))
    assert subsystem.drains == 1
    client.send(93, numbers(number, LOW))
    assert subsystem.drains == 1


def test_what_a_subsystem_writes_when_told_goes_out_too():
    client = Client().working()
    number, subsystem = client.sftp(window=0)
    subsystem.drained = lambda: subsystem.channel.write([b"more"])
    subsystem.channel.write([bytes(HIGH + 1)])
    client.send(93, numbers(number, 1 << 30))
    assert received(client)[-1].endswith(b"more")


# ends


def test_an_end_is_told_after_what_is_queued():
    client = Client().working()
    number, subsystem = client.sftp(window=3)
    subsystem.channel.write([b"abcdef"])
    client.send(96, numbers(number))
    assert subsystem.ends == 1
    subsystem.channel.close(0)
    subsystem.channel.write([b"too late"])
    assert received(client) == [b"abc"]
    assert client.silent()
    client.send(93, numbers(number, 100))
    assert received(client) == [b"def"]
    client.expect(96)
    assert client.expect(98) == numbers(7) + string(b"exit-status") + b"\0" + numbers(0)
    client.expect(97)
    subsystem.channel.close(1)
    assert client.silent()
    assert subsystem.losses == 0
    client.send(97, numbers(number))
    assert subsystem.losses == 1
    assert client.silent()


def test_a_close_of_the_client_is_answered_and_everything_let_go():
    client = Client().working()
    number, subsystem = client.sftp(window=3)
    subsystem.channel.write([bytes(1000)])
    client.send(97, numbers(number))
    received(client)
    assert client.expect(97) == numbers(7)
    assert subsystem.losses == 1
    assert subsystem.channel.unsent == 0
    subsystem.channel.write([b"nobody"])
    subsystem.channel.consumed(WINDOW)
    subsystem.channel.close(0)
    assert client.silent()


def test_the_end_of_data_is_told_once():
    client = Client().working()
    number, subsystem = client.sftp()
    client.send(96, numbers(number))
    client.send(96, numbers(number))
    assert subsystem.ends == 1


def test_a_lost_connection_loses_every_channel_once():
    client = Client().working()
    one, two = client.sftp(number=1)[1], client.sftp(number=2)[1]
    client.server.lose()
    assert (one.losses, two.losses) == (1, 1)
    one.channel.write([b"nobody"])
    one.channel.close(0)


# silence


def test_a_silent_client_is_asked_for_a_sign_of_life_and_then_left():
    client = Client().working()
    for _ in range(3):
        client.server.clock.advance(60)
        assert client.expect(80) == string(b"keepalive@openssh.com") + b"\1"
    client.server.clock.advance(59)
    assert not client.server.tcp.aborted
    client.server.clock.advance(1)
    assert client.server.tcp.aborted


def test_any_answer_is_a_sign_of_life():
    client = Client().working()
    for _ in range(20):
        client.server.clock.advance(60)
        client.expect(80)
        client.send(82)
    assert not client.server.tcp.aborted


@pytest.mark.parametrize("window", [0, 1 << 30])
def test_a_client_that_leaves_answers_unread_for_long_is_left_whatever_it_sends(window):
    client = Client().working()
    _, subsystem = client.sftp(window=window)
    for _ in range(20):
        client.server.clock.advance(60)
        client.send(82)
    assert not client.server.tcp.aborted, "nothing waited for it"
    client.server.tcp.room = 0
    subsystem.channel.write([bytes(100_000)])
    for _ in range(9):
        client.server.clock.advance(60)
        client.send(82)
    assert not client.server.tcp.aborted
    for _ in range(2):
        client.server.clock.advance(60)
        client.send(82)
    assert client.server.tcp.aborted


def test_a_slow_reader_is_no_silent_one():
    client = Client().working()
    number, subsystem = client.sftp(window=0)
    subsystem.channel.write([bytes(100_000)])
    for _ in range(30):
        client.server.clock.advance(60)
        client.send(93, numbers(number, 100))
    assert not client.server.tcp.aborted


def test_sessions_may_be_idle_for_hours_unless_the_settings_say_otherwise():
    client = Client(Server(SFTPSettings(idle_timeout=100.0))).working()
    number, subsystem = client.sftp()
    for _ in range(5):
        client.server.clock.advance(60)
        data(client, number, b"x")
    subsystem.busy = True
    for _ in range(5):
        client.server.clock.advance(60)
        client.send(82)
    subsystem.busy = False
    client.server.clock.advance(60)
    client.send(82)
    assert not client.server.session.ended
    client.server.clock.advance(60)
    assert client.goodbye() == 11


def test_a_session_at_work_ends_when_the_work_has():
    client = Client().working()
    _, subsystem = client.sftp()
    subsystem.busy = True
    client.server.session.shut_down("bye")
    client.server.clock.advance(1)
    assert not client.server.session.ended
    assert client.server.session.leaving
    subsystem.busy = False
    client.server.clock.advance(1)
    assert client.goodbye() == 11


def test_a_session_ends_at_once_when_it_must():
    client = Client().working()
    client.sftp()[1].busy = True
    client.server.session.shut_down("the account was changed", now=True)
    assert client.goodbye() == 11
