"""A process that stores shares is killed; what it acknowledged must be there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from truckee.core.cpu import InlineCpu
from truckee.core.storage.api import ReadVector, ShareKind
from truckee.core.storage.disk import DiskStore

WRITER = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from truckee.core.cpu import PoolCpu
from truckee.core.storage.api import LeaseSecrets, TestWriteVectors, WriteVector
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer

SECRETS = LeaseSecrets(bytes(32), bytes(32))
disk = PoolCpu(reactor, 4, "disk")
disk.start()

async def one(server, worker):
    n = worker
    while True:
        n += 8
        index = n.to_bytes(16, "big")
        size = 300_000 if n % 5 == 0 else 1000
        got = await server.allocate_buckets(index, SECRETS, frozenset({0}), size)
        await got.writers[0].write(0, bytes([n % 256]) * size)
        await got.writers[0].close()
        writes = [WriteVector(0, b"%6d" % n * 500)]
        await server.slot_testv_and_readv_and_writev(
            worker.to_bytes(16, "little"), bytes(32), SECRETS, {0: TestWriteVectors((), writes)}, ()
        )
        sys.stdout.write(f"{worker} {n}\\n")
        sys.stdout.flush()

async def main():
    store = DiskStore(sys.argv[1], disk)
    await store.open()
    server = LocalServer(store, reactor)
    await gatherResults([Deferred.fromCoroutine(one(server, w)) for w in range(1, 9)])

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
"""


def done(awaitable):
    outcome = []
    Deferred.fromCoroutine(awaitable).addBoth(outcome.append)
    return outcome[0]


@pytest.mark.parametrize("delay", [0.05, 0.13, 0.21])
def test_what_was_acknowledged_survives_a_kill(tmp_path, delay):
    root = tmp_path / "store"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        first = process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        lines = (first + process.stdout.read()).split("\n")[:-1]
    acknowledged = {}
    for line in lines:
        worker, n = map(int, line.split())
        acknowledged.setdefault(worker, []).append(n)
    store = DiskStore(root, InlineCpu(), fsync=False)
    done(store.open(create=False))
    for worker, numbers in acknowledged.items():
        for n in numbers:
            share = done(store.open_immutable(n.to_bytes(16, "big"), 0))
            size = 300_000 if n % 5 == 0 else 1000
            assert done(share.read(0, size + 1)) == bytes([n % 256]) * size
        slot = worker.to_bytes(16, "little")
        got = done(store.read_mutable(slot, frozenset(), [ReadVector(0, 10_000)]))
        written = int(got[0][0][:6])
        assert got[0][0] == b"%6d" % written * 500
        assert written >= numbers[-1]

    async def walk():
        return [each async for each in store.iterate()]

    kinds = [kind for _, _, _, kind in done(walk())]
    assert kinds.count(ShareKind.IMMUTABLE) >= len(lines)
    assert store.damaged == 0
    store.close()
