"""One large immutable file through the core, against the bare pipeline of the same run."""

import os
from pathlib import Path

from benchmarks import bare
from benchmarks.measure import Report, Row, median_wall, rates
from benchmarks.rig import Rig
from truckee.core.upload.sources import FileSource


class Sink:
    """A consumer that counts."""

    def __init__(self) -> None:
        self.count = 0

    def registerProducer(self, producer, streaming) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data) -> None:
        self.count += len(data)


async def upload_once(rig: Rig, source: Path) -> tuple[bare.Run, object]:
    watch = bare.Stopwatch()
    cap = await rig.storage.client.upload(FileSource(source, rig.storage.disk), os.urandom(32))
    return watch.stop(source.stat().st_size), cap


async def download_once(rig: Rig, cap, size: int) -> bare.Run:
    node = rig.fresh_client().create_node_from_uri(cap.text.encode())
    sink = Sink()
    watch = bare.Stopwatch()
    await node.read(sink)
    run = watch.stop(size)
    if sink.count != size:
        raise RuntimeError("the file came back with another length")
    return run


async def measure(report: Report, folder: Path, source: Path, servers: int, rounds: int) -> None:
    """Add rows for upload and download."""
    data = source.read_bytes()
    scratch = folder / "bare"
    scratch.mkdir(exist_ok=True)
    ups, downs, bare_ups, bare_downs = [], [], [], []
    async with Rig(folder / f"rig{servers}", servers) as rig:
        k, n = rig.encoding.needed_shares, rig.encoding.total_shares
        blocks = bare.make_blocks(data, k, n, list(range(k)))
        for _ in range(rounds):
            bare_ups.append(bare.upload(data, k, n, scratch))
            run, cap = await upload_once(rig, source)
            ups.append(run)
            bare_downs.append(bare.download(blocks, len(data), k, n))
            downs.append(await download_once(rig, cap, len(data)))
            rig.forget_shares()
            for leftover in scratch.iterdir():
                leftover.unlink()
    shape = f"{len(data) // 10**6} MB, {k}-of-{n}"
    for what, ours, theirs, gate in (
        ("upload", ups, bare_ups, 0.60),
        ("download", downs, bare_downs, 0.50),
    ):
        ratio = median_wall(theirs) / median_wall(ours)
        report.add(
            Row(
                f"{what} {shape}, embedded",
                rates(ours, len(data)),
                "bare: " + rates(theirs, len(data)),
                f"{ratio:.0%}",
                f">= {gate:.0%}",
                ratio >= gate,
            )
        )
