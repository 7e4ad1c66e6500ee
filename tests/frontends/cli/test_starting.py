"""``truckee start``, ``run`` and ``create`` as processes, with real signals and ports."""

import ftplib
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.node_folder import make_node
from tests.fakes.running import ANYWHERE, ENVIRONMENT, LOCAL, TRUCKEE, Running, command, login
from truckee.frontends.cli.main import run


def modes(folder):
    for path in folder.rglob("*"):
        if not path.is_symlink():
            yield path, path.lstat().st_mode & 0o777


@pytest.mark.threat("L2")
def test_from_nothing_a_node_starts_stops_and_starts_again(tmp_path):
    node = tmp_path / "node"
    with Running("start", node, "--servers", "3", *ANYWHERE, "--json") as first:
        ready = first.ready()
        assert ready == {
            "v": 1,
            "ready": True,
            "ftp": {"host": "127.0.0.1", "port": ready["ftp"]["port"]},
            "sftp": {"host": "127.0.0.1", "port": ready["sftp"]["port"]},
            "account": "ann",
            "directory": str(node),
        }
        password = (node / "private" / "first-password").read_text().strip()
        assert re.fullmatch(r"([a-z]+-){4}\d\d", password)
        with login(ready, password) as ftp:
            ftp.storbinary("STOR hello", io.BytesIO(b"hello" * 1000))

        # one node, one process
        code, out, err = command("start", node, *ANYWHERE)
        assert (code, out) == (4, "")
        assert "running already" in err

        # nobody else reads anything of it
        for path, mode in modes(node):
            assert not mode & 0o077, path
        cmdline = Path(f"/proc/{first.process.pid}/cmdline").read_bytes()
        assert password.encode() not in cmdline
        assert b"URI:" not in cmdline

        # a running node can be asked who is shut out (nobody: this machine never is)
        assert command("account", "bans", "-d", node) == (0, "", "")
        cleared = command("account", "bans", "-d", node, "--clear", "192.0.2.1")
        assert cleared == (0, "192.0.2.1 was not shut out\n", "")

        # a running node makes the directory of a new account
        code, _, err = command("account", "add", "bob", "-d", node, "--generate")
        assert code == 0, err
        bobs = (node / "private" / "password-bob").read_text().strip()
        with login({**ready, "account": "bob"}, bobs) as ftp:
            assert ftp.nlst() == []
        began = time.monotonic()
        assert first.stop() == 0
        assert time.monotonic() - began < 40
        assert first.rest == ""

    with Running("start", node, "--servers", "3", *ANYWHERE, "--json") as second:
        ready = second.ready()
        taken = bytearray()
        with login(ready, password) as ftp:
            ftp.retrbinary("RETR hello", taken.extend)
        assert taken == b"hello" * 1000
        assert second.stop() == 0
    for path in [node / "logs" / "truckee.log", tmp_path / "errors"]:
        text = path.read_text()
        assert password not in text
        assert "URI:" not in text
    for options in (["--servers", "4"], ["--needed", "2"], ["--private-dir", tmp_path / "x"]):
        assert command("start", node, *options)[0] == 2


def test_a_public_service_runs_without_any_standard_descriptor(tmp_path):
    node = tmp_path / "node"
    code, out, err = command("create", node, "--servers", "1", "--json")
    assert code == 0, err
    assert json.loads(out) == {"v": 1, "created": True, "account": "ann", "directory": str(node)}
    assert command("create", node)[0] == 4
    script = f'exec "{TRUCKEE}" run "{node}" --ftp {LOCAL} <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", script], env=ENVIRONMENT)
    try:
        log = node / "logs" / "truckee.log"
        deadline = time.monotonic() + 60
        while "node is up" not in (log.read_text() if log.exists() else ""):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        assert (node / "running.process").read_text().split()[0] == str(process.pid)
        process.terminate()
        assert process.wait(40) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_keys_and_capabilities_may_be_kept_elsewhere(tmp_path):
    node, keys = tmp_path / "node", tmp_path / "keys"
    options = ["--servers", "1", "--private-dir", keys, *ANYWHERE, "--json"]
    for _ in range(2):
        with Running("start", node, *options) as running:
            ready = running.ready()
            with login(ready, (keys / "first-password").read_text().strip()) as ftp:
                assert ftp.nlst() == []
            assert running.stop() == 0
    assert not (node / "private").exists()
    assert {p.name for p in keys.iterdir()} >= {"accounts", "secret", "convergence"}


