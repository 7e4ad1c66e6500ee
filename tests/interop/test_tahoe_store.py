"""Tahoe-LAFS' own storage server over a folder of ours, and ours over a folder of its."""

import json
import subprocess
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from truckee.core.cpu import InlineCpu
from truckee.core.storage.api import LeaseSecrets, ReadVector, TestWriteVectors, WriteVector
from truckee.core.storage.disk import DiskStore
from truckee.core.storage.server import LocalServer

TAHOE = Path(__file__).parents[2] / ".peers" / "tahoe" / "bin" / "python"
NODEID = b"n" * 20
SI, SLOT = bytes(range(16)), bytes(range(16, 32))
SECRETS = LeaseSecrets(b"R" * 32, b"C" * 32)
SIZES = [1, 1000, 200_000]

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not TAHOE.exists(), reason="Tahoe-LAFS is not installed here"),
]

THEIRS = """
import json, sys
from allmydata.storage.server import StorageServer
from twisted.internet.task import Clock
clock = Clock()
clock.advance(1_700_000_000)
server = StorageServer(sys.argv[1], b"n" * 20, clock=clock)
SI, SLOT = bytes(range(16)), bytes(range(16, 32))
R, C = b"R" * 32, b"C" * 32
"""

READ = """
found = {n: r.read(0, 10**6).hex() for n, r in server.get_buckets(SI).items()}
slots = {n: d[0].hex() for n, d in server.slot_readv(SLOT, [], [(0, 10**6)]).items()}
from allmydata.storage.shares import get_share_file
leases = [
    len(list(get_share_file(dict(server.get_shares(each))[0]).get_leases())) for each in (SI, SLOT)
]
print(json.dumps([found, slots, leases]))
"""

CHANGE = """
server.add_lease(SI, b"r" * 32, b"c" * 32)
server.add_lease(SI, R, C)
ok, _ = server.slot_testv_and_readv_and_writev(
    SLOT, (b"W" * 32, b"r" * 32, b"c" * 32),
    {0: ([(0, 3, b"eq", b"aaa")], [(4000, b"theirs")], None), 7: ([], [(0, b"new")], None)}, [])
assert ok
already, writers = server.allocate_buckets(SI, R, C, {0, 9}, 100)
assert set(already) >= {0}
writers[9].write(0, b"t" * 100)
writers[9].close()
"""


def tahoe(folder, script):
    run = subprocess.run(
        [str(TAHOE), "-c", THEIRS + script, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout) if run.stdout.strip() else None


def done(awaitable):
    outcome = []
    Deferred.fromCoroutine(awaitable).addBoth(outcome.append)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


def our_server(folder):
    store = DiskStore(folder, InlineCpu(), nodeid=NODEID)
    done(store.open())
    return LocalServer(store, Clock(), wall=lambda: 1_700_000_000)


async def fill(server):
    for n, size in enumerate(SIZES):
        got = await server.allocate_buckets(SI, SECRETS, frozenset({n}), size)
        for writer in got.writers.values():  # none when it is there already
            await writer.write(0, bytes([n]) * size)
            await writer.close()
    changes = {
        n: TestWriteVectors((), [WriteVector(0, b"a" * size)]) for n, size in enumerate([50, 3000])
    }
    await server.slot_testv_and_readv_and_writev(SLOT, b"W" * 32, SECRETS, changes, ())


async def held(server):
    shares = {
        str(n): bytes(await reader.read(0, 10**6)).hex()
        for n, reader in (await server.get_buckets(SI)).items()
    }
    got = await server.slot_readv(SLOT, frozenset(), [ReadVector(0, 10**6)])
    return [shares, {str(n): pieces[0].hex() for n, pieces in got.items()}]


def test_each_reads_and_changes_what_the_other_wrote(tmp_path):
    folder = tmp_path / "store"
    server = our_server(folder)
    done(fill(server))
    ours = done(held(server))
    assert len(ours[0]) == 3
    assert tahoe(folder, READ) == [*ours, [1, 1]]
    tahoe(folder, CHANGE)
    changed = tahoe(folder, READ)
    assert changed[0]["9"] == (b"t" * 100).hex()
    assert changed[1]["7"] == b"new".hex()
    assert changed[2] == [2, 2]
    server = our_server(folder)
    assert done(held(server)) == changed[:2]
    done(server.add_lease(SI, LeaseSecrets(b"3" * 32, b"3" * 32)))
    done(server.add_lease(SLOT, LeaseSecrets(b"3" * 32, b"3" * 32)))
    done(fill(server))
    again = tahoe(folder, READ)
    assert again[2] == [3, 3]
    assert again[:2] == done(held(server))
    assert server.store.damaged == 0


def test_the_same_operations_give_the_same_files(tmp_path):
    done(fill(our_server(tmp_path / "ours")))
    tahoe(
        tmp_path / "theirs",
        """
for n, size in enumerate([1, 1000, 200_000]):
    _, writers = server.allocate_buckets(SI, R, C, {n}, size)
    writers[n].write(0, bytes([n]) * size)
    writers[n].close()
server.slot_testv_and_readv_and_writev(
    SLOT, (b"W" * 32, R, C),
    {0: ([], [(0, b"a" * 50)], None), 1: ([], [(0, b"a" * 3000)], None)}, [])
""",
    )
    files = [
        {
            str(path.relative_to(tmp_path / who)): path.read_bytes()
            for path in (tmp_path / who / "shares").rglob("*")
            if path.is_file()
        }
        for who in ("ours", "theirs")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 5
