"""Checks the shares of an immutable file: asks who has them, or reads every byte that counts.

Knows the share layout and hash trees, the storage seam, the CPU door and a clock; touches servers
through the seam only. Needs no key. The pure part, `inspect_share`, is a generator: it yields the
ranges it wants to see next and is sent the answers; it holds a few MB whatever a share claims.

A share is good only if its block tree hangs from the share hash tree at its own number. Without
that tie a server could pass off forged blocks, or another share, as good.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from truckee.core.cpu import Cpu
from truckee.core.crypto.hashes import block_hash, tree_node_hash, ueb_hash
from truckee.core.download.search import usable_shares
from truckee.core.download.share import HEADER_READ, UEB_READ, Range, Spans, merge
from truckee.core.download.slabs import SLAB, Slab
from truckee.core.errors import FormatError, ServerGoneError, StorageError, UnknownVersionError
from truckee.core.formats.caps import ChkReadCap, ChkVerifyCap
from truckee.core.formats.hashtree import HASH_SIZE, PartialTree, padded_leaves
from truckee.core.formats.immutable_share import Layout, decode_chain
from truckee.core.formats.ueb import Ueb
from truckee.core.storage.api import ShareReader, StorageServer
from truckee.core.storage.deadline import CALL_TIMEOUT, QUERY_TIMEOUT, within

_log = Logger()

READ_SIZE = 4 << 20  # bytes of blocks in one request
SERVERS_AT_ONCE = 10
SHARES_AT_ONCE = 4

Inspection = Generator[Sequence[Range], Spans, None]


class Verdict(Enum):
    """What became of one share."""

    GOOD = "good"
    CORRUPT = "corrupt"
    INCOMPATIBLE = "incompatible"
    UNREACHABLE = "unreachable"


# one share, pure


def inspect_share(cap: ChkVerifyCap, shnum: int) -> Inspection:
    """Go through one share: yields ranges, is sent the answers, returns when the share is good.

    Raises UnknownVersionError for an incompatible share, another FormatError for a corrupt one.
    Each step is up to 3 ms of CPU work for each 4 MB.
    """
    spans = yield [Range(0, HEADER_READ)]
    layout = Layout.decode(spans.some(0, HEADER_READ))
    spans = yield [Range(layout.ueb, UEB_READ)]
    ueb = _check_ueb(cap, layout, spans)
    spans = yield [Range(layout.share_chain, layout.ueb - layout.share_chain)]
    root = _check_chain(cap, layout, ueb, spans, shnum)
    for first in range(0, padded_leaves(ueb.segments.count), SLAB):  # padding leaves count, too
        slab = Slab.holding(ueb.segments.count, first)
        spans = yield from _ask(_tree_ranges(slab, layout.ciphertext_tree))
        _check_tree(slab, layout.ciphertext_tree, ueb.ciphertext_root, spans)
        spans = yield from _ask(_tree_ranges(slab, layout.block_tree))
        leaves = _check_tree(slab, layout.block_tree, root, spans)
        yield from _inspect_blocks(layout, ueb, slab, leaves)


def _ask(ranges: Sequence[Range]) -> Generator[Sequence[Range], Spans, Spans]:
    return (yield merge(ranges))


def _check_ueb(cap: ChkVerifyCap, layout: Layout, spans: Spans) -> Ueb:
    start = layout.ueb + layout.ueb_length_size
    length = layout.decode_ueb_length(spans.some(layout.ueb, layout.ueb_length_size))
    raw = bytes(_need(spans, start, length))
    if ueb_hash(raw) != cap.ueb_hash:
        raise FormatError("the URI extension block fails its hash")
    return Ueb.decode(raw, cap.needed_shares, cap.total_shares, cap.size)


def _check_chain(cap: ChkVerifyCap, layout: Layout, ueb: Ueb, spans: Spans, shnum: int) -> bytes:
    """Return the root of this share's block tree."""
    raw = _need(spans, layout.share_chain, layout.ueb - layout.share_chain)
    tree = PartialTree(cap.total_shares, ueb.share_root)
    tree.add(decode_chain(raw, cap.total_shares))
    root = tree.leaf(shnum)
    if root is None:
        raise FormatError("the chain of share hashes does not reach this share")
    return root


def _need(spans: Spans, offset: int, length: int) -> memoryview:
    found = spans.get(offset, length)
    if found is None:
        raise FormatError("the share is cut short")
    return found


