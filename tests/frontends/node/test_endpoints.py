import pytest

from truckee.core.errors import ConfigError
from truckee.frontends.node import endpoints

GOOD = {
    "8021": "tcp:8021:interface=127.0.0.1",
    "0": "tcp:0:interface=127.0.0.1",
    "127.0.0.1:21": "tcp:21:interface=127.0.0.1",
    "localhost:21": "tcp:21:interface=127.0.0.1",
    "0.0.0.0:21": "tcp:21:interface=0.0.0.0",
    "[::1]:21": "tcp6:21:interface=\\:\\:1",
    "tcp:0:interface=127.0.0.1": "tcp:0:interface=127.0.0.1",
    "tcp:port=21": "tcp:port=21",
    "tcp6:21:interface=\\:\\:1": "tcp6:21:interface=\\:\\:1",
}
LOCAL = {"8021", "0", "127.0.0.1:21", "localhost:21", "[::1]:21"}


@pytest.mark.parametrize("text", GOOD)
def test_endpoints_are_taken_in_short_and_in_full(text):
    assert endpoints.parse(text) == GOOD[text]
    local = text in LOCAL or "127.0.0.1" in text or "\\:\\:1" in text
    assert endpoints.is_loopback(GOOD[text]) == local
    assert bool(endpoints.public([text])) != local


@pytest.mark.parametrize(
    "text",
    ["", "x", "70000", "tcp:70000", "host:21", "unix:/tmp/x", "ssl:443", "exec:ls", "tcp:a"]
    + ["tcp:21:plugin=x", "tcp:21 ", "\u0661\u0662", "1_0", "systemd:domain=INET:index=0"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError) as caught:
        endpoints.parse(text)
    assert str(caught.value).startswith((repr(text), "'tcp:70000:"))
