"""A node lives a bad day; whatever it wrote and said is searched for every secret that it had.

The day: logins with wrong passwords, capabilities where names should be, damaged accounts, vanished
stores, commands that fail, a kill. Secrets are looked for as text, %-encoded, in JSON, in base64
and in hex, anywhere outside ``private/``: logs, standard error, replies, output of commands.
"""

import base64
import contextlib
import ftplib
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.system.node import Node
from truckee.core.errors import TruckeeError
from truckee.core.formats.caps import DirectoryCap, parse_strict

RUN = os.urandom(6).hex()  # so that nothing of another run is found
CONTENTS = f"Wq3Ferret{RUN}".encode()
NAME = f"Vx8Plover{RUN}"
PASSWORD = f"Zz5-ochre-lynx-tundra-moth-{RUN}"
WRONG = f"Yy6-wrong-dove-saffron-elk-{RUN}"
ARGUMENT = f"Uu4Badger{RUN}"  # given to commands that fail


def spellings(secret: bytes) -> set[bytes]:
    text = secret.decode()
    return {
        secret,
        urllib.parse.quote(text, safe="").encode(),
        json.dumps(text)[1:-1].encode(),
        base64.b64encode(secret).rstrip(b"=")[:-2],
        secret.hex().encode(),
    }


def parts_of(cap: str) -> list[bytes]:
    """Return what of a capability gives power, and of those it weakens to."""
    found = parse_strict(cap)
    inner = found.inner if isinstance(found, DirectoryCap) else found
    texts = [cap, inner.read_cap().text]
    return [word.encode() for text in texts for word in text.split(":")[2:3]]


COMMANDS = """
import io, json, sys
from truckee.frontends.cli.main import run
for words, text in json.load(sys.stdin):
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    print("exit code", run(["-d", sys.argv[1], *words]), words[:2], flush=True)
"""


class Day:
    """Everything that was said, by whom."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.said: list[tuple[str, bytes]] = []

    def commands(self, *commands: tuple[list[str], str]) -> None:
        """Run the command line with each of these words and standard inputs."""
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, str(self.node.folder)],
            input=json.dumps(commands).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.count(b"exit code") == len(commands), done.stderr
        self.said.append(("truckee", done.stdout + done.stderr))

    def log(self) -> str:
        return b"".join(p.read_bytes() for p in (self.node.folder / "logs").iterdir()).decode()

    def talk(self, *lines: bytes) -> bytes:
        """Send lines as a client would that knows no manners; return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.node.port), timeout=20) as s:
            s.sendall(b"".join(line + b"\r\n" for line in (*lines, b"QUIT")))
            heard = b""
            while piece := s.recv(65536):
                heard += piece
        self.said.append(("ftp", heard))
        return heard


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    folder = tmp_path_factory.mktemp("day")
    with Node(folder / "node", ("--servers", "3")) as node:
        day = Day(node)
        bad_day(day, folder)
        day.secrets = secrets_of(day)
        yield day


def bad_day(day: Day, folder: Path) -> None:
    node = day.node
    root = node.rootcap
    login = (f"USER {node.account}".encode(), f"PASS {node.password}".encode())
    day.file_cap = "URI:CHK:" + root.split(":")[2] + ":" + root.split(":")[3] + ":1:3:1000"
    with contextlib.closing(node.ftp()) as ftp:
        ftp.mkd(NAME)
        ftp.storbinary(f"STOR {NAME}/{NAME}.txt", io.BytesIO(CONTENTS * 20_000))
        ftp.storbinary(f"STOR {NAME}/small", io.BytesIO(CONTENTS))
    day.commands((["account", "add", "eve", "--password-stdin"], PASSWORD + "\n"))
    strangers(day, root)
    day.talk(*login, *capabilities_as_names(root, day.file_cap))
    day.talk(*login, b"X" * 5000 + root.encode(), b"SITE " + root.encode())
    commands(day, root, folder)
    stores_vanish(day)
    accounts_damaged(day, root)
    os.kill(node.process.pid, signal.SIGKILL)
    node._reap()
    node.start()


def strangers(day: Day, root: str) -> None:
    name = day.node.account.encode()
    day.talk(b"USER " + name, f"PASS {WRONG}".encode(), b"PASS " + root.encode())
    day.talk(f"PASS {WRONG}".encode(), b"USER eve", f"ACCT {WRONG}".encode(), b"USER \xff\xfe")


def capabilities_as_names(*texts: str) -> list[bytes]:
    words = [
        "CWD",
        "RETR",
        "STOR",
        "DELE",
        "MKD /uri/",
        "RNFR",
        "SIZE",
        "MLST",
        "STAT",
        "XYZ",
        "HELP",
    ]
    return [f"{word} {text}".encode() for word in words for text in texts]


