"""SFTP over a slow wire: 100 Mbit/s, 100 ms there and back, one stream of OpenSSH's sftp."""

import dataclasses
import filecmp
from pathlib import Path

from benchmarks.clients import Sftp
from benchmarks.fleet import Fleet
from benchmarks.link import slow_link
from benchmarks.measure import MB, Report, Row, random_file
from benchmarks.node import Node
from benchmarks.peers import Conch, OpenSsh, Server

RATE = 100e6 / 8
ONE_WAY = 0.05
GATE = 8.0


def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows for put and get, 3-of-10, beside the peers."""
    source = random_file(folder / "source", (10 if quick else 60) * MB)
    with Node(folder / "slow", 10) as node:
        ours = both(node, folder, source)
    others = [(peer, both(peer, folder, source)) for peer in fleet.some(OpenSsh, Conch)]
    for i, verb in enumerate(("put", "get")):
        against = ", ".join(f"{peer.name}: {rate[i]:.1f} MB/s" for peer, rate in others)
        report.add(
            Row(
                f"SFTP {verb} over 100 Mbit/s with 100 ms",
                f"{ours[i]:.1f} MB/s",
                against,
                "",
                f">= {GATE:.0f} MB/s",
                ours[i] >= GATE,
            )
        )


def both(server: Server, folder: Path, source: Path) -> tuple[float, float]:
    """Return MB/s of a put and a get."""
    size, target = source.stat().st_size, folder / "came"
    name = f"{server.login.base}slow"
    with (
        slow_link(server.login.port, RATE, ONE_WAY) as port,
        Sftp(dataclasses.replace(server.login, port=port)) as session,
    ):
        put = session.do(f"put {source} {name}")
        get = session.do(f"get {name} {target}")
    if not filecmp.cmp(source, target, shallow=False):
        raise RuntimeError(f"{server.name} gave back something else")
    target.unlink()
    return size / MB / put, size / MB / get
