"""What a running node tells of itself: figures over HTTP and the control socket, and its log."""

import contextlib
import ftplib
import io
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from tests.fakes.openmetrics import parse, value
from tests.system.node import TRUCKEE, Node
from tests.system.test_nothing_shows import spellings
from truckee.frontends.node import control

NAME = "Qx9Heron"
MARK = b"Zq7Marmot"
WRONG = "Vv5wrongpassword"


def status(node):
    return control.ask(node.folder / "private", {"do": "status"}, 20)


def address(node):
    found = status(node)["metrics"]
    return f"http://{found['host']}:{found['port']}"


def fetch(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def scrape(node):
    return parse(fetch(address(node) + "/metrics"))


def fails(ftp, *words):
    with pytest.raises(ftplib.Error):
        ftp.sendcmd(*words)


def configure(folder, line):
    config = folder / "truckee.cfg"
    text = config.read_text()
    config.write_text(text.replace("[grid]", f"[node]\n{line}\n\n[grid]", 1))


def wrong_login(node):
    with closing(ftplib.FTP(timeout=30)) as ftp:
        ftp.connect("127.0.0.1", node.port)
        with pytest.raises(ftplib.Error):
            ftp.login(node.account, WRONG)


@pytest.mark.threat("L1")
def test_figures_follow_what_happens_and_hold_no_mark(tmp_path):
    with Node(tmp_path / "node", ("--servers", "3")) as node:
        before = scrape(node)
        for door in ("ftp", "sftp"):
            assert value(before, "truckee_sessions", door=door) == 0
        data = MARK * 20_000
        node.put(f"{NAME}.bin", data)
        assert node.get(f"{NAME}.bin") == data
        with closing(node.ftp()) as ftp:
            ftp.mkd(f"{NAME} folder")
            ftp.nlst()
            fails(ftp, f"RETR {NAME} absent")
            busy = scrape(node)
        wrong_login(node)
        node.wait_for(lambda: value(scrape(node), "truckee_sessions", door="ftp") == 0)
        after = scrape(node)
        text = fetch(address(node) + "/metrics") + json.dumps(status(node))
        secrets = [MARK, NAME.encode(), WRONG.encode(), node.password.encode()]
        secrets += [node.account.encode() + b'"', node.rootcap.split(":")[2].encode()]
        for secret in secrets:
            for spelling in spellings(secret):
                assert spelling not in text.encode(), spelling
        log = (node.folder / "logs" / "truckee.log").read_text()

    def transfers(verb, ending):
        return value(after, "truckee_transfers", door="ftp", verb=verb, ending=ending)

    def logins(outcome):
        labels = {"door": "ftp", "method": "password", "outcome": outcome}
        return value(after, "truckee_logins", **labels)

    assert value(busy, "truckee_sessions", door="ftp") == 1
    assert value(busy, "truckee_strangers", door="ftp") == 0
    assert transfers("put", "ok") == 1
    assert transfers("get", "ok") == 1
    assert transfers("get", "failed") + transfers("get", "aborted") <= 1
    assert transfers("list", "ok") == 1
    assert (logins("ok"), logins("denied")) == (3, 1)
    assert value(after, "truckee_received_bytes", door="ftp") == len(data)
    assert value(after, "truckee_sent_bytes", door="ftp") >= len(data)
    assert value(after, "truckee_connections", door="ftp") == 4
    assert value(after, "truckee_stores_present") == 3
    assert value(after, "truckee_accounts") == 1
    assert value(after, "truckee_spool_bytes") == 0
    assert 0 < value(after, "truckee_uptime_seconds") < 600
    assert 1e7 < value(after, "truckee_resident_memory_bytes") < 1e9
    assert set(before) == set(after)
    for name, family in after.items():  # counters never go down
        if family.kind == "counter":
            assert all(family.samples[k] >= v for k, v in before[name].samples.items()), name
    assert re.search(r"ftp put of ann from 127\.0\.0\.1: 180000 bytes in [\d.]+ s, ok", log)
    assert "ftp login of ann from 127.0.0.1 by password: denied" in log
    assert NAME not in log


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of a node with its first account, not running."""
    folder = tmp_path_factory.mktemp("metrics") / "node"
    subprocess.run([TRUCKEE, "create", folder, "--json"], check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(made):
    """Return it with the configuration it was made with."""
    config = made / "truckee.cfg"
    before = config.read_text()
    yield made
    config.write_text(before)


@pytest.mark.threat("W11", "D1", "D2")
def test_there_is_nothing_else_on_that_port_and_nobody_can_hold_it(folder):
    with Node(folder, ()) as node:
        base = address(node)
        assert base.startswith("http://127.0.0.1:")
        for path, host, code in (
            ("/", "localhost", 404),
            ("/uri", "localhost", 404),
            ("/metrics", "evil.example", 421),
        ):
            with pytest.raises(urllib.error.HTTPError) as found:
                fetch(base + path, Host=host)
            assert found.value.code == code
            found.value.close()
        place = ("127.0.0.1", status(node)["metrics"]["port"])
        held = [socket.create_connection(place, 10) for _ in range(40)]
        try:
            began = time.monotonic()
            node.put("file", b"x" * 1000)
            assert time.monotonic() - began < 10
            assert status(node)["figures"]["open_files"] < 80
        finally:
            for s in held:
                s.close()
        node.wait_for(lambda: "# EOF" in fetch(base + "/metrics"))


def test_a_taken_usual_port_is_exchanged_for_the_next_and_that_is_said(folder):
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # then it is taken already
            stack.enter_context(socket.create_server(("127.0.0.1", 8023)))
        with Node(folder, ()) as node:
            port = status(node)["metrics"]["port"]
    assert port != 8023
    assert f"using {port} this time" in (folder.parent / "stderr.log").read_text()


def test_paths_are_in_the_log_when_they_are_asked_for(folder):
    config = folder / "truckee.cfg"
    config.write_text(config.read_text().replace("[ftpd]\n", "[ftpd]\nlog_paths = yes\n"))
    configure(folder, "metrics.port =")
    with Node(folder, ()) as node:
        with closing(node.ftp()) as ftp:
            ftp.storbinary(f"STOR {NAME}.bin", io.BytesIO(b"x"))
        assert status(node)["metrics"] is None
    assert f"/{NAME}.bin" in (folder / "logs" / "truckee.log").read_text()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("metrics.port = tcp:0", "public"),
        ("metrics.port = tcp:0:interface=0.0.0.0", "public"),
        ("metrics.port = nonsense", "endpoint"),
        ("metrics.port = tcp:{taken}:interface=127.0.0.1", "in use"),
    ],
)
def test_a_port_that_cannot_or_should_not_be_is_an_error_at_the_start(folder, line, why):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        configure(folder, line.format(taken=other.getsockname()[1]))
        done = subprocess.run(
            [TRUCKEE, "run", folder, "--ftp", "0", "--sftp", "0"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_public_port_can_be_meant(folder):
    configure(folder, "metrics.port = tcp:0\nmetrics.public = yes")
    with Node(folder, ()) as node:
        url = f"http://127.0.0.1:{status(node)['metrics']['port']}/metrics"
        assert "truckee_sessions" in parse(fetch(url, Host="node.example"))
