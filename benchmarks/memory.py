"""The node's highest resident size while large files pass, seen from outside."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.clients import Sftp
from benchmarks.ftp import get, put
from benchmarks.measure import MB, Report, Row, peak_rss, random_file
from benchmarks.node import Node


def measure(report: Report, folder: Path, *, quick: bool) -> None:
    """1 GB, then 2 GiB, through one process with ten stores, by FTP; 1 GB by SFTP."""
    cases = ((100 * MB, 200),) if quick else ((1000 * MB, 200), ((2 << 30) + 1, 300))
    for size, limit in cases:
        one(report, folder, size, limit, by_ftp, "")
    one(report, folder, *cases[0], by_sftp, " by SFTP")


def by_ftp(node: Node, source: Path, size: int) -> None:
    with node.ftp() as client:
        put(node, client, source, "large")
        get(node, client, "large", size)


def by_sftp(node: Node, source: Path, size: int) -> None:
    target = source.with_name("came")
    with Sftp(node.login) as session:
        session.do(f"put {source} /large", f"get /large {target}")
    if target.stat().st_size != size:
        raise RuntimeError("something else came back")
    target.unlink()


def one(
    report: Report,
    folder: Path,
    size: int,
    limit: int,
    way: Callable[[Node, Path, int], None],
    how: str,
) -> None:
    """Add the row of one file through a new node."""
    source = random_file(folder / "large", size)
    with Node(folder / f"memory{size}{way.__name__}", 10) as node:
        idle = peak_rss(node.pid)
        way(node, source, size)
        peak = peak_rss(node.pid)
    report.add(
        Row(
            f"peak RSS, 10 stores, {size // MB} MB put and get{how}",
            f"{peak // MB} MB",
            f"before: {idle // MB} MB",
            "",
            f"<= {limit} MB" if limit == 200 else "<= 300 MiB",
            peak <= (limit * MB if limit == 200 else limit << 20),
        )
    )
    source.unlink()
