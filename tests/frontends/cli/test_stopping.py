"""A node that is told to stop, or to shut somebody out, while clients are at work."""

import ftplib
import io
import signal
import time
from contextlib import closing

import pytest

from tests.fakes.running import ANYWHERE, Running, command, login


@pytest.fixture
def started(tmp_path):
    node = tmp_path / "node"
    with Running("start", node, "--servers", "1", *ANYWHERE, "--json") as running:
        running.node = node
        running.ready_fields = running.ready()
        running.password = (node / "private" / "first-password").read_text().strip()
        yield running


def test_a_stalled_upload_does_not_keep_a_node_from_stopping(started):
    with login(started.ready_fields, started.password) as ftp:
        data = ftp.transfercmd("STOR half")
        with closing(data):
            data.sendall(b"x" * 200_000)
            time.sleep(0.5)
            began = time.monotonic()
            started.process.send_signal(signal.SIGTERM)
            assert started.wait(40) == 0
            assert time.monotonic() - began < 40
    log = (started.node / "logs" / "truckee.log").read_text()
    assert "node has stopped" in log
    node = started.node
    with Running("start", node, *ANYWHERE, "--json") as again:
        ready = again.ready()
        with login(ready, started.password) as ftp:
            assert ftp.nlst() == []


def test_a_terminal_that_goes_away_stops_the_node_in_order(started):
    started.process.send_signal(signal.SIGHUP)
    assert started.wait(40) == 0
    assert "node has stopped" in (started.node / "logs" / "truckee.log").read_text()


@pytest.mark.threat("A7")
@pytest.mark.threat("A7")
def test_locking_an_account_ends_its_session_and_refuses_the_next(started):
    with login(started.ready_fields, started.password) as ftp:
        ftp.storbinary("STOR kept", io.BytesIO(b"kept"))
        assert command("account", "lock", "ann", "-d", started.node)[0] == 0
        deadline = time.monotonic() + 15
        with pytest.raises((ftplib.error_temp, EOFError, OSError)):
            while True:
                ftp.voidcmd("NOOP")
                assert time.monotonic() < deadline, "the session goes on"
                time.sleep(0.2)
    with pytest.raises(ftplib.error_perm, match="530"):
        login(started.ready_fields, started.password)
    assert command("account", "unlock", "ann", "-d", started.node)[0] == 0
    with login(started.ready_fields, started.password) as ftp:
        assert ftp.nlst() == ["kept"]
