"""TLS in memory: versions, protocols asked for, ends, sessions."""

import os
import ssl

import pytest

from tests.fakes.ftps import TLSClient, client_context, identity, shake
from truckee.frontends.ftp.tls import Engine, TLSFailed, server_context

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def connected(highest="1.2", client=None):
    engine, client = Engine(server_context(identity(), highest)), client or TLSClient()
    shake(engine, client)
    return engine, client


@pytest.mark.parametrize(("highest", "version"), [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")])
def test_both_sides_understand_each_other(highest, version) -> None:
    engine, client = connected(highest)
    assert client.tls.version() == version
    data = os.urandom(300_000)
    engine.feed(client.say(data))
    assert engine.receive() == data
    assert client.take(engine.encrypt(memoryview(data))) == data
    assert client.tls.compression() is None
    assert "GCM" in client.tls.cipher()[0] or "CHACHA20" in client.tls.cipher()[0]


@pytest.mark.parametrize("cut", [1, 2, 5, 100])
def test_any_split_of_the_stream_gives_the_same(cut) -> None:
    engine, client = connected()
    stream = client.say(b"one") + client.say(b"two") + client.end()
    said = b""
    for i in range(0, len(stream), cut):
        assert not engine.ended
        engine.feed(stream[i : i + cut])
        said += engine.receive()
    assert said == b"onetwo"
    assert engine.ended


@pytest.mark.threat("N3")
def test_ciphers_without_forward_secrecy_or_authentication_are_refused() -> None:
    offers = ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA"]
    for offer in offers:
        context = client_context(highest=V12)
        context.set_ciphers(f"{offer}:@SECLEVEL=0")
        with pytest.raises(TLSFailed):
            connected(client=TLSClient(context))


@pytest.mark.threat("N3")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused() -> None:
    old = client_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(TLSFailed):
        connected(client=TLSClient(old))


@pytest.mark.threat("N6")
@pytest.mark.parametrize("offered", [["http/1.1"], ["h2", "http/1.1"], ["imap"]])
def test_a_client_that_came_for_something_else_is_refused(offered) -> None:
    engine, client = Engine(server_context(identity())), TLSClient(client_context(offered))
    with pytest.raises(TLSFailed):
        shake(engine, client)
    client.put(engine.outgoing())
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        client.step()
    again = TLSClient(client_context(["ftp"]))
    other = Engine(server_context(identity()))
    shake(other, again)  # one refusal leaves nothing behind


@pytest.mark.threat("N6")
def test_a_client_that_came_for_ftp_or_says_nothing_is_let_in() -> None:
    _, client = connected(client=TLSClient(client_context(["h2", "ftp"])))
    assert client.tls.selected_alpn_protocol() == "ftp"
    _, client = connected()
    assert client.tls.selected_alpn_protocol() is None


def test_what_is_not_tls_fails_and_says_so() -> None:
    engine = Engine(server_context(identity()))
    with pytest.raises(TLSFailed):
        engine.feed(b"USER alice\r\n")
    assert not engine.established
    engine, client = connected()
    stream = bytearray(client.say(b"x" * 100))
    stream[50] ^= 1
    engine.feed(bytes(stream))
    with pytest.raises(TLSFailed):
        engine.receive()


def test_an_end_is_told_from_a_cut() -> None:
    engine, client = connected()
    engine.feed(client.say(b"last words"))
    assert engine.receive() == b"last words"
    assert not engine.ended
    engine.feed(client.end())
    assert engine.receive() == b""
    assert engine.ended
    assert client.take(engine.close()) == b""
    client.tls.unwrap()


def test_only_tls_1_3_sends_what_nobody_asked_for() -> None:
    for highest in ("1.2", "1.3"):
        engine, client = Engine(server_context(identity(), highest)), TLSClient()
        shake(engine, client)
        assert engine.sends_unasked == (highest == "1.3")


@pytest.mark.threat("N12")
def test_a_session_is_worth_something_at_its_own_listener_alone() -> None:
    ours, other = server_context(identity()), server_context(identity())
    context = client_context(highest=V12)
    first, client = Engine(ours), TLSClient(context)
    shake(first, client)
    session = client.tls.session
    assert session.has_ticket
    for listener, expected in ((ours, True), (other, False)):
        engine, again = Engine(listener), TLSClient(context, session)
        shake(engine, again)
        assert again.tls.session_reused == expected
        assert engine.same_session(first) == expected


@pytest.mark.threat("N7")
def test_only_the_session_itself_counts_as_resumed() -> None:
    listener, context = server_context(identity()), client_context(highest=V12)
    engines, clients = [], []
    for _ in range(2):
        engines.append(Engine(listener))
        clients.append(TLSClient(context))
        shake(engines[-1], clients[-1])
    data, client = Engine(listener), TLSClient(context, clients[1].tls.session)
    shake(data, client)
    assert data.same_session(engines[1])
    assert not data.same_session(engines[0])
    assert not Engine(listener).same_session(Engine(listener))


@pytest.mark.threat("N7")
def test_in_tls_1_3_no_session_counts_as_resumed() -> None:
    listener = server_context(identity(), "1.3")
    engine, client = Engine(listener), TLSClient()
    shake(engine, client)
    client.take(b"")
    again, second = Engine(listener), TLSClient(session=None)
    shake(again, second)
    assert not again.same_session(engine)


def test_what_comes_with_the_end_of_the_handshake_is_kept() -> None:
    engine, client = Engine(server_context(identity(), "1.3")), TLSClient()
    engine.feed(client.step())
    client.put(engine.outgoing())
    flight = client.step()
    engine.feed(flight + client.say(b"now"))
    assert engine.receive() == b"now"


def test_the_repr_of_an_identity_shows_no_key() -> None:
    assert "Key" not in repr(identity()).replace("Certificate", "")