def commands(day: Day, root: str, folder: Path) -> None:
    """Commands that fail with a secret in hand."""
    good, bad, pem = folder / "cap", folder / "bad", folder / "key.pem"
    good.write_text(root)
    bad.write_text(root + ARGUMENT)
    pem.write_text(f"-----BEGIN RSA PRIVATE KEY-----\n{ARGUMENT}\n-----END RSA PRIVATE KEY-----\n")
    share = next(p for p in (day.node.server(0) / "shares").rglob("*") if p.is_file())
    failing = [
        (["debug", "dump-cap", f"@{good}"], ""),
        (["debug", "dump-cap", f"@{bad}"], ""),
        (["account", "add", "new", "--root", f"@{bad}", "--generate"], ""),
        (["account", "add", "eve", "--password-stdin"], PASSWORD),
        (["account", "passwd", "nobody", "--password-stdin"], PASSWORD),
    ]
    day.commands(
        *failing,
        *((["--debug", *words], text) for words, text in failing),
        (["account", "add", "new", "--root", "-"], root + ARGUMENT),
        (["account", "list", "--json"], ""),
        (["account", "show", "eve"], ""),
        (["debug", "cap", "--private-key", str(pem), "--format", "sdmf"], ""),
        (["debug", "cap", str(good), "--convergence", f"@{bad}"], ""),
        (["start", str(day.node.folder)], ""),
        (["debug", "dump-share", str(share)], ""),
    )


def stores_vanish(day: Day) -> None:
    login = (f"USER {day.node.account}".encode(), f"PASS {day.node.password}".encode())
    away = day.node.folder / "away"
    shutil.move(day.node.folder / "servers", away)
    try:
        day.talk(*login, b"CWD " + NAME.encode(), b"EPSV", b"LIST", b"MKD new")
        with contextlib.closing(day.node.ftp()) as ftp:
            for command in (f"RETR {NAME}/{NAME}.txt", "STOR other"):
                try:
                    ftp.voidcmd("TYPE I")
                    ftp.storbinary(command, io.BytesIO(CONTENTS * 1000)) if "STOR" in command else (
                        ftp.retrbinary(command, lambda data: None)
                    )
                except ftplib.all_errors as error:
                    day.said.append(("ftp", str(error).encode()))
    finally:
        shutil.move(away, day.node.folder / "servers")


def accounts_damaged(day: Day, root: str) -> None:
    """Lines with slips in them, which the node reads again at the next login."""
    path = day.node.folder / "private" / "accounts"
    whole = path.read_text()
    hashed = next(word for word in whole.split() if word.startswith("$2"))
    slips = [
        f"mallory {hashed} {root}{ARGUMENT}",
        f"mallory2{hashed} {root}",
        f"mallory3 {hashed}{root}",
        f"{root} {hashed} mallory4",
        f"{hashed} mallory5 {root}",
        f"mallory6 {WRONG} {root} {hashed}",
        f"mallory7 ssh-rsa {ARGUMENT} {root}",
        f'"mallory8 {hashed} {root}',
        f"mallory9 {hashed}\t{root} expires={root}",
    ]
    path.write_text(whole + "\n".join(slips) + "\n")
    path.chmod(0o600)
    day.commands((["account", "check"], ""), (["account", "list"], ""))
    day.talk(b"USER eve", f"PASS {PASSWORD}".encode(), b"PWD")
    time.sleep(1.1)  # between two looks at the file lies a second
    day.talk(b"USER eve", f"PASS {PASSWORD}".encode(), b"PWD")
    day.node.wait_for(lambda: "accounts:6" in day.log())
    path.write_bytes(whole.encode() + b"\xff")
    day.commands((["account", "check"], ""))
    day.talk(b"USER eve", f"PASS {PASSWORD}".encode(), b"PWD")
    path.write_text(whole)


def secrets_of(day: Day) -> dict[str, bytes]:
    private = day.node.folder / "private"
    accounts = (private / "accounts").read_text().split()
    found = {
        "contents": CONTENTS,
        "first password": day.node.password.encode(),
        "password": PASSWORD.encode(),
        "wrong password": WRONG.encode(),
        "argument": ARGUMENT.encode(),
        "lease secret": (private / "secret").read_bytes().strip(),
        "convergence": (private / "convergence").read_bytes().strip(),
    }
    for i, word in enumerate(accounts):
        if word.startswith("$2"):
            found[f"hash {i}"] = word.encode()
        if word.startswith("URI:"):
            for j, part in enumerate(parts_of(word)):
                found[f"cap {i} {j}"] = part
    return found


