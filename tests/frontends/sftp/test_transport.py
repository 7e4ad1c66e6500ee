"""SSH's packets and keys: what may come when, what is refused, and when keys change."""

import pytest
from twisted.internet.testing import StringTransport

from tests.fakes.account_lines import string
from tests.fakes.ssh_wire import STRICT, VERSION, Client, Ended, Server
from truckee.frontends.gate.registry import Limits, Registry
from truckee.frontends.sftp import keys, transport
from truckee.frontends.sftp.settings import SFTPSettings

CIPHERS = [
    b"aes256-gcm@openssh.com",
    b"aes128-gcm@openssh.com",
    b"aes256-ctr",
    b"aes192-ctr",
    b"aes128-ctr",
]
MACS = [
    b"hmac-sha2-256-etm@openssh.com",
    b"hmac-sha2-512-etm@openssh.com",
    b"hmac-sha2-256",
    b"hmac-sha2-512",
]


def greeted(strict: bool = True) -> Client:
    client = Client(strict=strict)
    client.greet()
    return client


def offered(strict: bool = True) -> Client:
    client = greeted(strict)
    client.make_offer()
    client.read_offer()
    return client


def shared(strict: bool = True) -> Client:
    """Both secrets are known; the client has not said NEWKEYS."""
    client = offered(strict)
    client.share()
    client.collect_share()
    client.expect(7)
    return client


def rekeying(strict: bool = True) -> Client:
    client = Client(strict=strict).working()
    client.make_offer()
    client.read_offer()
    return client


STATES = {
    "opening": greeted,
    "offered": offered,
    "shared": shared,
    "offered, not strict": lambda: offered(strict=False),
    "secured": lambda: Client().secured(),
    "logging in": lambda: Client().logging_in(),
    "working": lambda: Client().working(),
    "rekeying": rekeying,
}
HARMLESS = {2, 3, 4}
ANSWERED = {
    "opening": HARMLESS,  # the offer will tell whether that was allowed
    "offered": set(),
    "shared": set(),
    "offered, not strict": HARMLESS,
    "secured": HARMLESS | {7},
    "logging in": HARMLESS | set(range(51, 80)),
    "working": HARMLESS | {81, 82, 99, 100} | set(range(83, 90)) | {91, 92} | set(range(101, 256)),
    "rekeying": HARMLESS,
}


@pytest.mark.threat("N2")
@pytest.mark.parametrize("state", STATES)
def test_an_empty_message_of_any_number_is_answered_or_ends_the_connection(state):
    went_on = set()
    for number in range(256):
        client = STATES[state]()
        client.send(number)
        session = client.server.session
        if not session.ended:
            went_on.add(number)
        elif number != 1:
            assert client.goodbye() in {2, 3}, number
        assert not client.server.subsystems
        assert session.upper is None or state not in {"opening", "offered", "shared", "secured"}
    expected = set(ANSWERED[state])
    if state == "shared":
        expected |= {21}
    assert went_on == expected


@pytest.mark.threat("N2")
@pytest.mark.parametrize("number", [2, 3, 4])
def test_nothing_may_come_before_the_offer_of_a_strict_client(number):
    client = greeted()
    client.send(number, bytes(9))
    client.make_offer()
    client.expect(20)
    assert client.goodbye() == 2


@pytest.mark.threat("N2")
@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_client_that_is_not_strict_may_send_noise(number):
    client = greeted(strict=False)
    client.send(number, bytes(9))
    client.make_offer()
    client.read_offer()
    client.share()
    client.collect_share()
    client.new_keys()
    client.expect(7)
    client.send(5, string(b"ssh-userauth"))
    client.expect(6)


INJECTIONS = {
    "a service request before the offers": (greeted, 5, string(b"ssh-userauth")),
    "a service request amid the exchange": (offered, 5, string(b"ssh-userauth")),
    "a login amid the exchange": (offered, 50, string(b"alice")),
    "a channel amid the exchange": (offered, 90, string(b"session") + bytes(12)),
    "extensions amid the exchange": (offered, 7, bytes(4)),
    "new keys before there are any": (offered, 21, b""),
    "new keys before the offers": (greeted, 21, b""),
    "a second offer": (offered, 20, bytes(62)),
    "a second secret": (shared, 30, string(bytes(32))),
    "noise behind a strict offer": (offered, 2, string(b"")),
}


@pytest.mark.threat("N2")
@pytest.mark.parametrize("what", INJECTIONS)
def test_what_an_attacker_slips_in_before_the_keys_ends_the_connection(what):
    make, number, payload = INJECTIONS[what]
    client = make()
    client.send(number, payload)
    assert client.goodbye() == 2
    assert client.server.session.upper is None
    assert not client.server.door.asked


