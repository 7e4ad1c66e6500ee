"""Hostile immutable files, each read under an address limit in a process of its own.

Run as ``python -m tests.hostile.immutable_cases NAME``; prints ``ok`` when the case ends as it
must. Started by test_hostile_immutable.py.
"""

import random
import resource
import sys
import time

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.fakes.chk_shares import encode_chk, make_servers, place, spread, stream
from truckee.core.checker import Verdict, check
from truckee.core.cpu import InlineCpu
from truckee.core.crypto.hashes import ueb_hash
from truckee.core.download.cache import ReaderCache
from truckee.core.errors import (
    AbsurdGeometryError,
    CorruptShareError,
    DownloadError,
    NoSharesError,
    NotEnoughSharesError,
)
from truckee.core.formats.caps import ChkReadCap
from truckee.core.formats.immutable_share import Layout
from truckee.core.formats.segments import Segments
from truckee.core.formats.ueb import Ueb

LIMIT = 1 << 30
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


class Outcome:
    """What a coroutine came to on a clock that is turned until it ends."""

    def __init__(self, coroutine, clock, seconds=200):
        results = []
        d = Deferred.fromCoroutine(coroutine)
        d.addBoth(results.append)
        for _ in range(seconds):
            if results:
                break
            clock.advance(1)
        (self.result,) = results

    def fails_with(self, *errors):
        assert self.result.type in errors, self.result

    def gives(self, value):
        assert self.result == value, self.result


class Remote:
    """A share that serves what a function makes up, as much as is asked for."""

    def __init__(self, make, server):
        self.make = make
        self.server = server

    async def read(self, offset, length):
        server = self.server
        server.in_flight += 1
        server.most = max(server.most, server.in_flight)
        try:
            if server.wait is not None:
                await server.wait()
            return self.make(offset, length)
        finally:
            server.in_flight -= 1

    async def advise_corrupt_share(self, reason):
        pass


class Server:
    """A server that lists whatever shares it likes."""

    permutation_seed = lease_seed = b"s" * 20
    in_flight = most = 0
    wait = None

    def __init__(self, makers, name=b"x"):
        self.server_id = name
        self.name = name.hex()
        self.makers = makers

    async def get_buckets(self, storage_index):
        return {n: Remote(make, self) for n, make in self.makers.items()}


def reader_for(cap, servers, clock):
    return ReaderCache(lambda: servers, InlineCpu(), clock).get(cap)


def patched(parts, background=0):
    """Return a maker of endless bytes with some parts put in their places."""

    def make(offset, length):
        data = bytearray([background]) * length
        for start, part in parts.items():
            low, high = max(start, offset), min(start + len(part), offset + length)
            if low < high:
                data[low - offset : high - offset] = part[low - start : high - start]
        return bytes(data)

    return make


def endless_file(size, segment_size, k=3, n=10):
    """Return a cap and endless shares with an authentic UEB and forged trees."""
    segments = Segments(size, k, n, segment_size)
    ueb = Ueb(segments, None, b"c" * 32, b"s" * 32).encode()
    layout = Layout.for_file(segments)
    cap = ChkReadCap(b"k" * 16, ueb_hash(ueb), k, n, size)
    maker = patched({0: layout.encode(), layout.ueb: layout.encode_ueb(ueb)})
    return cap, maker


@case
def a_cap_claims_2_to_the_60_and_there_is_nothing(clock):
    for size in (2**60, 2**63 - 1):
        cap = ChkReadCap(b"k" * 16, b"u" * 32, 3, 10, size)
        reader = reader_for(cap, make_servers(10, clock)[1], clock)
        Outcome(reader.read_range(2**59, 65536), clock).fails_with(NoSharesError)


@case
def a_cap_claims_2_to_the_60_and_the_shares_are_small(clock):
    file = encode_chk(stream("a", 5000), claimed_size=2**60)
    stores, servers = make_servers(10, clock)
    spread(stores, file)
    reader = reader_for(file.cap, servers, clock)
    Outcome(reader.read_range(0, 1), clock).fails_with(CorruptShareError, AbsurdGeometryError)


@case
def a_file_of_2_to_the_60_has_forged_trees(clock):
    cap, maker = endless_file(2**60, 3 << 20)
    servers = [Server(dict.fromkeys(range(10), maker))]
    for offset in (0, 2**59 + 12345):
        reader = reader_for(cap, servers, clock)
        Outcome(reader.read_range(offset, 65536), clock).fails_with(NotEnoughSharesError)


@case
def a_file_of_2_to_the_60_with_forged_trees_is_verified(clock):
    cap, maker = endless_file(2**60, 3 << 20)
    servers = [Server(dict.fromkeys(range(10), maker))]
    found = Outcome(check(cap, servers, verify=True, cpu=InlineCpu(), clock=clock), clock).result
    assert found.counts == {Verdict.CORRUPT: 10}


@case
def a_segment_of_1_gib(clock):
    ueb = b"".join(
        b"%s:%d:%s," % (key, len(value), value)
        for key, value in [
            (b"crypttext_root_hash", b"c" * 32),
            (b"segment_size", b"%d" % (1 << 30)),
            (b"share_root_hash", b"s" * 32),
        ]
    )
    cap = ChkReadCap(b"k" * 16, ueb_hash(ueb), 1, 1, 1 << 40)
    layout = Layout.for_file(Segments(1 << 40, 1, 1, 1 << 20))
    maker = patched({0: layout.encode(), layout.ueb: layout.encode_ueb(ueb)})
    reader = reader_for(cap, [Server({0: maker})], clock)
    for _ in range(2):
        Outcome(reader.read_range(0, 1), clock).fails_with(AbsurdGeometryError)


