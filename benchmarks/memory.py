"""The node's highest resident size while large files pass, seen from outside."""

from pathlib import Path

from benchmarks.ftp import get, put
from benchmarks.measure import MB, Report, Row, peak_rss, random_file
from benchmarks.node import Node


def measure(report: Report, folder: Path, *, quick: bool) -> None:
    """1 GB, then 2 GiB, through one process with ten stores, by FTP."""
    cases = ((100 * MB, 200),) if quick else ((1000 * MB, 200), ((2 << 30) + 1, 300))
    for size, limit in cases:
        source = random_file(folder / "large", size)
        with Node(folder / f"memory{size}", 10) as node, node.ftp() as client:
            idle = peak_rss(node.pid)
            put(node, client, source, "large")
            get(node, client, "large", size)
            peak = peak_rss(node.pid)
        report.add(
            Row(
                f"peak RSS, 10 stores, {size // MB} MB put and get",
                f"{peak // MB} MB",
                f"before: {idle // MB} MB",
                "",
                f"<= {limit} MB" if limit == 200 else "<= 300 MiB",
                peak <= (limit * MB if limit == 200 else limit << 20),
            )
        )
        source.unlink()
