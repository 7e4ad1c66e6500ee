"""SFTP put and get beside the servers people would use instead: large files, and small ones.

One session of OpenSSH's sftp to each server; they take turns in every round, each with random data
not stored before. A put counts until sftp says that the file is closed. What comes back is
compared after the watch has stopped.
"""

import contextlib
import filecmp
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import clients
from benchmarks.clients import Sftp
from benchmarks.fleet import Fleet
from benchmarks.measure import MB, Report, Row, Sample, random_file, rates
from benchmarks.node import Node
from benchmarks.peers import Conch, OpenSsh, Server, Tahoe

SMALL = 4096
TAHOE_FILES = 40  # it takes four in a second
Times = dict[str, list[Sample]]


def measure(report: Report, folder: Path, fleet: Fleet, *, quick: bool) -> None:
    """Add rows: large files beside plain servers and stock Tahoe-LAFS, then small ones."""
    size = (20 if quick else 200) * MB
    rounds = 1 if quick else 3
    with Node(folder / "sftp10", 10) as node, Node(folder / "sftp1", 1) as single:
        plain = fleet.some(Conch, OpenSsh)
        times = large([node, single, *plain], folder, size, rounds)
        for ours, shape in zip(times[:2], ("3-of-10", "1-of-1"), strict=True):
            for peer, theirs in zip(plain, times[2:], strict=True):
                compare(report, f"{size // MB} MB, {shape}", size, ours, peer.name, theirs)
        by_lftp(report, folder, [node, *fleet.some(OpenSsh)], size, rounds)
        beside_tahoe(report, folder, fleet, node, quick=quick)
        small(report, folder, [node, single, *plain], 100 if quick else 1000, {})


def beside_tahoe(report: Report, folder: Path, fleet: Fleet, node: Server, *, quick: bool) -> None:
    """Add items 17 and 18: what stock Tahoe-LAFS does over its own SFTP frontend."""
    tahoe = fleet.get(Tahoe)
    if tahoe is None:
        return
    size = (10 if quick else 100) * MB
    ours, theirs = large([node, tahoe], folder, size, 1 if quick else 2)
    gates = {"put": 4.0, "get": 5.0}
    compare(report, f"{size // MB} MB, 3-of-10", size, ours, tahoe.name, theirs, gates)
    small(report, folder, [node, tahoe], 20 if quick else 200, {"put": 10.0, "get": 20.0})


def large(servers: Sequence[Server], folder: Path, size: int, rounds: int) -> list[Times]:
    """Put and get a file of `size` bytes; return the samples of each server."""
    found: list[Times] = [{"put": [], "get": []} for _ in servers]
    target = folder / "came"
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(Sftp(s.login)) for s in servers]
        for i in range(rounds):
            for server, session, times in zip(servers, sessions, found, strict=True):
                source = random_file(folder / "source", size)
                name = f"{server.login.base}large{i}"
                times["put"].append(timed(server, session, f"put {source} {name}"))
                times["get"].append(timed(server, session, f"get {name} {target}"))
                if not filecmp.cmp(source, target, shallow=False):
                    raise RuntimeError(f"{server.name} gave back something else")
                target.unlink()
                server.forget()
    return found


def timed(server: Server, session: Sftp, *commands: str) -> Sample:
    cpu = server.cpu()
    wall = session.do(*commands)
    return Sample(wall, server.cpu() - cpu)


def compare(
    report: Report,
    what: str,
    size: int,
    ours: Times,
    name: str,
    theirs: Times,
    gates: dict[str, float] | None = None,
    *,
    by: str = "SFTP",
) -> None:
    """Add a row for put and one for get; the ratio is the median of the rounds' ratios."""
    for verb in ("put", "get"):
        pairs = zip(theirs[verb], ours[verb], strict=True)
        ratio = statistics.median(a.wall / b.wall for a, b in pairs)
        gate = (gates or {}).get(verb)
        report.add(
            Row(
                f"{by} {verb} {what}",
                rates(ours[verb], size),
                f"{name}: " + rates(theirs[verb], size),
                f"{ratio:.1f}x" if gate else f"{ratio:.0%}",
                f">= {gate:.0f}x" if gate else "",
                ratio >= gate if gate else None,
            )
        )


def by_lftp(
    report: Report, folder: Path, servers: Sequence[Server], size: int, rounds: int
) -> None:
    """Add rows for lftp over ssh; the time of a session that only logs in is taken off."""
    if not clients.installed("lftp"):
        report.note("left out: lftp is not installed")
        return
    found: list[Times] = [{"put": [], "get": []} for _ in servers]
    target = folder / "came"
    for i in range(rounds):
        for server, times in zip(servers, found, strict=True):
            source = random_file(folder / "source", size)
            name = f"{server.login.base}lftp{i}"
            for verb, command in (
                ("put", f"put {source} -o {name}"),
                ("get", f"get {name} -o {target}"),
            ):
                cpu = server.cpu()
                wall = clients.lftp(server.login, command)
                times[verb].append(Sample(wall, server.cpu() - cpu))
            if not filecmp.cmp(source, target, shallow=False):
                raise RuntimeError(f"{server.name} gave back something else")
            target.unlink()
            server.forget()
    for peer, theirs in zip(servers[1:], found[1:], strict=True):
        compare(
            report, f"{size // MB} MB, 3-of-10", size, found[0], peer.name, theirs, by="lftp SFTP"
        )


def small(
    report: Report,
    folder: Path,
    servers: Sequence[Server],
    files: int,
    gates: dict[str, float],
) -> None:
    """Put and get many files of 4 KB in one session, into a new directory; the first is ours."""
    rounds = {}
    for server in servers:
        count = min(files, TAHOE_FILES) if isinstance(server, Tahoe) else files
        rounds[server.name + server.login.base + str(server.login.port)] = (
            server,
            count,
            small_round(server, folder, count),
        )
    (first, files, ours), *others = rounds.values()
    for other, count, theirs in others:
        for verb in ("put", "get"):
            mine, other_rate = files / ours[verb].wall, count / theirs[verb].wall
            ratio, gate = mine / other_rate, gates.get(verb)
            shape = " (1-of-1)" if other.name == first.name else ""
            report.add(
                Row(
                    f"SFTP {verb} {files} x 4 KB, one session",
                    per_file(ours[verb], files),
                    f"{other.name}{shape}: {per_file(theirs[verb], count)}",
                    f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.0f}x",
                    f">= {gate:.0f}x" if gate else "",
                    ratio >= gate if gate else None,
                )
            )


def per_file(sample: Sample, count: int) -> str:
    return f"{count / sample.wall:.1f} files/s, {1000 * sample.cpu / count:.1f} CPU ms each"


def small_round(server: Server, folder: Path, count: int) -> dict[str, Sample]:
    source, target = folder / "small", folder / "came"
    for place in (source, target):
        place.mkdir(exist_ok=True)
    names = [f"file {i:04d}" for i in range(count)]
    for name in names:
        (source / name).write_bytes(os.urandom(SMALL))
    there = f"{server.login.base}small{os.urandom(4).hex()}"
    with Sftp(server.login) as session:
        session.do(f"mkdir {there}")
        puts = (f'put "{source}/{n}" "{there}/{n}"' for n in names)
        gets = (f'get "{there}/{n}" "{target}/{n}"' for n in names)
        put = timed(server, session, *puts)
        get = timed(server, session, *gets)
    for name in names:
        if (source / name).read_bytes() != (target / name).read_bytes():
            raise RuntimeError(f"{server.name} gave back something else")
        (target / name).unlink()
    target.rmdir()
    return {"put": put, "get": get}