@pytest.mark.threat("O3")
@pytest.mark.threat("O3")
def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path):
    node = make_node(tmp_path / "node")
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        code, out, err = command("start", node, "--ftp", port)
        assert (code, out) == (1, "")
        assert f"{port}" in err
        assert "in use" in err
        with (node / "truckee.cfg").open("a") as cfg:
            cfg.write(f"port = tcp:{port}:interface=127.0.0.1\n")
        assert command("run", node)[0] == 1


@pytest.mark.threat("O3")
@pytest.mark.parametrize(("door", "usual"), [("ftp", 8021), ("sftp", 8022)])
def test_the_usual_port_taken_means_the_next_and_a_loud_word(tmp_path, door, usual):
    node = make_node(tmp_path / "node")
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            squatter.bind(("127.0.0.1", usual))
            squatter.listen()
        except OSError:
            pass  # somebody else has it: just as good
        with Running("start", node, "--json") as running:
            port = running.ready()[door]["port"]
            assert port != usual
            assert running.stop() == 0
    text = (tmp_path / "errors").read_text()
    assert f"the usual {door.upper()} port is taken" in text
    assert str(port) in text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["start", "--servers", "0"], 2),
        (["start", "--servers", "3", "--needed", "4"], 2),
        (["start", "--servers", "2", "--disk", "/tmp"], 2),
        (["start", "--disk", "/absent/disk"], 1),
        (["start", "--ftp", "nonsense"], 2),
        (["start", "--ftp", "unix:/tmp/x"], 2),
        (["start", "--bogus"], 2),
        (["run"], 3),
    ],
)
def test_what_cannot_be_started_has_its_exit_code(tmp_path, capsys, monkeypatch, words, code):
    monkeypatch.setattr(
        "truckee.frontends.node.process.harden", lambda: None
    )  # this is our process
    first, *options = words
    found = run([first, str(tmp_path / "node"), *options])
    out, err = capsys.readouterr()
    assert (found, out) == (code, ""), err
    assert "Traceback" not in err
    assert err
    assert not (tmp_path / "node" / "truckee.cfg").exists()


SPOILT = {
    "private": lambda n: (n / "private").chmod(0o755),
    "secret": lambda n: (n / "private" / "secret").chmod(0o644),
    "folder": lambda n: n.chmod(0o777),
    "configuration": lambda n: (n / "truckee.cfg").write_text("[bogus]\nx = 1\n"),
}
SPOILT_INSIDE = {
    "accounts": lambda n: (n / "private" / "accounts").chmod(0o640),
    "no secret": lambda n: (n / "private" / "secret").unlink(),
    "no accounts": lambda n: (n / "private" / "accounts").write_text("# nobody\n"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_node_that_is_not_in_order_is_not_opened(tmp_path, capsys, monkeypatch, spoil):
    monkeypatch.setattr("truckee.frontends.node.process.harden", lambda: None)
    node = make_node(tmp_path / "node")
    spoil(node)
    assert run(["run", str(node)]) == 1
    assert "cannot run the node" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", SPOILT_INSIDE.values(), ids=SPOILT_INSIDE)
def test_a_node_whose_private_files_are_not_in_order_does_not_start(tmp_path, spoil):
    node = make_node(tmp_path / "node")
    spoil(node)
    code, out, err = command("run", node, *ANYWHERE)
    assert (code, out) == (1, ""), err
    assert "cannot start the node" in err


def test_a_host_key_open_to_others_says_what_helps(tmp_path):
    key = make_node(tmp_path / "node") / "private" / "ssh_host_rsa_key"
    key.touch()
    key.chmod(0o644)
    code, _, err = command("run", tmp_path / "node", *ANYWHERE)
    assert (code, "try: chmod go-rwx on it" in err) == (1, True), err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--servers", "2", "--needed", "3"], "--needed and --total must be"),
        (["--disk", "/absent/disk"], "the folder /absent/disk is not there"),
        (["--disk", "/proc"], "No such file or directory: /proc/truckee-store"),
    ],
)
def test_a_node_that_cannot_be_made_says_what_is_wrong(tmp_path, options, why):
    _, out, err = command("create", tmp_path / "node", *options)
    assert out == ""
    assert f"cannot make the node in {tmp_path / 'node'}\n  {why}" in err
    assert "try:" not in err


