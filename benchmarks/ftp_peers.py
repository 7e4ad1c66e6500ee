"""FTP by curl and lftp beside servers of plain files: one large file, and a thousand small ones.

curl's time counts from the end of the login; lftp's session that only logs in is taken off. The
servers take turns in every round. What comes back is compared after the watch has stopped.
"""

import contextlib
import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks import clients
from benchmarks.fleet import Fleet
from benchmarks.measure import MB, Report, Row, Sample, random_file
from benchmarks.node import Node
from benchmarks.peers import Login, Pyftpdlib, Server, Vsftpd
from benchmarks.sftp import SMALL, Times, compare, per_file

Place = tuple[Server, Login]


def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows for both clients that are here."""
    size, rounds, files = (20 * MB, 1, 100) if quick else (200 * MB, 3, 1000)
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(Node(folder / f"ftp-peers{n}", n, f"Truckee {shape}"))
            for n, shape in ((10, "3-of-10"), (1, "1-of-1"))
        ]
        places = [(node, node.ftp_login) for node in nodes]
        places += [(peer, peer.login) for peer in fleet.some(Vsftpd, Pyftpdlib)]
        if clients.installed("curl"):
            large(report, folder, places, size, rounds)
        if clients.installed("lftp"):
            small(report, folder, places, files)


def large(report: Report, folder: Path, places: Sequence[Place], size: int, rounds: int) -> None:
    found: list[Times] = [{"put": [], "get": []} for _ in places]
    target = folder / "came"
    for i in range(rounds):
        for (server, login), times in zip(places, found, strict=True):
            source = random_file(folder / "source", size)
            cpu = server.cpu()
            wall = clients.curl_put(login, source, f"large{i}")
            between = server.cpu()
            times["put"].append(Sample(wall, between - cpu))
            wall = clients.curl_get(login, f"large{i}", target)
            times["get"].append(Sample(wall, server.cpu() - between))
            if not filecmp.cmp(source, target, shallow=False):
                raise RuntimeError(f"{server.name} gave back something else")
            target.unlink()
            server.forget()
    for (node, _), ours in zip(places[:2], found, strict=False):
        for (peer, _), theirs in zip(places[2:], found[2:], strict=True):
            shape = node.name.split()[-1]
            compare(
                report, f"{size // MB} MB, {shape}", size, ours, peer.name, theirs, by="curl FTP"
            )


def small(report: Report, folder: Path, places: Sequence[Place], files: int) -> None:
    """Add rows for lftp's mirror, eight transfers at once."""
    rounds = [small_round(server, login, folder, files) for server, login in places]
    for (node, _), ours in zip(places[:2], rounds, strict=False):
        for (peer, _), theirs in zip(places[2:], rounds[2:], strict=True):
            for verb in ("put", "get"):
                report.add(
                    Row(
                        f"lftp FTP {verb} {files} x 4 KB, {node.name.split()[-1]}",
                        per_file(ours[verb], files),
                        f"{peer.name}: {per_file(theirs[verb], files)}",
                        f"{theirs[verb].wall / ours[verb].wall:.0%}",
                    )
                )


def small_round(server: Server, login: Login, folder: Path, files: int) -> dict[str, Sample]:
    source, target = folder / "small", folder / "came"
    source.mkdir(exist_ok=True)
    for i in range(files):
        (source / f"file {i:04d}").write_bytes(os.urandom(SMALL))
    found = {}
    for verb, command in (
        ("put", f"mirror -R -P8 {source} small"),
        ("get", f"mirror -P8 small {target}"),
    ):
        cpu = server.cpu()
        wall = clients.lftp(login, command)
        found[verb] = Sample(wall, server.cpu() - cpu)
    names = sorted(p.name for p in source.iterdir())
    _, different, absent = filecmp.cmpfiles(source, target, names, shallow=False)
    if different or absent:
        raise RuntimeError(f"{server.name} gave back something else")
    shutil.rmtree(source)
    shutil.rmtree(target)
    return found
