"""Any bytes in any state of an SSH connection: answered or the end, never an unexpected error."""

from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import LogLevel, globalLogPublisher

from tests.fakes.account_lines import string
from tests.fakes.ssh_wire import Client

WORDS = st.sampled_from(
    [b"", b"session", b"subsystem", b"sftp", b"exec", b"alice", b"ssh-connection", b"publickey"]
    + [b"password", b"none", b"ssh-userauth", b"ssh-ed25519", b"rsa-sha2-256", b"\xff" * 9]
)
PARTS = st.one_of(
    WORDS.map(string),
    st.binary(max_size=40),
    st.sampled_from([0, 1, 7, 32768, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF]).map(lambda n: n.to_bytes(4)),
    st.sampled_from([b"\0", b"\1"]),
)
PAYLOADS = st.lists(PARTS, max_size=8).map(b"".join)
NUMBERS = st.one_of(
    st.sampled_from([1, 2, 3, 4, 5, 7, 20, 21, 30, 50, 80, *range(90, 101)]), st.integers(0, 255)
)
STATES = {
    "greeted": lambda client: client.greet(),
    "secured": lambda client: client.secured(),
    "logging in": lambda client: client.logging_in(),
    "working": lambda client: client.working(),
    "with a channel": lambda client: client.working().sftp(),
}


@contextmanager
def no_surprise():
    """Fail when something unexpected went to the log."""
    events = []

    def observe(event) -> None:
        if event.get("log_level") in {LogLevel.error, LogLevel.critical}:
            events.append(event.get("log_failure") or event.get("log_format"))

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not events, events


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.tuples(NUMBERS, PAYLOADS), min_size=1, max_size=6))
@pytest.mark.parametrize("state", STATES)
def test_messages_of_any_kind_and_content(state, messages):
    client = Client()
    STATES[state](client)
    with no_surprise():
        for number, payload in messages:
            client.send(number, payload)
        client.collect()
        client.server.clock.advance(700)
        client.server.lose()
    assert client.server.registry.sessions == 0
    assert client.server.realm.logouts in {0, 1}
    assert not client.server.clock.getDelayedCalls()


@given(data=st.binary(max_size=300), cut=st.integers(1, 50), greet=st.booleans())
def test_raw_bytes_before_the_keys_in_pieces_of_any_size(data, cut, greet):
    client = Client()
    with no_surprise():
        if greet:
            client.greet()
        for i in range(0, len(data), cut):
            client.raw(data[i : i + cut])
        client.server.clock.advance(20)
        assert client.server.session.ended
        client.server.lose()


@given(data=st.data())
@pytest.mark.parametrize("what", ["offer", "login"])
def test_a_good_message_with_some_bytes_changed(what, data):
    client = Client()
    if what == "offer":
        client.greet()
        number, good = 20, client.offer()
    else:
        client.logging_in()
        number, good = 50, client.key_request()
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with no_surprise():
        client.send(number, bytes(changed[: data.draw(st.integers(0, len(good)))]))
        assert client.server.session.account is None
        client.server.lose()