def test_on_a_terminal_the_password_is_shown_once(tmp_path):
    node = tmp_path / "node"
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [TRUCKEE, "start", node, *ANYWHERE],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    os.close(terminal)
    shown = b""
    try:
        while b"Ctrl-C" not in shown:
            waited, _, _ = select.select([main], [], [], 60)
            assert waited, shown
            shown += os.read(main, 4096)
        text = shown.decode()
        password = re.search(r"password  (\S+)", text)
        assert password
        port = re.search(r"ftp://ann@127\.0\.0\.1:(\d+)/", text)
        assert port
        assert "1-of-1 coding  ! one disk" in text
        assert f"change: truckee -d {node} account passwd)" in text
        assert not (node / "private" / "first-password").exists()
        ready = {"ftp": {"host": "127.0.0.1", "port": int(port[1])}, "account": "ann"}
        with login(ready, password[1]) as ftp:
            assert ftp.nlst() == []
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(main)


@pytest.mark.parametrize("later", ["ssh_host_ed25519_key", "ftp_certificate.pem"])
def test_a_lost_account_file_is_not_made_anew_with_an_empty_directory(tmp_path, later):
    node = make_node(tmp_path / "node", accounts=None)
    (node / "private" / later).touch(mode=0o600)
    code, out, err = command("start", node, *ANYWHERE)
    assert (code, out) == (1, ""), err
    assert f"{node / 'private' / 'accounts'} is missing: put it back" in err
    assert not (node / "private" / "accounts").exists()
    assert not (node / "private" / "first-password").exists()


@pytest.mark.threat("D6")
@pytest.mark.parametrize("after", [0.4, 0.9])
def test_a_start_killed_early_is_finished_by_the_next(tmp_path, after):
    node = tmp_path / "node"
    with Running("start", node, "--servers", "3", *ANYWHERE, "--json") as running:
        time.sleep(after)
        running.process.kill()
    with Running("start", node, "--servers", "3", *ANYWHERE, "--json") as running:
        ready = running.ready()
        with login(ready, (node / "private" / "first-password").read_text().strip()) as ftp:
            assert ftp.nlst() == []


def test_a_new_account_on_a_node_at_rest_gets_its_directory(tmp_path):
    node = tmp_path / "node"
    assert command("create", node, "--servers", "2")[0] == 0
    code, out, err = command("account", "add", "bob", "-d", node, "--generate", "--read-only")
    assert code == 0, err
    assert "URI:" not in out + err
    assert len(re.findall(r"URI:DIR2:\S+", (node / "private" / "accounts").read_text())) == 2


def test_anybody_may_read_the_directory_that_is_given_for_it(tmp_path):
    node = tmp_path / "node"
    with Running("start", node, *ANYWHERE, "--json") as running:
        ready = running.ready()
        with login(ready, (node / "private" / "first-password").read_text().strip()) as ftp:
            ftp.storbinary("STOR shown", io.BytesIO(b"to everybody"))
        assert running.stop() == 0
    root = re.search(r"URI:DIR2:\S+", (node / "private" / "accounts").read_text())
    assert root
    with (node / "truckee.cfg").open("a") as cfg:
        cfg.write(f"anonymous.rootcap = {root.group()}\n")
    with Running("run", node, *ANYWHERE, "--json") as running:
        ready = {**running.ready(), "account": "anonymous"}
        with login(ready, "me@example.org") as ftp:
            assert ftp.nlst() == ["shown"]
            with pytest.raises(ftplib.error_perm, match="550"):
                ftp.storbinary("STOR mine", io.BytesIO(b"x"))
            with pytest.raises(ftplib.error_perm, match="550"):
                ftp.delete("shown")
        assert running.stop() == 0


def test_a_start_that_is_told_to_stop_stops(tmp_path):
    with Running("start", tmp_path / "node", *ANYWHERE, "--json") as running:
        while not catches(running.process.pid, signal.SIGTERM):
            assert running.process.poll() is None
            time.sleep(0.01)
        assert running.stop() == 0


def catches(pid, number):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(mask >> (number - 1) & 1)
