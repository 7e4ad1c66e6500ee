"""Configuration that would open more than its reader sees, or end the start with a traceback."""

from pathlib import Path

import pytest

from truckee.core import config, grid, ini
from truckee.core.errors import ConfigError
from truckee.frontends.node import endpoints


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8021:interface=127.0.0.1:interface=0.0.0.0",  # Twisted takes the last
        "tcp:8021:interface=127.0.0.1:backlog=many",
        "tcp:99999",
        "unix:/tmp/x",
        "ssl:8021",
        "systemd:domain=INET:index=0",
    ],
)
def test_an_endpoint_says_one_thing(text):
    with pytest.raises(ConfigError):
        endpoints.parse(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("tcp:8021:backlog=5:interface=127.0.0.1", True),
        ("tcp6:8021:interface=\\:\\:1:backlog=5", True),
        ("tcp:8021:interface=", False),
        ("tcp:8021", False),
        ("0.0.0.0:8021", False),
    ],
)
def test_what_is_not_loopback_is_known_to_be_public(text, local):
    assert endpoints.is_loopback(endpoints.parse(text)) is local


@pytest.mark.threat("D6")
def test_a_nul_is_an_error_with_its_line_and_not_a_traceback():
    with pytest.raises(ConfigError, match="line 2"):
        ini.parse("[embedded]\nstores = a\0b\n", "truckee.cfg")
    with pytest.raises(ConfigError):
        config.parse("[embedded]\nstores = a\0b\n", Path("/nowhere"))


@pytest.mark.threat("D6")
@pytest.mark.parametrize("tail", [b"a\0b", b"", b"\xff"])
def test_a_damaged_line_of_known_stores_is_told(tail):
    with pytest.raises(ConfigError):
        grid.parse_known(b"a" * 32 + b" " + tail, Path("/nowhere"))


def test_a_store_may_lie_in_a_folder_with_any_letter(tmp_path):
    paths = [tmp_path / "a\u2028b", tmp_path / "c\x85d"]
    grid.make_stores(tmp_path, paths)
    assert set(grid.read_known(tmp_path)) == set(paths)
