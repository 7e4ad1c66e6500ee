"""Many small files into one directory, and a directory of a thousand children."""

import os
import statistics
import time
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from benchmarks import bare
from benchmarks.measure import Report, Row
from benchmarks.rig import Rig
from truckee.core.upload.sources import BytesSource

FILES = 1000
SIZE = 4096
AT_ONCE = 64


async def add_files(directory, files: int, at_once: int) -> None:
    gate = DeferredSemaphore(at_once)

    def one(i: int) -> Deferred[object]:
        source = BytesSource(os.urandom(SIZE))
        return Deferred.fromCoroutine(directory.add_file(f"file {i:04d}", source))

    await gatherResults([gate.run(one, i) for i in range(files)])


async def measure(report: Report, folder: Path, rounds: int) -> None:
    ours, alone, counts, adds, lists = [], [], [], [], []
    for i in range(rounds):
        async with Rig(folder / f"small{i}", 10) as rig:
            client = rig.storage.client
            directory = await client.create_new_mutable_directory()
            before = await rig.seqnum(directory)
            watch = bare.Stopwatch()
            await add_files(directory, FILES, AT_ONCE)
            ours.append(watch.stop(FILES * SIZE))
            counts.append(await rig.seqnum(directory) - before)
            shares = list((rig.folder / "servers").glob("*/shares/??/*/*"))
            size = sorted(p.stat().st_size for p in shares)[len(shares) // 2]
            scratch = folder / f"alone{i}"
            scratch.mkdir()
            alone.append(bare.small_files(10 * FILES, size, scratch))
            for n in range(10):
                adds.append(
                    await timed(directory.add_file(f"one more {n}", BytesSource(b"x" * 100)))
                )
                fresh = rig.fresh_client().create_node_from_uri(directory.get_uri())
                lists.append(await timed(listing(fresh)))
    wall = statistics.median(r.wall for r in ours)
    base = statistics.median(r.wall for r in alone)
    report.add(
        Row(
            f"{FILES} files of {SIZE} bytes, {AT_ONCE} at once",
            f"{wall:.2f} s, {statistics.median(r.cpu for r in ours):.2f} CPU s",
            f"10,000 share files alone: {base:.2f} s",
            f"{wall / base:.2f}x",
            "<= 4x",
            wall <= 4 * base,
        )
    )
    worst = max(counts)
    report.add(Row("  directory publishes for them", str(worst), "", "", "<= 40", worst <= 40))
    report.add(
        Row("add a child to a directory of 1000", f"{1000 * statistics.median(adds):.0f} ms")
    )
    report.add(
        Row("list a directory of 1000, nothing cached", f"{1000 * statistics.median(lists):.0f} ms")
    )


async def listing(directory) -> None:
    for node, metadata in (await directory.list()).values():
        node.get_uri()
        metadata.get("tahoe")


async def timed(work) -> float:
    begin = time.perf_counter()
    await work
    return time.perf_counter() - begin