@pytest.mark.threat("N2")
def test_numbers_of_packets_begin_anew_with_the_keys_of_a_strict_client():
    client = Client(cipher=b"aes128-ctr", mac=b"hmac-sha2-256").working()
    client.exchange()
    assert client.server.session.outgoingPacketSequence < 3
    client.send(80, string(b"x") + b"\1")
    client.expect(82)


def test_without_strictness_the_numbers_go_on():
    client = Client(cipher=b"aes128-ctr", mac=b"hmac-sha2-256", strict=False).working()
    client.exchange()
    assert client.server.session.outgoingPacketSequence > 5
    client.send(80, string(b"x") + b"\1")
    client.expect(82)


def test_a_client_tells_its_extensions_first_or_not_at_all():
    client = Client().secured()
    client.send(7, bytes(4))
    client.send(5, string(b"ssh-userauth"))
    client.expect(6)
    late = Client().secured()
    late.send(2, string(b""))
    late.send(7, bytes(4))
    assert late.goodbye() == 2


def test_the_server_tells_which_user_keys_it_takes_whatever_its_own_are():
    client = Client()
    client.exchange()
    told = client.expect(7)
    assert b"rsa-sha2-512,rsa-sha2-256" in told
    assert b"sk-ssh-ed25519@openssh.com" in told
    assert b"ssh-rsa" not in told


# framing


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_works_with_every_mac_in_pieces_of_any_size(cipher, mac):
    client = Client(cipher=cipher, mac=mac).working()
    data = b"".join(client.packet(80, string(b"x") + b"\1") for _ in range(5))
    for i in range(0, len(data), 7):
        client.raw(data[i : i + 7])
    assert [client.read() for _ in range(5)] == [(82, b"")] * 5


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_packet_that_was_altered_anywhere_ends_the_connection(cipher, mac):
    for place in (4, 9, 20, -1):
        client = Client(cipher=cipher, mac=mac).working()
        packet = bytearray(client.packet(80, string(b"x" * 40) + b"\1"))
        packet[place] ^= 4
        client.raw(bytes(packet) + bytes(400))
        assert client.goodbye() in {2, 5}


@pytest.mark.parametrize(
    "frame",
    [
        (0).to_bytes(4) + bytes(12),
        (12).to_bytes(4) + bytes([3]) + bytes(11),
        (12).to_bytes(4) + bytes([11]) + bytes(11),
        (13).to_bytes(4) + bytes([4]) + bytes(12),
        (35_001).to_bytes(4) + bytes([4]),
        (0xFFFFFFFF).to_bytes(4) + bytes([4]),
    ],
)
def test_a_frame_that_cannot_be_ends_the_connection(frame):
    client = greeted()
    client.raw(frame)
    client.expect(20)
    assert client.goodbye() == 2


@pytest.mark.parametrize("size", [-1, 0, 1, 2, 3, 4, 15, 17, 35_001, 300_000, 1 << 31])
def test_no_memory_is_taken_for_a_length_that_is_refused(size):
    client = Client().logging_in()
    client.raw((size & 0xFFFFFFFF).to_bytes(4))
    assert client.goodbye() == 2


def test_large_packets_are_for_those_who_are_logged_in():
    client = Client().logging_in()
    client.raw((35_008).to_bytes(4))
    assert client.goodbye() == 2
    client = Client().working()
    client.send(80, string(bytes(300_000)) + b"\1")
    client.expect(82)
    client.raw((300 * 1024 + 16).to_bytes(4))
    assert client.goodbye() == 2


# the first line


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-1.5-old\r\n",
        b"SSH-2.1-new\r\n",
        b"\r\n",
        b"x" * 300,
        b"SSH-2.0-" + b"x" * 300 + b"\n",
    ],
)
def test_a_first_line_that_is_not_ssh_two_ends_the_connection(line):
    client = Client()
    client.raw(line)
    assert client.server.session.ended
    assert client.server.tcp.value().startswith(b"SSH-2.0-Truckee\r\n")


@pytest.mark.parametrize("line", [b"SSH-2.0-a\n", b"SSH-2.0-a b\r\n", b"SSH-1.99-c\r\n"])
def test_the_first_line_may_end_either_way_and_come_in_pieces(line):
    client = Client()
    for i in range(len(line)):
        client.raw(line[i : i + 1])
    assert client.server.session.gotVersion
    assert not client.server.session.ended


# agreements