def _rows(slab: Slab) -> Iterator[tuple[int, int]]:
    """Yield first node and width of each row of the slab, from the leaves to its top."""
    first, width = slab.first_node, slab.width
    while width:
        yield first, width
        first, width = (first - 1) // 2, width // 2


def _tree_ranges(slab: Slab, start: int) -> list[Range]:
    """Return all nodes of the slab, and those from it to the root with their siblings."""
    ranges = [Range(start + first * HASH_SIZE, width * HASH_SIZE) for first, width in _rows(slab)]
    pairs = [uncle - 1 if uncle % 2 == 0 else uncle for uncle in slab.uncles]
    ranges += [Range(start + left * HASH_SIZE, 2 * HASH_SIZE) for left in pairs]
    return [*ranges, Range(start, HASH_SIZE)]


def _check_tree(slab: Slab, start: int, root: bytes, spans: Spans) -> list[bytes]:
    """Return the leaves; raise FormatError unless every node on and below the way is right."""

    def stored(first: int, width: int) -> list[bytes]:
        raw = bytes(_need(spans, start + first * HASH_SIZE, width * HASH_SIZE))
        return [raw[i : i + HASH_SIZE] for i in range(0, len(raw), HASH_SIZE)]

    leaves = row = stored(slab.first_node, slab.width)
    for first, width in list(_rows(slab))[1:]:
        row = [tree_node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        if row != stored(first, width):
            raise FormatError("a hash tree contradicts itself")
    value = row[0]
    for uncle in slab.uncles:
        left = uncle - 1 if uncle % 2 == 0 else uncle
        pair = stored(left, 2)
        if pair[uncle == left] != value:
            raise FormatError("a hash tree contradicts itself")
        value = tree_node_hash(*pair)
    if value != root or stored(0, 1) != [root]:
        raise FormatError("a hash tree has another root than it must have")
    return leaves


def _inspect_blocks(layout: Layout, ueb: Ueb, slab: Slab, leaves: Sequence[bytes]) -> Inspection:
    segments = ueb.segments
    size = segments.block_size
    first = slab.number * SLAB
    end = min(first + SLAB, segments.count)
    step = max(1, READ_SIZE // size)
    for start in range(first, end, step):
        numbers = range(start, min(start + step, end))
        length = (len(numbers) - 1) * size + segments.block_size_of(numbers[-1])
        spans = yield [Range(layout.data + start * size, length)]
        raw = _need(spans, layout.data + start * size, length)
        for i, segnum in enumerate(numbers):
            if block_hash(raw[i * size : (i + 1) * size]) != leaves[segnum - first]:
                raise FormatError("a block fails its hash")


def inspect_bytes(cap: ChkVerifyCap, shnum: int, data: bytes) -> Verdict:
    """Return the verdict on a whole share in memory."""
    inspection = inspect_share(cap, shnum)
    try:
        ranges = next(inspection)
        while True:
            spans = Spans()
            for r in ranges:
                spans.add(r.offset, data[r.offset : r.end])
            ranges = inspection.send(spans)
    except StopIteration:
        return Verdict.GOOD
    except UnknownVersionError:
        return Verdict.INCOMPATIBLE
    except FormatError:
        return Verdict.CORRUPT


# all shares


@dataclass(frozen=True, slots=True)
class ShareOutcome:
    """The verdict on one share of one server; `reason` says what was wrong."""

    server_id: bytes
    server_name: str
    shnum: int
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CheckResults:
    """What a check found; servers that did not answer are named in `silent`."""

    needed_shares: int
    total_shares: int
    outcomes: Sequence[ShareOutcome]
    silent: Sequence[str]

    @property
    def sharemap(self) -> Mapping[int, frozenset[bytes]]:
        """The servers of each share number that is good somewhere."""
        found: dict[int, set[bytes]] = {}
        for outcome in self.outcomes:
            if outcome.verdict is Verdict.GOOD:
                found.setdefault(outcome.shnum, set()).add(outcome.server_id)
        return {shnum: frozenset(servers) for shnum, servers in sorted(found.items())}

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many shares got each verdict."""
        return Counter(outcome.verdict for outcome in self.outcomes)

    @property
    def good(self) -> int:
        """The number of distinct good share numbers."""
        return len(self.sharemap)

    @property
    def healthy(self) -> bool:
        """Whether every share number is good somewhere."""
        return self.good >= self.total_shares

    @property
    def recoverable(self) -> bool:
        """Whether the file can be read."""
        return self.good >= self.needed_shares


async def check(
    cap: ChkReadCap | ChkVerifyCap,
    servers: Sequence[StorageServer],
    *,
    verify: bool,
    cpu: Cpu,
    clock: IReactorTime,
) -> CheckResults:
    """Ask every server for its shares; with `verify` read them all and check every hash.

    Never fails because of a server; a silent one costs its time limit. Corrupt shares are reported
    to their servers.
    """
    return await _Check(cap.verify_cap(), verify, cpu, clock).run(servers)


class _Check:
    def __init__(
        self,
        cap: ChkVerifyCap,
        verify: bool,
        cpu: Cpu,
        clock: IReactorTime,
    ) -> None:
        self._cap = cap
        self._verify = verify
        self._cpu = cpu
        self._clock = clock
        self._outcomes: list[ShareOutcome] = []
        self._silent: list[str] = []
        self._servers_at_once = DeferredSemaphore(SERVERS_AT_ONCE)
        self._shares_at_once = DeferredSemaphore(SHARES_AT_ONCE)

    async def run(self, servers: Sequence[StorageServer]) -> CheckResults:
        await gatherResults(
            [Deferred.fromCoroutine(self._ask_server(server)) for server in servers],
            consumeErrors=True,
        )
        cap = self._cap
        outcomes = sorted(self._outcomes, key=lambda o: (o.shnum, o.server_id))
        return CheckResults(cap.needed_shares, cap.total_shares, outcomes, sorted(self._silent))

    async def _ask_server(self, server: StorageServer) -> None:
        await self._servers_at_once.acquire()
        try:
            answer = await within(
                self._clock, QUERY_TIMEOUT, server.get_buckets(self._cap.storage_index)
            )
            shares = usable_shares(answer, self._cap.total_shares)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a server does, others are checked
            if not isinstance(error, StorageError):
                _log.failure("a share query failed in an unexpected way")
            self._silent.append(server.name)
            return
        finally:
            self._servers_at_once.release()
        for shnum, remote in shares.items():
            await self._judge(server, shnum, remote)

    async def _judge(self, server: StorageServer, shnum: int, remote: ShareReader) -> None:
        verdict, reason = Verdict.GOOD, ""
        if self._verify:
            await self._shares_at_once.acquire()
            try:
                await self._inspect(shnum, remote)
            except CancelledError:
                raise
            except UnknownVersionError as error:
                verdict, reason = Verdict.INCOMPATIBLE, str(error)
            except FormatError as error:
                verdict, reason = Verdict.CORRUPT, str(error)
                await self._complain(remote, reason)
            except StorageError as error:
                verdict, reason = Verdict.UNREACHABLE, type(error).__name__
            except Exception as error:  # noqa: BLE001 - one broken server must not end the check
                _log.failure("reading a share failed in an unexpected way")
                verdict, reason = Verdict.UNREACHABLE, type(error).__name__
            finally:
                self._shares_at_once.release()
        self._outcomes.append(ShareOutcome(server.server_id, server.name, shnum, verdict, reason))

    async def _inspect(self, shnum: int, remote: ShareReader) -> None:
        inspection = inspect_share(self._cap, shnum)
        ranges: Sequence[Range] | None = next(inspection)
        while ranges is not None:
            spans = Spans()
            for r in ranges:
                data = await within(self._clock, CALL_TIMEOUT, remote.read(r.offset, r.length))
                if not isinstance(data, bytes | bytearray | memoryview):
                    raise ServerGoneError("the answer to a read is not bytes")
                spans.add(r.offset, memoryview(data)[: r.length])
            ranges = await self._cpu.run(_step, inspection, spans)

    async def _complain(self, remote: ShareReader, reason: str) -> None:
        try:
            await within(self._clock, QUERY_TIMEOUT, remote.advise_corrupt_share(reason))
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a report that fails changes nothing
            _log.info("a corruption report failed", error=type(error).__name__)


def _step(inspection: Inspection, spans: Spans) -> Sequence[Range] | None:
    """Return what the inspection wants next; None when it is over."""
    try:
        return inspection.send(spans)
    except StopIteration:
        return None
