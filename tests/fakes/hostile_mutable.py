"""Lies about mutable files, told by servers or by whoever handed out the capability.

Run as a program it plays every case and fails if one ends in anything but the errors it allows;
tests/hostile/test_hostile_mutable.py runs it under an address-space limit.
"""

import contextlib
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from tests.fakes.mutable_grid import Grid, Sink, key, reopened
from truckee.core.crypto import aes, hashes
from truckee.core.errors import (
    AbsurdGeometryError,
    FileTooLargeError,
    NotEnoughSharesError,
    SequenceNumberExhaustedError,
    TruckeeError,
    UncoordinatedWriteError,
    UnrecoverableFileError,
)
from truckee.core.formats import mdmf, sdmf
from truckee.core.mutable.file import MutableFile

CONTENTS = b"some contents " * 20
Case = tuple[str, Callable[[], None]]
UNREADABLE = (UnrecoverableFileError, NotEnoughSharesError)


def made(*, is_mdmf: bool, n: int = 10) -> tuple[Grid, MutableFile]:
    grid = Grid()
    return grid, grid.run(
        MutableFile.create(grid.process(min(3, n), 1, n), CONTENTS, mdmf=is_mdmf, keypair=key(0))
    )


def must_fail(grid: Grid, file: MutableFile, *errors: type[TruckeeError]) -> None:
    """Read whole, in part, and modify: nothing but these errors may come."""
    again = reopened(grid.process(), file)
    for attempt in (
        again.download(),
        again.read(Sink(), 0, 1),
        again.modify(lambda old, first: old + b"x"),
    ):
        try:
            grid.run(attempt, 300, 1.0)
        except errors:
            continue
        raise AssertionError(f"expected {errors}")


def set_fields(layout: object, fields: dict[str, int]) -> Callable[[bytearray], None]:
    """Return a function that overwrites header fields of a share."""
    where = {
        sdmf: {
            "version": (0, ">B"), "seqnum": (1, ">Q"), "k": (57, ">B"), "n": (58, ">B"),
            "segsize": (59, ">Q"), "datalen": (67, ">Q"), "offset0": (75, ">L"),
            "offset1": (79, ">L"), "offset2": (83, ">L"), "offset3": (87, ">L"),
            "offset4": (91, ">Q"), "offset5": (99, ">Q"),
        },
        mdmf: {
            "version": (0, ">B"), "seqnum": (1, ">Q"), "k": (41, ">B"), "n": (42, ">B"),
            "segsize": (43, ">Q"), "datalen": (51, ">Q"),
            **{f"offset{i}": (59 + 8 * i, ">Q") for i in range(8)},
        },
    }[layout]  # fmt: skip

    def change(raw: bytearray) -> None:
        for name, value in fields.items():
            position, form = where[name]
            limit = 2 ** (8 * struct.calcsize(form)) - 1
            struct.pack_into(form, raw, position, min(value, limit))

    return change


def resigned(raw: bytearray, layout: object) -> None:
    """Sign the header anew, as the owner of the key may."""
    prefix = bytes(raw[: layout.PREFIX_SIZE])
    _, sections = layout.decode_header(bytes(raw))
    raw[sections.signature.start : sections.signature.end] = key(0).sign(prefix)


def server_lies() -> Iterator[Case]:
    """Yield headers that a server changed: the signature does not cover for them."""
    lies = [
        {"k": 0}, {"n": 0}, {"k": 255}, {"k": 255, "n": 255}, {"segsize": 0}, {"segsize": 2**64},
        {"datalen": 0}, {"datalen": 2**60}, {"datalen": 2**64}, {"version": 2}, {"version": 255},
        {"segsize": 1}, {"segsize": 2**40, "datalen": 2**40}, {"seqnum": 2**64},
    ]  # fmt: skip
    for layout in (sdmf, mdmf):
        count = 6 if layout is sdmf else 8
        wild = [0, 1, 50, 107, 123, 2**31, 2**40, 2**63, 2**64]
        offsets = [{f"offset{i}": value} for i in range(count) for value in wild]
        offsets += [{f"offset{i}": v for i in range(count)} for v in wild]
        offsets += [{f"offset{i}": 2**40 + i * 1000 for i in range(count)}]
        for lie in [*lies, *offsets]:
            yield f"{layout.__name__} {lie}", lambda la=layout, li=lie: play_server_lie(la, li)


