"""What the log says, and what it never says."""

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher

from tests.fakes.fake_vfs import FakePortal, FakeSession, Gate
from tests.fakes.ftp_wire import Server
from truckee.frontends.gate.record import Record


@pytest.fixture
def log() -> Iterator[list[dict]]:
    events: list[dict] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def kept(*args, **fields) -> Server:
    """Return a server whose journal is written down."""
    paths = fields.pop("log_paths", False)
    return Server(*args, journal=Record(Clock(), log_paths=paths), **fields)


def everything(server: Server) -> None:
    client = server.connect()
    client.ask("USER alice", "PASS wrong-MARK", "USER alice", "PASS secret")
    for command in ("STOR name-MARK", "RETR name-MARK", "RETR absent-MARK", "LIST"):
        data = client.open_data()
        client.ask(command)
        data.feed(b"content-MARK")
        data.lose()
        client.pass_time(0.2, 0.05)
    client.ask("CWD dir-MARK", "MARK x", "QUIT")
    client.pass_time(1)


def texts(log: list[dict]) -> str:
    return "\n".join(eventAsText(event) + repr(event) for event in log)


@pytest.mark.threat("L1")
def test_no_password_no_name_and_no_content_is_logged(log) -> None:
    everything(kept())
    assert len(log) >= 6
    assert "MARK" not in texts(log)
    assert "secret" not in texts(log)


@pytest.mark.threat("L10")
def test_paths_are_logged_when_asked_for_and_shown_safely(log) -> None:
    server = kept(vfs=FakeSession(root={"a\x1b[31m": b""}), log_paths=True)
    everything(server)
    client = server.login()
    client.open_data()
    client.ask("RETR a\x1b[31m")
    client.pass_time(1)
    assert "name-MARK" in texts(log)
    shown = "\n".join(map(eventAsText, log))
    assert "\x1b" not in shown
    assert "\\u{1b}[31m" in shown
    assert "wrong-MARK" not in texts(log)


def test_logins_and_transfers_leave_a_line_each(log) -> None:
    everything(kept())
    shown = [eventAsText(event) for event in log]
    assert any(line.endswith("login of alice from 127.0.0.1 by password: ok") for line in shown)
    (put,) = [line for line in shown if "ftp put of alice" in line]
    assert ": 12 bytes in" in put
    assert put.endswith(", ok")
    failed = [line for line in shown if "ftp get of alice" in line and line.endswith(", failed")]
    assert len(failed) == 1


@pytest.mark.threat("L10")
def test_a_hostile_account_name_is_escaped(log) -> None:
    client = kept(portal=FakePortal(lambda c: None)).connect()
    client.ask("USER a\x1b[2J\u202eb", "PASS x")
    assert "\x1b" not in "\n".join(map(eventAsText, log))


@pytest.mark.threat("L1")
def test_a_bug_shows_a_number_to_the_client_and_a_traceback_to_the_log(log) -> None:
    server = Server()
    client = server.login()
    server.vfs.gates["mkdir"] = Gate(error=RuntimeError("inner-MARK"))
    answer = client.ask("MKD d")
    assert answer.startswith("451 internal error, id ")
    assert "MARK" not in answer
    number = answer.split()[-1]
    broken = [e for e in log if "log_failure" in e]
    assert [str(e["incident"]) for e in broken] == [number]
    assert client.ask("NOOP").startswith("200")