@pytest.mark.threat("N3")
@pytest.mark.parametrize(
    ("part", "name"),
    [
        *[("kex", n) for n in (b"diffie-hellman-group14-sha1", b"diffie-hellman-group1-sha1")],
        ("kex", b"diffie-hellman-group-exchange-sha1"),
        ("kex", b"diffie-hellman-group-exchange-sha256"),
        ("kex", b"ext-info-c"),
        ("kex", b"kex-strict-s-v00@openssh.com"),
        ("kex", b""),
        *[("host_key", n) for n in (b"ssh-rsa", b"ssh-dss", b"ecdsa-sha2-nistp256")],
        *[("cipher_in", n) for n in (b"aes128-cbc", b"3des-cbc", b"none", b"3des-ctr")],
        *[("cipher_out", n) for n in (b"aes256-cbc", b"arcfour", b"none")],
        *[("mac_in", n) for n in (b"hmac-sha1", b"hmac-md5", b"none", b"hmac-sha1-96")],
        *[("mac_out", n) for n in (b"hmac-sha1-etm@openssh.com", b"none")],
        *[("packed_in", n) for n in (b"zlib", b"zlib@openssh.com")],
        ("packed_out", b"zlib"),
    ],
)
def test_an_algorithm_that_was_removed_is_refused_when_it_is_all_there_is(part, name):
    client = Client(cipher=b"aes128-ctr")
    client.greet()
    client.send(20, client.offer(**{part: name}))
    client.expect(20)
    assert client.goodbye() == 3


def test_a_mac_is_not_asked_for_beside_a_cipher_that_is_its_own():
    client = greeted()
    client.make_offer(mac_in=b"umac-64@openssh.com", mac_out=b"none")
    client.read_offer()
    client.share()
    client.collect_share()
    client.new_keys()
    client.expect(7)


def test_the_hybrid_exchange_is_as_its_draft_has_it():
    mlkem = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mlkem")
    client = greeted()
    client.kem = mlkem.MLKEM768PrivateKey.generate()
    client.make_offer(kex=b"mlkem768x25519-sha256," + STRICT)
    client.read_offer()
    client.share()
    client.collect_share()
    client.new_keys()
    client.send(5, string(b"ssh-userauth"))
    client.expect(6)


@pytest.mark.parametrize("size", range(0, 200, 13))
def test_an_offer_cut_short_ends_the_connection(size):
    client = greeted()
    client.send(20, client.offer()[:size])
    client.expect(20)
    assert client.goodbye() == 2


def test_a_wrong_guess_is_passed_over_and_a_right_one_used():
    client = greeted()
    client.make_offer(follows=b"\1")  # its first choice is not ours
    client.read_offer()
    client.send(30, string(b"a guess"))
    client.share()
    client.collect_share()
    client.new_keys()
    client.expect(7)


@pytest.mark.parametrize("share", [b"", string(b""), string(bytes(32)), string(bytes(31)), b"\xff"])
def test_a_share_that_makes_no_secret_ends_the_connection(share):
    client = offered()
    client.send(30, share)
    assert client.goodbye() == 3


@pytest.mark.parametrize("kex", [b"mlkem768x25519-sha256", b"curve25519-sha256"])
def test_shares_of_the_wrong_size_end_the_connection_in_every_exchange(kex):
    client = greeted()
    client.make_offer(kex=kex)
    client.read_offer()
    client.send(30, string(bytes(32)))
    assert client.goodbye() == 3


# new keys


def rekeyed(client: Client) -> None:
    """Answer the offer that the server has made."""
    client.read_offer()
    client.make_offer()
    client.share()
    client.collect_share()
    client.new_keys()


def test_the_server_wants_new_keys_after_so_many_bytes():
    client = Client(Server(SFTPSettings(rekey_bytes=100_000))).working()
    _number, subsystem = client.sftp()
    subsystem.channel.write([bytes(150_000)])
    got = 0
    while True:
        kind, payload = client.read()
        if kind == 20:
            break
        assert kind == 94
        got += len(payload) - 8
    assert got < 150_000
    assert client.silent(), "data waits for the keys"
    client.inbox.insert(0, (20, payload))
    rekeyed(client)
    while not client.silent():
        kind, payload = client.read()
        assert kind == 94
        got += len(payload) - 8
    assert got == 150_000


def test_the_server_wants_new_keys_after_bytes_that_came():
    client = Client(Server(SFTPSettings(rekey_bytes=100_000))).working()
    for _ in range(4):
        client.send(2, string(bytes(30_000)))
    rekeyed(client)
    client.send(80, string(b"x") + b"\1")
    client.expect(82)


def test_the_server_wants_new_keys_after_a_time_and_after_many_packets():
    client = Client().working()
    client.server.session.last_received = 4000.0
    client.server.clock.advance(3600)
    client.inbox = [m for m in _all(client) if m[0] != 80]
    rekeyed(client)
    client.server.session._packets[1] = keys.REKEY_PACKETS
    client.send(80, string(b"x") + b"\1")
    client.expect(82)
    rekeyed(client)
    assert client.silent()


def _all(client):
    client.collect()
    return client.inbox


