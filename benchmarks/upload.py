"""The core's upload on an embedded grid, against the bare pipeline of the same run.

    python -m benchmarks.upload [--megabytes 200] [--rounds 3] [--profile FILE]

Ten disk stores in one temporary folder, syncing on in both; contents come from a file.
"""

import argparse
import cProfile
import os
import shutil
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import react

from benchmarks import bare
from truckee.core.cpu import PoolCpu
from truckee.core.interfaces import Encoding
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer
from truckee.core.upload.sources import BytesSource, FileSource
from truckee.core.upload.upload import Uploader

SMALL_FILES = 1000
SMALL_SIZE = 4096
AT_ONCE = 64
SHARE_FILE = 2100  # bytes of a share file of such a file, about


class Grid:
    """Ten servers in a folder, and an uploader."""

    def __init__(self, folder: Path, servers: int) -> None:
        self.cpu = PoolCpu(reactor, 2, "cpu")
        self.disk = PoolCpu(reactor, 4, "disk")
        self.stores = [DiskStore(folder / str(i), self.disk) for i in range(servers)]
        self.servers: list[LocalServer] = []
        self.uploader = Uploader(lambda: self.servers, self.cpu, reactor, os.urandom(32))
        self.folder = folder

    async def open(self) -> None:
        self.cpu.start()
        self.disk.start()
        for store in self.stores:
            await store.open()
            self.servers.append(LocalServer(store, reactor))

    def close(self) -> None:
        self.cpu.stop()
        self.disk.stop()


def encoding(k: int, n: int) -> Encoding:
    return Encoding(k, max(1, (k + n + 1) // 2 if n > 1 else 1), n)


async def large(grid: Grid, path: Path, k: int, n: int) -> bare.Run:
    """Upload one file that is on the disk."""
    watch = bare.Stopwatch()
    source = FileSource(path, grid.disk)
    await grid.uploader.upload(source, encoding(k, n), os.urandom(16))
    return watch.stop(path.stat().st_size)


async def small(grid: Grid, k: int, n: int) -> bare.Run:
    """Upload many small files, some at once."""
    gate = DeferredSemaphore(AT_ONCE)
    contents = [os.urandom(SMALL_SIZE) for _ in range(SMALL_FILES)]
    watch = bare.Stopwatch()

    def one(data: bytes) -> Deferred[object]:
        upload = grid.uploader.upload(BytesSource(data), encoding(k, n), b"secret")
        return Deferred.fromCoroutine(upload)

    await gatherResults([gate.run(one, data) for data in contents])
    return watch.stop(SMALL_FILES * SMALL_SIZE)


async def compare(
    name: str,
    ours: Callable[[], Awaitable[bare.Run]],
    theirs: Callable[[Path], bare.Run],
    rounds: int,
    root: Path,
) -> None:
    """Run both in turn and print medians."""
    a, b = [], []
    for _ in range(rounds):
        scratch = Path(tempfile.mkdtemp(dir=root))
        b.append(theirs(scratch))
        shutil.rmtree(scratch)
        a.append(await ours())
    print(f"{name}")
    for label, runs in (("truckee", a), ("bare", b)):
        print(f"  {label:8}", *runs, sep="\n           ")
    rate = statistics.median(r.wall for r in b) / statistics.median(r.wall for r in a)
    cpu = statistics.median(r.cpu for r in b) / statistics.median(r.cpu for r in a)
    print(f"  speed {rate:.0%} of bare; CPU time x{1 / cpu:.2f}", flush=True)


async def main(options: argparse.Namespace, root: Path) -> None:
    """Run everything in `root`."""
    path = root / "contents"
    path.write_bytes(os.urandom(options.megabytes * 1_000_000))
    data = path.read_bytes()
    for k, n in ((3, 10), (1, 1)):
        grid = Grid(Path(tempfile.mkdtemp(dir=root)), n)
        await grid.open()
        name = f"{options.megabytes} MB, {k}-of-{n}"

        async def ours(grid: Grid = grid, k: int = k, n: int = n) -> bare.Run:
            run = await large(grid, path, k, n)
            for store in grid.stores:
                shutil.rmtree(Path(store.path) / "shares", ignore_errors=True)
                (Path(store.path) / "shares" / "incoming").mkdir(parents=True)
            return run

        def theirs(scratch: Path, k: int = k, n: int = n) -> bare.Run:
            return bare.upload(data, k, n, scratch)

        if "large" in options.what:
            await compare(name, ours, theirs, options.rounds, root)
        if n == 10 and "small" in options.what:
            await compare(
                f"{SMALL_FILES} files of {SMALL_SIZE} bytes, {k}-of-{n}, {AT_ONCE} at once",
                lambda grid=grid: small(grid, 3, 10),
                lambda scratch: bare.small_files(10 * SMALL_FILES, SHARE_FILE, scratch),
                options.rounds,
                root,
            )
        grid.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where the stores are made")
    parser.add_argument("--what", default="large,small")
    parser.add_argument("--profile", help="write a profile of the reactor's thread")
    return parser.parse_args()


def run(_reactor: object) -> Deferred[None]:
    options = arguments()
    root = Path(tempfile.mkdtemp(dir=options.folder))

    async def all_of_it() -> None:
        try:
            await main(options, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    return Deferred.fromCoroutine(all_of_it())


if __name__ == "__main__":
    wanted = arguments().profile
    if wanted:
        profile = cProfile.Profile()
        try:
            profile.runcall(react, run)
        finally:
            profile.dump_stats(wanted)
    else:
        react(run)
