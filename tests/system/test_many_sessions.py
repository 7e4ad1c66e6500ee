"""Many sessions at once, most of them idle or slow: the rest must not notice, memory must not grow.

Real processes: a node, OpenSSH's ssh and sftp, ftplib. The figures are printed (``pytest -s``).
"""

import contextlib
import ftplib
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.clients import Sftp
from benchmarks.measure import random_file
from benchmarks.peers import Login, make_key
from benchmarks.processes import rss_of
from tests.fakes.raw_sftp import ATTRS, RawSftp
from tests.system.networks.place import make_node
from tests.system.node import TRUCKEE, Node
from tests.system.test_memory import MIB, Stream, peak_rss

pytestmark = [
    pytest.mark.long,
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed"),
]

ACCOUNTS = ("ann", "ben", "cleo", "dan")
SESSIONS = 200
SIZE = 200_000_000
SLOW = 20_000  # bytes a second that a slow client takes
PIECE = 255 * 1024
LIMITS = "max_sessions = 400\nmax_sessions_per_user = 100\nmax_sessions_per_ip = 400\n"
PASSWORD = "a lamp, two boats and a Tuesday"


@dataclass
class Door:
    """How one account comes in."""

    sftp: Login
    ftp: Login

    def connect(self) -> ftplib.FTP:
        ftp = ftplib.FTP(encoding="utf-8", timeout=120)
        ftp.connect("127.0.0.1", self.ftp.port)
        ftp.login(self.ftp.user, self.ftp.password)
        return ftp


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "node"
    node = make_node(folder, 3)
    text = (folder / "truckee.cfg").read_text()
    for section in ("[ftpd]\n", "[sftpd]\n"):
        assert section in text
        text = text.replace(section, section + LIMITS)
    (folder / "truckee.cfg").write_text(text)
    key = make_key(folder / "private" / "key")
    for name in ACCOUNTS[1:]:
        subprocess.run(
            [TRUCKEE, "account", "add", name, "-d", folder, "--password-stdin"]
            + ["--key", f"{key}.pub"],
            input=PASSWORD.encode(),
            check=True,
            capture_output=True,
            env={**os.environ, "USER": "ann", "LOGNAME": "ann"},
        )
    with node:
        yield node


def doors(node: Node) -> list[Door]:
    key, port = node.folder / "private" / "key", node.ready["sftp"]["port"]
    return [
        Door(
            Login(port, name, key, None, "/"),
            Login(node.port, name, None, node.password if name == "ann" else PASSWORD),
        )
        for name in ACCOUNTS
    ]


def resident(node: Node) -> int:
    return rss_of([node.process.pid])


@dataclass
class Crowd:
    """Two hundred sessions less one: idle, slow, and such that do a little now and then."""

    stack: contextlib.ExitStack
    end: threading.Event = field(default_factory=threading.Event)
    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slow_bytes: int = 0

    def come(self, doors: list[Door]) -> None:
        """Let all of them log in: half by SSH with keys, half by FTP with passwords."""
        half = (SESSIONS - 1) // 2
        with ThreadPoolExecutor(8) as pool:
            self.ssh = list(pool.map(lambda i: RawSftp(doors[i % 4].sftp), range(half)))
            for sftp in self.ssh:
                self.stack.callback(sftp.__exit__)
            list(pool.map(RawSftp.greet, self.ssh))
            count = SESSIONS - 1 - half
            self.ftp = list(pool.map(lambda i: doors[i % 4].connect(), range(count)))
        for ftp in self.ftp:
            self.stack.callback(ftp.close)

    def live(self) -> None:
        """A quarter of each kind stays idle, a quarter reads slowly, the rest does small things."""
        quarter = len(self.ssh) // 4
        for sftp in self.ssh[quarter : 2 * quarter]:
            handle = sftp.open("/big")
            for i in range(64):
                sftp.ask_to_read(handle, i * PIECE, PIECE)
        slow = self.ssh[quarter : 2 * quarter]
        taking = [lambda s=s: s.take(SLOW) for s in slow]
        for ftp in self.ftp[quarter : 2 * quarter]:
            ftp.voidcmd("TYPE I")
            data = self.stack.enter_context(contextlib.closing(ftp.transfercmd("RETR big")))
            data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW)
            taking.append(lambda data=data: len(data.recv(SLOW)))
        small = [lambda s=s: s.stat("/small") == ATTRS for s in self.ssh[2 * quarter :]]
        small += [lambda f=f: f.sendcmd("MLST small") for f in self.ftp[2 * quarter :]]
        for share in range(8):
            self._begin(self._take, taking[share::8])
        for share in range(8):
            self._begin(self._ask, small[share::8])

    def _begin(self, work, over) -> None:
        thread = threading.Thread(target=work, args=(over,), daemon=True)
        thread.start()
        self.stack.callback(thread.join, 60)
        self.stack.callback(self.end.set)

    def _take(self, takings) -> None:
        while not self.end.wait(1.0):
            for take in takings:
                try:
                    self.slow_bytes += take()
                except Exception as error:
                    self.failures.append(f"slow: {error!r}")
                    return

    def _ask(self, questions) -> None:
        while not self.end.wait(1.0):
            for ask in questions:
                begin = time.perf_counter()
                try:
                    good = ask()
                except Exception as error:
                    good = self.failures.append(f"small: {error!r}")
                if not good:
                    self.failures.append("small: refused")
                    return
                self.waits.append(time.perf_counter() - begin)