def play_server_lie(layout: object, lie: dict[str, int]) -> None:
    grid, file = made(is_mdmf=layout is mdmf)
    change = set_fields(layout, lie)
    before = grid.snapshot(file)
    for place in sorted(before)[:7]:  # up to N-k: no harm
        change(grid.shares(file)[place])
    assert grid.run(reopened(grid.process(), file).download(), 300, 1.0) == CONTENTS
    for place in sorted(before)[7:]:  # all: an error, or what does not matter (the private key)
        change(grid.shares(file)[place])
    again = reopened(grid.process(), file, readonly=True)
    with contextlib.suppress(UNREADABLE):
        assert grid.run(again.download(), 300, 1.0) == CONTENTS


def signed(layout: object, lie: dict[str, int], *errors: type[TruckeeError]) -> Case:
    """Return a case whose header is signed by the owner of the key."""

    def play() -> None:
        grid, file = made(is_mdmf=layout is mdmf)
        change = set_fields(layout, lie)
        for raw in grid.shares(file).values():
            change(raw)
            raw.extend(bytes(5000))  # else the share would plainly be cut short
            resigned(raw, layout)
        must_fail(grid, file, *errors)

    return f"signed {layout.__name__} {lie}", play


def owner_lies() -> Iterator[Case]:
    """Yield headers with a good signature that ask for too much."""
    end = {"offset6": 2**62, "offset7": 2**64}
    yield signed(mdmf, {"datalen": 2**60, **end}, NotEnoughSharesError, UnrecoverableFileError)
    yield signed(mdmf, {"segsize": 3, "datalen": 2**58, **end}, AbsurdGeometryError)
    huge = 3 * 2**27
    yield signed(mdmf, {"segsize": huge, "datalen": huge * 9, **end}, AbsurdGeometryError)
    yield signed(mdmf, {"datalen": 131073 * 2**25, **end}, NotEnoughSharesError, *UNREADABLE)


