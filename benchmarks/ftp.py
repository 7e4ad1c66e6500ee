"""FTP put and get of one large file, beside the core's own figure on the same grid shape.

From STOR to 226 and from RETR to 226, one transfer at a time, random data not stored before. The
client is ftplib in this process, on the same cores as the node; so that it costs little, it sends
by sendfile and drops what it gets uncopied. The gate holds for the default shape, 3-of-10; with a
single store the core is so quick that receiving the file first is a third of the whole.
"""

import ftplib
import socket
import statistics
import time
from pathlib import Path

from benchmarks.files import download_once, upload_once
from benchmarks.measure import MB, Report, Row, Sample, cpu_of, random_file, rates
from benchmarks.node import Node
from benchmarks.rig import Rig

PIECE = 1 << 20
PLACE = bytearray(PIECE)
DROP = getattr(socket, "MSG_TRUNC", 0)  # Linux drops what came instead of copying it


def put(node: Node, ftp: ftplib.FTP, source: Path, name: str) -> Sample:
    """Upload a file; return wall time from STOR to 226 and the node's processor time."""
    ftp.voidcmd("TYPE I")
    cpu, wall = cpu_of(node.pid), time.perf_counter()
    with source.open("rb") as f, ftp.transfercmd(f"STOR {name}") as data:
        data.sendfile(f)
    ftp.voidresp()
    return Sample(time.perf_counter() - wall, cpu_of(node.pid) - cpu)


def get(node: Node, ftp: ftplib.FTP, name: str, size: int) -> Sample:
    """Download a file; return wall time from RETR to 226 and the node's processor time."""
    ftp.voidcmd("TYPE I")
    cpu, wall, taken = cpu_of(node.pid), time.perf_counter(), 0
    with ftp.transfercmd(f"RETR {name}") as data:
        while count := data.recv_into(PLACE, 0, DROP):
            taken += count
    ftp.voidresp()
    if taken != size:
        raise RuntimeError(f"{taken} bytes came instead of {size}")
    return Sample(time.perf_counter() - wall, cpu_of(node.pid) - cpu)


async def measure(report: Report, folder: Path, servers: int, size: int, rounds: int) -> None:
    """Add rows for put and get; each round does the core's upload and download, too.

    Every round has new random data for both sides, and they take turns in going first. A ratio is
    the median of the ratios of the rounds, so that a slow minute of the machine touches both.
    """
    samples: dict[str, list[Sample]] = {"up": [], "down": [], "put": [], "get": []}

    async def by_core(rig: Rig, source: Path) -> None:
        run, cap = await upload_once(rig, source)
        samples["up"].append(Sample(run.wall, run.cpu))
        run = await download_once(rig, cap, size)
        samples["down"].append(Sample(run.wall, run.cpu))
        rig.forget_shares()

    def by_ftp(node: Node, ftp: ftplib.FTP, source: Path, name: str) -> None:
        samples["put"].append(put(node, ftp, source, name))
        samples["get"].append(get(node, ftp, name, size))
        for share in (node.folder / "servers").glob("*/shares/??/*/*"):
            if share.stat().st_size > PIECE:  # give the page cache back, keep the directories
                share.unlink()

    async with Rig(folder / f"core{servers}", servers) as rig:
        shape = f"{size // MB} MB, {rig.encoding.needed_shares}-of-{rig.encoding.total_shares}"
        with Node(folder / f"ftp{servers}", servers) as node, node.ftp() as ftp:
            for i in range(rounds):
                for side in (i, i + 1):
                    source = random_file(folder / "source", size)
                    if side % 2:
                        by_ftp(node, ftp, source, f"file{i}")
                    else:
                        await by_core(rig, source)
    for what, core in (("put", "up"), ("get", "down")):
        ratio = statistics.median(
            a.wall / b.wall for a, b in zip(samples[core], samples[what], strict=True)
        )
        report.add(
            Row(
                f"FTP {what} {shape}",
                rates(samples[what], size),
                "core: " + rates(samples[core], size),
                f"{ratio:.0%}",
                ">= 80%" if servers > 1 else "",
                ratio >= 0.8 if servers > 1 else None,
            )
        )
