"""Storage servers that misbehave on purpose: a wrapper around any server, its writers and readers.

Knows the server seam and a clock; touches nothing. For tests and drills. A `Faults` counts the
calls of every server it wraps; a rule breaks the n-th one, or each from the n-th on, so a test can
break one call after another until `reached` says that there was no n-th call any more.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from truckee.core.errors import NoSpaceError, ServerGoneError
from truckee.core.storage.api import (
    Allocation,
    Buffer,
    LeaseSecrets,
    ReadVector,
    ServerVersion,
    ShareKind,
    ShareReader,
    ShareWriter,
    StorageServer,
    TestWriteResult,
    TestWriteVectors,
)

T = TypeVar("T")
Call = Callable[[], Coroutine[Deferred[Any], Any, T]]

READS = frozenset({"read", "slot_readv"})
"""The calls whose answers are share bytes; the last four kinds of fault change only these."""


class Kind(Enum):
    """What happens to a call."""

    ERROR = "it fails before it has an effect"
    ERROR_AFTER = "it takes effect, then the answer is lost"
    HANG = "it never answers and has no effect"
    HANG_AFTER = "it takes effect and never answers"
    LATE = "it takes effect and answers late"
    TRUNCATE = "the last byte of what it read is missing"
    FLIP = "one bit of what it read is flipped"
    OTHER = "it reads from another share of the same server"
    NOTHING = "it answers with nothing: no shares, no bytes"


@dataclass(slots=True)
class Rule:
    """Break the `nth` call (from 1) that `calls` and `server` select, and later ones if `forever`.

    `calls` holds names of StorageServer methods, "write", "close", "abort", "read",
    "advise_corrupt_share"; empty selects all. `server` None selects every wrapped server.
    """

    kind: Kind
    nth: int = 1
    calls: frozenset[str] = frozenset()
    server: StorageServer | None = None
    forever: bool = False
    error: Callable[[], Exception] = lambda: ServerGoneError("broken on purpose")
    seconds: float = 5.0
    bit: int = 0
    seen: int = field(default=0, init=False)

    @property
    def reached(self) -> bool:
        """Whether the n-th call was made."""
        return self.seen >= self.nth

    def hits(self, server: StorageServer, call: str) -> bool:
        """Count the call if it is selected, and tell whether it breaks."""
        if self.calls and call not in self.calls:
            return False
        if self.server is not None and self.server is not server:
            return False
        self.seen += 1
        return self.seen == self.nth or (self.forever and self.reached)


class Faults:
    """The rules for a number of servers, and the calls they received."""

    def __init__(self, clock: IReactorTime | None = None) -> None:
        """Take the clock of late answers."""
        self._clock = clock
        self.rules: list[Rule] = []
        self.calls: list[tuple[StorageServer, str]] = []

    def add(self, rule: Rule) -> Rule:
        """Add a rule and return it."""
        self.rules.append(rule)
        return rule

    def wrap(self, server: StorageServer) -> "FaultyServer":
        """Return the same server under these rules."""
        return FaultyServer(self, server)

    async def apply(self, server: StorageServer, name: str, call: Call[T], other: Call[T]) -> T:
        """Make the call as the rules will have it; `other` reads what was not asked for."""
        self.calls.append((server, name))
        broken = [rule for rule in self.rules if rule.hits(server, name)]
        if not broken:
            return await call()
        rule = broken[0]
        match rule.kind:
            case Kind.ERROR:
                raise rule.error()
            case Kind.HANG:
                await Deferred[None]()
            case Kind.ERROR_AFTER:
                await call()
                raise rule.error()
            case Kind.HANG_AFTER:
                await call()
                await Deferred[None]()
            case Kind.LATE:
                result = await call()
                if self._clock is None:
                    raise RuntimeError("late answers need a clock")
                await deferLater(self._clock, rule.seconds)
                return result
            case Kind.OTHER:
                return await other()
        return cast("T", _spoiled(rule, await call()))


class FaultyServer:
    """A StorageServer under the rules of a `Faults`."""

    def __init__(self, faults: Faults, server: StorageServer) -> None:
        self._faults = faults
        self._server = server
        self.full = False
        self.readonly = False
        self.lost: set[int] = set()
        self.corrupt: set[int] = set()

    @property
    def server_id(self) -> bytes:
        """That of the server below."""
        return self._server.server_id

    @property
    def name(self) -> str:
        """That of the server below."""
        return self._server.name

    @property
    def permutation_seed(self) -> bytes:
        """That of the server below."""
        return self._server.permutation_seed

    @property
    def lease_seed(self) -> bytes:
        """That of the server below."""
        return self._server.lease_seed

    async def get_version(self) -> ServerVersion:
        """Return sizes; no room when full or read-only."""

        async def call() -> ServerVersion:
            version = await self._server.get_version()
            if self.full or self.readonly:
                return ServerVersion(0, version.maximum_mutable_share_size, 0)
            return version

        return await self.make("get_version", call)

    async def allocate_buckets(
        self, storage_index: bytes, secrets: LeaseSecrets, shnums: frozenset[int], size: int
    ) -> Allocation:
        """Allocate; nothing when full or read-only."""
        wanted = frozenset[int]() if self.full or self.readonly else shnums

        async def call() -> Allocation:
            got = await self._server.allocate_buckets(storage_index, secrets, wanted, size)
            writers = {n: FaultyWriter(self, each) for n, each in got.writers.items()}
            return Allocation(got.already - self.lost, writers)

        return await self.make("allocate_buckets", call)

    async def get_buckets(self, storage_index: bytes) -> Mapping[int, ShareReader]:
        """Return readers of the shares that are not lost."""

        async def call() -> Mapping[int, ShareReader]:
            readers = await self._server.get_buckets(storage_index)
            return {
                n: FaultyReader(self, n, readers) for n in sorted(readers) if n not in self.lost
            }

        return await self.make("get_buckets", call)

    async def add_lease(self, storage_index: bytes, secrets: LeaseSecrets) -> None:
        """Add or renew leases."""
        await self.make("add_lease", lambda: self._server.add_lease(storage_index, secrets))

    async def slot_readv(
        self, storage_index: bytes, shnums: frozenset[int], vectors: Sequence[ReadVector]
    ) -> Mapping[int, Sequence[bytes]]:
        """Read from mutable shares; the other share is the next one in order."""

        async def call() -> Mapping[int, Sequence[bytes]]:
            got = await self._server.slot_readv(storage_index, shnums, vectors)
            return self._pass_on(got)

        async def other() -> Mapping[int, Sequence[bytes]]:
            got = dict(await self._server.slot_readv(storage_index, frozenset(), vectors))
            order = sorted(got)
            return {n: got[order[(i + 1) % len(order)]] for i, n in enumerate(order)}

        return await self.make("slot_readv", call, other)

    async def slot_testv_and_readv_and_writev(
        self,
        storage_index: bytes,
        write_enabler: bytes,
        secrets: LeaseSecrets,
        changes: Mapping[int, TestWriteVectors],
        vectors: Sequence[ReadVector],
    ) -> TestWriteResult:
        """Test and write; a full server takes no writes at all, a read-only one no new shares."""

        async def call() -> TestWriteResult:
            held = await self._server.slot_readv(storage_index, frozenset(), ())
            if changes and (self.full or (self.readonly and not changes.keys() <= held.keys())):
                raise NoSpaceError("full on purpose")
            got = await self._server.slot_testv_and_readv_and_writev(
                storage_index, write_enabler, secrets, changes, vectors
            )
            return TestWriteResult(got.success, self._pass_on(got.data))

        return await self.make("slot_testv_and_readv_and_writev", call)

    async def advise_corrupt_share(
        self, kind: ShareKind, storage_index: bytes, shnum: int, reason: str
    ) -> None:
        """Report a share."""
        await self.make(
            "advise_corrupt_share",
            lambda: self._server.advise_corrupt_share(kind, storage_index, shnum, reason),
        )

    async def make(self, name: str, call: Call[T], other: Call[T] | None = None) -> T:
        """Make one call under the rules."""
        return await self._faults.apply(self, name, call, other or call)

    def _pass_on(self, data: Mapping[int, Sequence[bytes]]) -> Mapping[int, Sequence[bytes]]:
        return {
            n: [_flipped(each, 0) for each in pieces] if n in self.corrupt else pieces
            for n, pieces in data.items()
            if n not in self.lost
        }


class FaultyWriter:
    """A ShareWriter under the rules of its server."""

    def __init__(self, server: FaultyServer, writer: ShareWriter) -> None:
        self._server = server
        self._writer = writer

    async def write(self, offset: int, data: Buffer) -> None:
        """Take bytes."""
        await self._server.make("write", lambda: self._writer.write(offset, data))

    async def close(self) -> None:
        """Finish the share."""
        await self._server.make("close", self._writer.close)

    async def abort(self) -> None:
        """Discard the share."""
        await self._server.make("abort", self._writer.abort)


class FaultyReader:
    """A ShareReader under the rules of its server."""

    def __init__(
        self, server: FaultyServer, shnum: int, readers: Mapping[int, ShareReader]
    ) -> None:
        self._server = server
        self._shnum = shnum
        self._readers = readers

    async def read(self, offset: int, length: int) -> Buffer:
        """Read bytes; the other share is the next one in order."""

        async def call() -> Buffer:
            data = await self._readers[self._shnum].read(offset, length)
            return _flipped(data, 0) if self._shnum in self._server.corrupt else data

        async def other() -> Buffer:
            order = sorted(self._readers)
            n = order[(order.index(self._shnum) + 1) % len(order)]
            return await self._readers[n].read(offset, length)

        return await self._server.make("read", call, other)

    async def advise_corrupt_share(self, reason: str) -> None:
        """Report this share."""
        await self._server.make(
            "advise_corrupt_share",
            lambda: self._readers[self._shnum].advise_corrupt_share(reason),
        )


def _flipped(data: Buffer, bit: int) -> bytes:
    """Return `data` with one bit changed; the bit's number is taken modulo its length."""
    changed = bytearray(data)
    if changed:
        at = bit % (8 * len(changed))
        changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _spoiled(rule: Rule, result: object) -> object:
    """Return a result with the damage of TRUNCATE, FLIP or NOTHING; other results unchanged."""
    if isinstance(result, bytes | bytearray | memoryview):
        if rule.kind is Kind.NOTHING:
            return b""
        return bytes(result[:-1]) if rule.kind is Kind.TRUNCATE else _flipped(result, rule.bit)
    if isinstance(result, TestWriteResult):
        data = cast("Mapping[int, Sequence[bytes]]", _spoiled(rule, result.data))
        return TestWriteResult(result.success, data)
    if isinstance(result, Mapping):
        if rule.kind is Kind.NOTHING:
            return {}
        return {n: _spoiled_pieces(rule, each) for n, each in result.items()}
    return result


def _spoiled_pieces(rule: Rule, pieces: object) -> object:
    if not isinstance(pieces, list | tuple):
        return pieces
    return [_spoiled(rule, each) for each in pieces]