@pytest.mark.threat("L1")
def test_nothing_that_was_said_or_written_shows_a_secret(day):
    written = [
        (str(path.relative_to(day.node.folder)), path.read_bytes())
        for path in day.node.folder.rglob("*")
        if path.is_file() and "private" not in path.relative_to(day.node.folder).parts
    ]
    written.append(("stderr", (day.node.folder.parent / "stderr.log").read_bytes()))
    assert len(day.secrets) >= 12
    assert sum(name.startswith("logs/") for name, _ in written) >= 1
    found = []
    for where, raw in [*written, *day.said]:
        for what, secret in day.secrets.items():
            found += [(what, where, raw[:300]) for s in spellings(secret) if s in raw]
    assert found == []


@pytest.mark.threat("L1")
def test_the_log_of_a_bad_day_says_what_went_wrong_without_names(day):
    log = day.log()
    assert "failed" in log
    assert "accounts:" in log
    assert NAME not in log
    assert "Traceback" not in log


@pytest.mark.threat("L5")
def test_a_running_node_can_neither_be_dumped_nor_leave_a_core(day):
    pid = day.node.process.pid
    limits = Path(f"/proc/{pid}/limits").read_text()
    (line,) = (line for line in limits.split("\n") if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    # what is not dumpable belongs to root, so that its own user cannot look into it
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0


@pytest.mark.threat("L2")
def test_a_node_starts_no_process_and_shows_nothing_in_its_own(day):
    pid = day.node.process.pid
    children = [
        Path(f"/proc/{pid}/task/{task.name}/children").read_text()
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    assert "".join(children).strip() == ""
    for kind in ("cmdline", "environ", "comm"):
        raw = Path(f"/proc/{pid}/{kind}").read_bytes()
        for what, secret in day.secrets.items():
            assert secret not in raw, (what, kind)


@pytest.mark.threat("O2", "L6")
def test_a_node_leaves_nothing_in_shared_folders(day):
    marks = [secret for what, secret in day.secrets.items() if what != "argument"]
    for folder in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):
        for path in folder.iterdir() if folder.exists() else ():
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24:
                with contextlib.suppress(OSError):
                    raw = path.read_bytes()
                    assert not [m for m in marks if m in raw], path


@pytest.mark.threat("L1")
def test_no_error_of_a_failing_grid_names_what_it_was_about(monkeypatch):
    """Every error that any room makes while calls fail one after the other is looked at."""
    from tests.fakes.memory_grid import MemoryGrid
    from truckee.core.interfaces import Encoding
    from truckee.core.upload.sources import BytesSource

    made: list[str] = []
    monkeypatch.setattr(
        TruckeeError, "__init__", lambda self, *args: made.append(repr(args)), raising=False
    )
    grid = MemoryGrid(servers=3)
    client = grid.client(encoding=Encoding(2, 2, 3))
    root = grid.run(client.create_new_mutable_directory())
    cap = grid.run(client.upload(BytesSource(CONTENTS * 5000)))
    grid.run(root.set_uri(NAME, None, cap.text.encode()))
    secrets = {NAME, cap.text, root.get_uri().decode(), cap.storage_index.hex()}
    secrets |= {part.decode() for part in parts_of(root.get_uri().decode())}
    secrets |= set(cap.text.split(":")[2:4])

    def work():
        fresh = grid.client(encoding=Encoding(2, 2, 3))
        again = fresh.create_node_from_uri(root.get_uri())
        yield again.list()
        yield again.get("absent" + NAME)
        yield again.set_uri(NAME, None, b"URI:DIR2:" + NAME.encode())
        yield again.set_uri("../" + NAME, b"URI:SSK:x", cap.text.encode())
        yield again.delete("absent" + NAME)
        yield again.move_child_to(NAME, again, "x")
        yield fresh.create_node_from_uri(cap.text.encode()).download_best_version()
        yield fresh.upload(BytesSource(CONTENTS * 6000))
        yield fresh.create_node_from_uri(root.get_readonly_uri()).delete(NAME)

    for store_count in (3, 1, 0):
        for broken in (False, True):
            servers, grid.servers[:] = grid.servers[:], grid.servers[:store_count]
            if broken:
                for server in grid.servers:
                    damage(server.store if hasattr(server, "store") else server._store)
            for step in work():
                with contextlib.suppress(Exception):
                    grid.run(step)
            grid.servers[:] = servers
    assert len(made) > 10
    assert [(text, secret) for text in made for secret in secrets if secret in text] == []


def damage(store) -> None:
    for slot in store.shares.values():
        for share in slot.values():
            share.data[20:60] = bytes(40)
