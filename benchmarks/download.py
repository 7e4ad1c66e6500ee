"""Measures reading from an embedded grid of disk stores against the bare download pipeline.

    .venv/bin/python -m benchmarks.download [--size MB] [--rounds N] [--secondaries] [--profile]

Prints both medians, their ratio (gate: 50 %), CPU seconds per GB, the time to the first byte on a
warm grid, and random range reads.
"""

import argparse
import cProfile
import pstats
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from benchmarks import bare
from benchmarks.measure import MB, Report, Row, Sample, Stopwatch, median_wall, rates
from tests.fakes.chk_shares import EncodedFile, encode_chk
from truckee.core.cpu import PoolCpu
from truckee.core.download.cache import ReaderCache
from truckee.core.storage.api import LeaseSecrets
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer

STEP = 4 << 20


class Counter:
    """A consumer that counts, and notes when the first byte came."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0.0

    def registerProducer(self, producer, streaming) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self.count:
            self.first = time.perf_counter()
        self.count += len(data)


class Grid:
    """Ten disk stores in one folder."""

    def __init__(self, folder: Path) -> None:
        self.cpu = PoolCpu(reactor, 2, "cpu")
        self.disk = PoolCpu(reactor, 4, "disk")
        self.stores = [DiskStore(folder / f"s{i}", self.disk) for i in range(10)]
        self.servers = []

    async def start(self) -> None:
        self.cpu.start()
        self.disk.start()
        for store in self.stores:
            await store.open()
        self.servers = [LocalServer(store, reactor) for store in self.stores]

    async def store(self, file: EncodedFile) -> None:
        secrets = LeaseSecrets(b"r" * 32, b"c" * 32)
        for shnum, data in file.shares.items():
            got = await self.servers[shnum].allocate_buckets(
                file.cap.storage_index, secrets, frozenset({shnum}), len(data)
            )
            writer = got.writers[shnum]
            for offset in range(0, len(data), STEP):
                await writer.write(offset, data[offset : offset + STEP])
            await writer.close()

    async def drop(self, file: EncodedFile, shnums: list[int]) -> None:
        for shnum in shnums:
            await self.stores[shnum].delete(file.cap.storage_index, shnum)

    def readers(self) -> ReaderCache:
        return ReaderCache(lambda: self.servers, self.cpu, reactor)

    async def stop(self) -> None:
        for server in self.servers:
            await server.stop()
        self.cpu.stop()
        self.disk.stop()


def measure_bare(blocks: list[dict[int, bytes]], file: EncodedFile) -> Sample:
    run = bare.download(blocks, len(file.plaintext), 3, 10)
    return Sample(run.wall, run.cpu)


async def measure_read(grid: Grid, file: EncodedFile) -> tuple[Sample, float]:
    readers = grid.readers()
    consumer = Counter()
    started = time.perf_counter()
    with Stopwatch() as watch:
        await readers.get(file.cap).read(consumer)
    assert consumer.count == len(file.plaintext)
    readers.stop()
    return watch.sample, consumer.first - started


async def measure_ranges(grid: Grid, file: EncodedFile, report: Report) -> None:
    readers, spots = grid.readers(), random.Random(1)
    times = []
    await readers.get(file.cap).read_range(0, 1)
    for _ in range(100):
        offset = spots.randrange(len(file.plaintext) - 65536)
        started = time.perf_counter()
        data = await readers.get(file.cap).read_range(offset, 65536)
        times.append(time.perf_counter() - started)
        assert data == file.plaintext[offset : offset + 65536]
    readers.stop()
    report.add(Row("random 64 KiB, known reader", f"{statistics.median(times) * 1e3:.2f} ms"))


async def compare(options: argparse.Namespace, report: Report) -> None:
    folder = Path(tempfile.mkdtemp(prefix="truckee-bench-"))
    grid = Grid(folder)
    try:
        await grid.start()
        size = options.size * MB
        file = encode_chk(random.Random(0).randbytes(size), 3, 10)
        await grid.store(file)
        shnums = [0, 1, 2]
        if options.secondaries:
            await grid.drop(file, shnums)
            shnums = [3, 4, 5]
        blocks = bare.make_blocks(file.plaintext, 3, 10, shnums)
        await measure_read(grid, file)
        yardstick, real, first = [], [], []
        for _ in range(options.rounds):
            yardstick.append(measure_bare(blocks, file))
            sample, first_byte = await measure_read(grid, file)
            real.append(sample)
            first.append(first_byte)
        ratio = median_wall(yardstick) / median_wall(real)
        report.add(
            Row(
                f"GET {options.size} MB, embedded" + (", secondaries" * options.secondaries),
                rates(real, size),
                rates(yardstick, size),
                f"{ratio * 100:.0f} %",
                ">= 50 %",
                ratio >= 0.5,
            )
        )
        report.add(
            Row(
                "first byte, warm grid",
                f"{statistics.median(first) * 1e3:.1f} ms",
                "",
                "",
                "<= 10 ms",
                statistics.median(first) <= 0.010,
            )
        )
        await measure_ranges(grid, file, report)
        if options.profile:
            profile = cProfile.Profile()
            profile.enable()
            await measure_read(grid, file)
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    finally:
        await grid.stop()
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secondaries", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    report = Report()
    task.react(lambda _: Deferred.fromCoroutine(compare(options, report)))


if __name__ == "__main__":
    main()