def test_small_messages_wait_for_new_keys_and_there_may_not_be_too_many():
    client = Client(Server(SFTPSettings(rekey_bytes=100_000))).working()
    for _ in range(4):
        client.send(2, string(bytes(30_000)))
    client.read_offer()
    for _ in range(keys.BLOCKED):
        client.send(80, string(b"x") + b"\1")
    assert client.silent()
    client.send(80, string(b"x") + b"\1")
    assert client.goodbye() == 2


def test_a_client_that_gives_no_new_keys_is_left():
    client = Client(Server(SFTPSettings(rekey_bytes=100_000, keepalive=10_000.0))).working()
    for _ in range(4):
        client.send(2, string(bytes(30_000)))
    client.read_offer()
    client.server.clock.advance(300)
    assert client.goodbye() == 3


# time and room


@pytest.mark.threat("D1")
def test_keys_must_be_there_in_twenty_seconds_whatever_trickles_in():
    client = Client()
    for byte in VERSION + b"abc":
        client.raw(bytes([byte]))
        client.server.clock.advance(1)
    client.server.clock.advance(0.9)
    assert not client.server.session.ended
    client.server.clock.advance(0.2)
    assert client.server.session.ended


@pytest.mark.threat("D1")
def test_a_login_must_be_there_in_sixty_seconds_whatever_is_tried():
    client = Client().logging_in()
    for _ in range(59):
        client.server.clock.advance(1)
        client.send(2, string(b""))
    assert not client.server.session.ended
    client.server.clock.advance(1)
    assert client.goodbye() == 11


def test_a_client_has_a_moment_to_read_why_it_is_turned_away():
    client = greeted()
    client.send(99)
    tcp = client.server.tcp
    assert tcp.half_closed
    assert not tcp.aborted
    client.raw(bytes(1000))
    client.server.clock.advance(keys.LINGER)
    assert tcp.aborted


def test_a_transport_that_cannot_half_close_is_closed():
    server = Server()
    server.tcp = StringTransport()
    server.tcp.setTcpNoDelay = lambda enabled: None
    client = Client(server)
    client.raw(b"no\n")
    assert server.tcp.disconnecting


def test_who_makes_us_answer_and_does_not_read_is_not_read():
    client = Client().working()
    tcp = client.server.tcp
    tcp.room = 0
    question = client.packet(80, string(b"x") + b"\1")
    sent = len(question)
    client.raw(question)
    while tcp.producerState == "producing" and sent < 10_000_000:
        question = client.packet(80, string(b"x") + b"\1")
        client.raw(question)
        sent += len(question)
    assert tcp.producerState == "paused"
    assert sent < 1_000_000
    tcp.room = 1 << 30
    tcp.taken()
    assert tcp.producerState == "producing"


@pytest.mark.threat("F3")
def test_tiny_messages_without_end_leave_turns_to_others(monkeypatch):
    client = Client().working()
    monkeypatch.setattr(transport, "TURN", -1.0)  # each message takes a whole turn
    monkeypatch.setattr(transport, "WAITING", 100)
    client.raw(b"".join(client.packet(80, string(b"x") + b"\1") for _ in range(10)))
    client.raw(client.packet(80, string(b"x") + b"\1"))
    client.expect(82)
    assert client.silent()
    assert client.server.tcp.producerState == "paused"
    client.server.clock.advance(0)
    for _ in range(10):
        client.expect(82)
    assert client.server.tcp.producerState == "producing"


@pytest.mark.threat("F3")
def test_messages_that_wait_for_a_turn_are_gone_with_the_connection(monkeypatch):
    client = Client().working()
    monkeypatch.setattr(transport, "TURN", -1.0)
    client.raw(client.packet(80, string(b"x") + b"\1") + client.packet(2))
    client.server.lose()
    assert not client.server.clock.getDelayedCalls()


def test_too_many_sessions_are_told_so_after_their_first_line():
    registry = Registry("sftp", Limits(max_sessions=1))
    first = Client(Server(registry=registry))
    second = Client(Server(registry=registry))
    second.greet()
    second.expect(20)
    with pytest.raises(Ended, match="too many sessions"):
        second.read()
    assert not first.server.session.ended


def test_a_goodbye_of_the_client_is_taken_without_an_answer():
    client = Client().working()
    client.send(1, (11).to_bytes(4) + string(b"bye") + string(b""))
    assert client.silent()
    assert client.server.tcp.disconnecting


def test_a_session_leaves_the_registry_after_its_logout():
    client = Client().working()
    _, subsystem = client.sftp()
    client.server.lose()
    assert subsystem.losses == 1
    assert client.server.realm.logouts == 1
    assert client.server.registry.sessions == 0
    assert not client.server.clock.getDelayedCalls()