@case
def two_to_the_60_segments_of_one_byte(clock):
    ueb = b"".join(
        b"%s:%d:%s," % (key, len(value), value)
        for key, value in [
            (b"crypttext_root_hash", b"c" * 32),
            (b"segment_size", b"1"),
            (b"share_root_hash", b"s" * 32),
        ]
    )
    cap = ChkReadCap(b"k" * 16, ueb_hash(ueb), 1, 1, 1 << 60)
    layout = Layout.for_file(Segments(1 << 60, 1, 1, 1 << 20))
    maker = patched({0: layout.encode(), layout.ueb: layout.encode_ueb(ueb)})
    reader = reader_for(cap, [Server({0: maker})], clock)
    Outcome(reader.read_range(0, 1), clock).fails_with(AbsurdGeometryError)


@case
def segments_of_one_byte(clock):
    file = encode_chk(stream("a", 20_000), 1, 2, 1)
    stores, servers = make_servers(2, clock)
    spread(stores, file)
    reader = reader_for(file.cap, servers, clock)
    Outcome(reader.read_range(0, 20_000), clock).gives(file.plaintext)


@case
def a_segment_of_100_mib(clock):
    file = encode_chk(bytes(100 << 20), 1, 1, 100 << 20)
    stores, servers = make_servers(1, clock)
    spread(stores, file)
    reader = reader_for(file.cap, servers, clock)
    Outcome(reader.read_range(1000, 10), clock).gives(bytes(10))


@case
def two_hundred_fifty_six_of_256(clock):
    file = encode_chk(stream("a", 300_000), 256, 256, 100_000)
    servers = []
    shared = Server({})
    for shnum, data in file.shares.items():
        server = Server({}, b"%d" % shnum)
        server.makers = {shnum: lambda offset, length, data=data: data[offset : offset + length]}
        servers.append(server)

    async def wait():
        d = Deferred()
        clock.callLater(1, d.callback, None)
        await d

    shared.wait = wait

    class OneCount(Server):
        async def get_buckets(self, storage_index):
            return {n: Remote(make, shared) for n, make in self.makers.items()}

    counted = [OneCount(server.makers, server.server_id) for server in servers]
    reader = reader_for(file.cap, counted, clock)
    Outcome(reader.read_range(0, 300_000), clock).gives(file.plaintext)
    assert 32 < shared.most <= 64, shared.most


@case
def absurd_share_numbers(clock):
    file = encode_chk(stream("a", 5000))
    good = {n: patched({0: data}) for n, data in file.shares.items()}
    bad = dict.fromkeys([-1, 10, 256, 10**30, "0", None, 1.5], patched({}))
    bad |= dict.fromkeys(range(10, 100_000), patched({}))
    reader = reader_for(file.cap, [Server({**bad, **good})], clock)
    Outcome(reader.read_range(0, 5000), clock).gives(file.plaintext)
    found = Outcome(
        check(file.cap, [Server({**bad, **good})], verify=True, cpu=InlineCpu(), clock=clock),
        clock,
    ).result
    assert found.good == 10
    assert len(found.outcomes) == 10


@case
def answers_of_the_wrong_kind(clock):
    file = encode_chk(stream("a", 5000))
    answers = [None, "text", 7, [], b"", bytes(100_000), memoryview(b"abc")]
    for answer in answers:
        bad = Server(dict.fromkeys(range(7), lambda offset, length, a=answer: a), b"bad")
        good = Server({n: patched({0: file.shares[n]}) for n in (3, 8, 9)}, b"good")
        reader = reader_for(file.cap, [bad, good], clock)
        Outcome(reader.read_range(0, 5000), clock).gives(file.plaintext)


@case
def random_headers(clock):
    file = encode_chk(stream("a", 5000), 3, 10, 1024)
    dice = random.Random(7)
    stores, servers = make_servers(10, clock)
    for _ in range(300):
        for shnum, store in enumerate(stores):
            data = bytearray(file.shares[shnum])
            for _ in range(dice.randrange(1, 5)):
                start = dice.randrange(0x24 if dice.random() < 0.8 else len(data))
                width = dice.choice([1, 2, 4, 8])
                data[start : start + width] = dice.choice(
                    [
                        bytes(width),
                        b"\xff" * width,
                        b"\x7f" + b"\xff" * (width - 1),
                        dice.randbytes(width),
                    ]
                )
            if dice.random() < 0.3:
                data[3] = 2
            place(store, file.cap.storage_index, shnum, bytes(data))
        result = Outcome(reader_for(file.cap, servers, clock).read_range(0, 5000), clock).result
        if isinstance(result, bytes):
            assert result == file.plaintext
        else:
            assert issubclass(result.type, DownloadError), result
        Outcome(check(file.cap, servers, verify=True, cpu=InlineCpu(), clock=clock), clock)


def main():
    name = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    started = time.monotonic()
    CASES[name](Clock())
    assert time.monotonic() - started < 30
    print("ok")


if __name__ == "__main__":
    main()
