"""Fifty clients at once fetch one file of 10 MB: by SFTP with keys, by FTP with passwords.

The SFTP clients are fifty processes of OpenSSH's sftp, from their start to the end of the last,
with their logins. The FTP clients are threads of this process; their logins, which cost a password
hash each, are timed apart.
"""

import ftplib
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import Sftp, curl_put, sftp_command
from benchmarks.fleet import Fleet
from benchmarks.ftp import DROP, PLACE
from benchmarks.measure import MB, Report, Row, peak_rss, random_file
from benchmarks.node import Node
from benchmarks.peers import Conch, Login, OpenSsh, Pyftpdlib, Server, Tahoe, Vsftpd
from benchmarks.processes import PeakRss

CLIENTS = 50
MOST_MEMORY = 250 * MB


@dataclass
class Crowd:
    """What happened: seconds, how many failed, processor seconds, memory of the server."""

    wall: float
    failed: int
    cpu: float
    rss: int
    login: float = 0.0

    def __str__(self) -> str:
        text = f"{self.wall:.1f} s, {self.failed} failed, {self.cpu:.1f} CPU s"
        if self.login:
            text += f", login {self.login:.1f} s"
        return f"{text}, {self.rss // MB} MB"


def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows for both protocols, 3-of-10, beside the peers."""
    size, count = (1 if quick else 10) * MB, 10 if quick else CLIENTS
    source = random_file(folder / "source", size)
    with Node(folder / "crowd", 10) as node:
        ours = by_sftp(node, folder, source, count)
        others = [(p, by_sftp(p, folder, source, count)) for p in fleet.some(Tahoe, Conch, OpenSsh)]
    for peer, theirs in others:
        add(report, f"SFTP, {count} clients fetch {size // MB} MB", ours, peer, theirs)
    check(report, f"  SFTP, {count} clients", ours)
    with Node(folder / "crowd-ftp", 10) as node:
        ours = by_ftp(node, node.ftp_login, source, count)
        others = [(p, by_ftp(p, p.login, source, count)) for p in fleet.some(Vsftpd, Pyftpdlib)]
    for peer, theirs in others:
        add(report, f"FTP, {count} clients fetch {size // MB} MB", ours, peer, theirs)
    check(report, f"  FTP, {count} clients", ours)


def add(report: Report, what: str, ours: Crowd, peer: Server, theirs: Crowd) -> None:
    ratio, gated = theirs.wall / ours.wall, isinstance(peer, Tahoe)
    report.add(
        Row(
            what,
            str(ours),
            f"{peer.name}: {theirs}",
            f"{ratio:.1f}x",
            ">= 5x" if gated else "",
            ratio >= 5 if gated else None,
        )
    )


def check(report: Report, what: str, ours: Crowd) -> None:
    """Add the gates that need no peer."""
    report.add(Row(f"{what}: failures", str(ours.failed), "", "", "0", ours.failed == 0))
    report.add(
        Row(
            f"{what}: peak RSS",
            f"{ours.rss // MB} MB",
            "",
            "",
            f"<= {MOST_MEMORY // MB} MB",
            ours.rss <= MOST_MEMORY,
        )
    )


def measured(server: Server, work: Callable[[], int]) -> Crowd:
    cpu = server.cpu()
    with PeakRss(server.roots) as peak:
        begin = time.perf_counter()
        failed = work()
        wall = time.perf_counter() - begin
    rss = peak_rss(server.pid) if isinstance(server, Node) else peak.bytes
    return Crowd(wall, failed, server.cpu() - cpu, rss)


def by_sftp(server: Server, folder: Path, source: Path, count: int) -> Crowd:
    """Put the file, then let all fetch it at once."""
    name = f"{server.login.base}crowd"
    with Sftp(server.login) as session:
        session.do(f"put {source} {name}")
    targets = [folder / f"came{i}" for i in range(count)]

    def fetch() -> int:
        running = []
        for target in targets:
            process = subprocess.Popen(
                sftp_command(server.login),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            process.stdin.write(f"get {name} {target}\n".encode())
            process.stdin.close()
            running.append(process)
        return sum(process.wait(600) != 0 for process in running)

    crowd = measured(server, fetch)
    data = source.read_bytes()
    whole = sum(target.exists() and target.read_bytes() == data for target in targets)
    crowd.failed = max(crowd.failed, count - whole)
    for target in targets:
        target.unlink(missing_ok=True)
    return crowd


def by_ftp(server: Server, login: Login, source: Path, count: int) -> Crowd:
    """Put the file, log all in, then let all fetch it at once."""
    curl_put(login, source, "crowd")
    begin = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        sessions = [s for s in pool.map(lambda _: come_in(login), range(count)) if s]
        login_seconds = time.perf_counter() - begin
        size = source.stat().st_size
        crowd = measured(server, lambda: sum(pool.map(lambda s: fetch(s, size), sessions)))
    crowd.failed += count - len(sessions)
    crowd.login = login_seconds
    close(sessions)
    return crowd


def come_in(login: Login) -> ftplib.FTP | None:
    ftp = ftplib.FTP(encoding="utf-8", timeout=300)
    try:
        ftp.connect(login.host, login.port)
        ftp.login(login.user, login.password)
    except (OSError, EOFError, ftplib.Error):
        ftp.close()
        return None
    return ftp


def fetch(ftp: ftplib.FTP, size: int) -> int:
    """Return 1 when the fetching failed."""
    try:
        ftp.voidcmd("TYPE I")
        taken, place = 0, bytearray(len(PLACE))
        with ftp.transfercmd("RETR crowd") as data:
            while count := data.recv_into(place, 0, DROP):
                taken += count
        ftp.voidresp()
    except (OSError, EOFError, ftplib.Error):
        return 1
    return int(taken != size)


def close(sessions: Sequence[ftplib.FTP]) -> None:
    for ftp in sessions:
        ftp.close()