def rates(session: Sftp, source: Path, folder: Path, name: str) -> tuple[float, float]:
    """Return MB/s of a put and a get."""
    put = session.do(f"put {source} /{name}")
    get = session.do(f"get /{name} {folder / 'came'}")
    assert (folder / "came").read_bytes() == source.read_bytes()
    return SIZE / 1e6 / put, SIZE / 1e6 / get


def test_one_of_two_hundred_sessions_is_served_while_the_others_idle_and_dawdle(node, tmp_path):
    everybody = doors(node)
    for door in everybody:
        with contextlib.closing(door.connect()) as ftp:
            ftp.storbinary("STOR big", Stream(50 * MIB), MIB)
            ftp.storbinary("STOR small", Stream(1000), MIB)
    with contextlib.ExitStack() as stack, Sftp(everybody[0].sftp) as session:
        alone = rates(session, random_file(tmp_path / "a", SIZE), tmp_path, "alone")
        before = resident(node)
        crowd = Crowd(stack)
        begin = time.perf_counter()
        crowd.come(everybody)
        logins = time.perf_counter() - begin
        entered = resident(node)
        crowd.live()
        time.sleep(3)
        crowd.waits.clear()
        amid = rates(session, random_file(tmp_path / "b", SIZE), tmp_path, "amid")
        waits = sorted(crowd.waits)
        idle = resident(node)
        assert crowd.failures == []
        assert len(waits) > 100
        p95 = waits[len(waits) * 95 // 100]
        print(
            f"\n{SESSIONS} sessions, {logins:.1f} s to log in; "
            f"resident {before >> 20} MiB alone, {entered >> 20} all in, {idle >> 20} at work\n"
            f"put {alone[0]:.0f} MB/s alone, {amid[0]:.0f} amid; "
            f"get {alone[1]:.0f} alone, {amid[1]:.0f} amid\n"
            f"small questions: {len(waits)}, median {1000 * statistics.median(waits):.0f} ms, "
            f"95% {1000 * p95:.0f} ms, longest {1000 * waits[-1]:.0f} ms"
        )
        assert idle < before + 500 * MIB
        assert amid[0] > 0.3 * alone[0]
        assert amid[1] > 0.3 * alone[1]
        assert statistics.median(waits) < 0.5
        assert waits[-1] < 10
    assert node.process.poll() is None


@pytest.mark.parametrize("requests", [64, 204])
@pytest.mark.parametrize("frozen", [False, True], ids=["window full", "TCP full"])
def test_ten_clients_that_read_no_answer_fill_no_memory(tmp_path, requests, frozen):
    with make_node(tmp_path / "node", 1) as node, contextlib.ExitStack() as stack:
        with contextlib.closing(node.ftp()) as ftp:
            ftp.storbinary("STOR big", Stream(60 * MIB), MIB)
        login = doors(node)[0].sftp
        clients = [stack.enter_context(RawSftp(login)) for _ in range(10)]
        handles = [client.open("/big") for client in clients]
        before = resident(node)
        for client, handle in zip(clients, handles, strict=True):
            for i in range(requests):
                client.ask_to_read(handle, i * PIECE, PIECE)
            if frozen:
                client.freeze()
        highest = 0
        for _ in range(50):
            time.sleep(0.1)
            highest = max(highest, resident(node))
        print(
            f"\n{10 * requests * PIECE >> 20} MiB asked for: grew by {highest - before >> 20} MiB"
        )
        assert highest < before + 150 * MIB
        with contextlib.closing(node.ftp()) as ftp:
            assert ftp.size("big") == 60 * MIB


def test_a_slow_reader_of_two_gib_by_ftp_fills_no_memory(tmp_path):
    with make_node(tmp_path / "node", 1) as node:
        with contextlib.closing(node.ftp()) as ftp:
            ftp.timeout = 600
            ftp.storbinary("STOR large", Stream(2048 * MIB), MIB)
        before, taken = resident(node), 0
        highest = before
        with contextlib.closing(node.ftp()) as ftp:
            ftp.voidcmd("TYPE I")
            with contextlib.closing(ftp.transfercmd("RETR large")) as data:
                end = time.monotonic() + 15
                while time.monotonic() < end:
                    taken += len(data.recv(100_000))
                    time.sleep(0.05)
                    highest = max(highest, resident(node))
        print(f"\n{taken >> 20} MiB of 2 GiB taken: grew by {highest - before >> 20} MiB")
        assert highest < before + 150 * MIB
        assert peak_rss(node.process.pid) < 400 * MIB