def sdmf_too_large(size: int, *errors: type[TruckeeError]) -> Case:
    """Return a case of an SDMF share whose one block is said to be very long."""

    def play() -> None:
        grid, file = made(is_mdmf=False)
        segment_size = -(-size // 3) * 3
        for raw in grid.shares(file).values():
            fields = {"segsize": segment_size, "datalen": size}
            _, sections = sdmf.decode_header(bytes(raw))
            data_end = sections.data.start + segment_size // 3
            fields |= {"offset4": data_end, "offset5": data_end + 1218}
            raw.extend(bytes(5000))
            set_fields(sdmf, fields)(raw)
            resigned(raw, sdmf)
        must_fail(grid, file, *errors)

    return f"signed sdmf of {size} bytes", play


def exhausted() -> None:
    grid, file = made(is_mdmf=False)
    for raw in grid.shares(file).values():
        set_fields(sdmf, {"seqnum": 2**64})(raw)
        resigned(raw, sdmf)
    again = reopened(grid.process(), file)
    assert grid.run(again.download()) == CONTENTS
    for attempt in (again.overwrite(b"x"), again.modify(lambda old, first: b"x")):
        try:
            grid.run(attempt)
        except SequenceNumberExhaustedError:
            continue
        raise AssertionError("a sequence number beyond the last was written")


def long_key() -> None:
    grid, file = made(is_mdmf=False)
    for raw in grid.shares(file).values():
        share = sdmf.SdmfShare.decode(bytes(raw))
        raw[:] = sdmf.SdmfShare(
            share.header, bytes(65536), share.signature, share.chain, share.block_hash,
            share.block, share.encprivkey,
        ).encode()  # fmt: skip
    must_fail(grid, file, UnrecoverableFileError)


def long_parts() -> None:
    for _part in ("signature", "encprivkey"):
        grid, file = made(is_mdmf=False)
        for raw in grid.shares(file).values():
            share = sdmf.SdmfShare.decode(bytes(raw))
            raw[:] = replace(share, pubkey=bytes(65536)).encode()
    must_fail(grid, file, UnrecoverableFileError)


class Flood:
    """A server that lists shares without end, or answers with more than was asked."""

    def __init__(self, server: object, shares: int, extra: int) -> None:
        self._server = server
        self._shares = shares
        self._extra = bytes(extra)

    def __getattr__(self, name: str) -> object:
        return getattr(self._server, name)

    async def slot_readv(self, si, shnums, vectors):
        got = dict(await self._server.slot_readv(si, shnums, vectors))
        got = {n: [piece + self._extra for piece in pieces] for n, pieces in got.items()}
        junk = [b"\0" * 200 for _ in vectors]
        return {**dict.fromkeys(range(self._shares), junk), **got}


def flood(shares: int, extra: int) -> Case:
    """Return a case of seven servers that send far too much."""

    def play() -> None:
        grid, file = made(is_mdmf=False)
        context = grid.process()
        servers = [
            Flood(server, shares, extra) if i < 7 else server
            for i, server in enumerate(grid.servers)
        ]
        context.servers = lambda: servers
        assert grid.run(reopened(context, file).download(), 300, 1.0) == CONTENTS
        with suppress(UncoordinatedWriteError):  # a server can always claim that others wrote
            grid.run(reopened(context, file).modify(lambda old, first: old + b"x"), 300, 1.0)

    return f"{shares} shares listed, {extra} bytes too many", play


def wide() -> None:
    """Play 255 of 255, which is legal: it must work."""
    grid = Grid(5)
    file = grid.run(MutableFile.create(grid.process(255, 5, 255), CONTENTS, mdmf=True))
    assert grid.run(reopened(grid.process(), file).download()) == CONTENTS
    grid.run(reopened(grid.process(happy=5), file).overwrite(b"z"))
    assert grid.run(reopened(grid.process(), file).download()) == b"z"


def broken_private_key() -> None:
    """Play a private key that hashes to the write key but is no RSA key, or a wrong one."""
    for der in (b"", b"0", bytes(4096), key(1).private_der):
        grid = Grid()
        pair = key(0)
        file = grid.run(MutableFile.create(grid.process(), CONTENTS, mdmf=False, keypair=pair))
        writekey = hashes.mutable_writekey(der)
        readkey = hashes.mutable_readkey(writekey)
        cap = type(file.cap)(writekey, file.cap.fingerprint)
        for store in grid.stores:
            slot = store.shares.pop(file.cap.storage_index)
            for share in slot.values():
                decoded = sdmf.SdmfShare.decode(bytes(share.data))
                share.data[:] = replace(decoded, encprivkey=aes.ctr(writekey, der)).encode()
            store.shares[hashes.mutable_storage_index(readkey)] = slot
        stranger = MutableFile(grid.process(), cap)
        try:
            grid.run(stranger.overwrite(b"x"), 60)
        except UnrecoverableFileError:
            continue
        raise AssertionError("a key that is not the right one was used")


def cases() -> Iterator[Case]:
    """Yield every case."""
    yield from server_lies()
    yield from owner_lies()
    yield sdmf_too_large(64 * 2**20 + 1, FileTooLargeError)
    yield sdmf_too_large(2**31, FileTooLargeError)
    yield sdmf_too_large(60 * 2**20, NotEnoughSharesError, UnrecoverableFileError)
    yield "sequence number exhausted", exhausted
    yield "64 KiB public key", long_key
    yield "64 KiB signature and private key", long_parts
    yield flood(100_000, 0)
    yield flood(0, 16 * 2**20)
    yield "255 of 255", wide
    yield "broken private key", broken_private_key


def main() -> None:
    """Play all cases under 1 GiB of addresses; print the slow ones and the end."""
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    count = 0
    for name, play in cases():
        start = time.process_time()
        try:
            play()
        except BaseException:
            sys.stderr.write(f"case: {name}\n")
            raise
        took = time.process_time() - start
        if took > 2:
            sys.stdout.write(f"slow: {name} {took:.1f} s\n")
        count += 1
    sys.stdout.write(f"played {count}\n")


if __name__ == "__main__":
    main()
