"""FTP put and get of one large file, beside the core's own figure on the same grid shape.

From STOR to 226 and from RETR to 226, one transfer at a time, random data not stored before. The
client is ftplib with pieces of 1 MiB, in this process, so it shares the two cores with the node.
"""

import ftplib
import time
from pathlib import Path

from benchmarks.measure import Sample, cpu_of, random_file
from benchmarks.node import Node

PIECE = 1 << 20


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
    buffer = bytearray(PIECE)
    cpu, wall, taken = cpu_of(node.pid), time.perf_counter(), 0
    with ftp.transfercmd(f"RETR {name}") as data:
        while count := data.recv_into(buffer):
            taken += count
    ftp.voidresp()
    if taken != size:
        raise RuntimeError(f"{taken} bytes came instead of {size}")
    return Sample(time.perf_counter() - wall, cpu_of(node.pid) - cpu)


def measure(
    folder: Path, servers: int, size: int, rounds: int
) -> tuple[list[Sample], list[Sample]]:
    """Return samples of put and of get on a new node; shares are deleted after each round."""
    puts, gets = [], []
    with Node(folder / f"ftp{servers}", servers) as node, node.ftp() as ftp:
        for i in range(rounds):
            source = random_file(folder / "source", size)
            puts.append(put(node, ftp, source, f"file{i}"))
            gets.append(get(node, ftp, f"file{i}", size))
            for share in (node.folder / "servers").glob("*/shares/??/*/*"):
                if share.stat().st_size > PIECE:  # give the page cache back, keep the directory
                    share.unlink()
    return puts, gets
