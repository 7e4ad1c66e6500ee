"""Asking servers what they hold of a slot, and for its private key: the shell of `servermap`.

Knows the calls and their time limits; touches servers, worker pool and clock.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twisted.internet.defer import DeferredQueue
from twisted.logger import Logger

from truckee.core.crypto import aes, rsa
from truckee.core.crypto.hashes import mutable_fingerprint, mutable_writekey
from truckee.core.errors import (
    FormatError,
    ServerTimeoutError,
    StorageError,
    TruckeeError,
    UnrecoverableFileError,
)
from truckee.core.formats.mutable_share import Section
from truckee.core.mutable import heads
from truckee.core.mutable.context import MutableContext, Roster, Slot
from truckee.core.mutable.servermap import (
    Answered,
    Copy,
    Event,
    Expired,
    Failed,
    Mode,
    Servermap,
    Survey,
    Waited,
)
from truckee.core.storage.api import ReadVector, ShareKind, StorageServer
from truckee.core.storage.deadline import CALL_TIMEOUT, QUERY_TIMEOUT, within
from truckee.core.tasks import Tasks

_log = Logger()

MAX_SHARES_HEARD = 256
"""Shares of one slot that are looked at per server; a list without end ends here."""

PATIENCE = 1.0
"""Seconds after which a silent server no longer keeps others from being asked."""

SUSPECT_TIMEOUT = 2.0
"""Seconds for a server that let a call run out of time less than a minute ago."""

_RECORDED = 75  # bytes of a bad share that a later write tests for

_Heads = dict[int, bytes]


def advise(
    context: MutableContext, server: StorageServer, slot: Slot, shnum: int, reason: str
) -> None:
    """Tell a server, beside other work, that a share failed its checks."""

    async def tell() -> None:
        try:
            await within(
                context.clock,
                QUERY_TIMEOUT,
                server.advise_corrupt_share(ShareKind.MUTABLE, slot.storage_index, shnum, reason),
            )
        except StorageError:
            _log.debug("a server did not take a corruption report", server=server.name)

    _log.warn(
        "corrupt mutable share {shnum} on {server}: {reason}",
        shnum=shnum,
        server=server.name,
        reason=reason,
    )
    _ = context.background.start(tell())


async def survey(
    context: MutableContext,
    slot: Slot,
    roster: Roster,
    mode: Mode,
    heard: Callable[[Sequence[Copy]], None] = lambda _: None,
) -> Servermap:
    """Return which versions lie where. An empty map is no error; takes at most 60 s.

    `heard` is told of the good copies as they are found.
    """
    k, n = context.encoding.needed_shares, context.encoding.total_shares
    machine = Survey(roster.order, mode, k, n)
    events: DeferredQueue[Event | _Heard] = DeferredQueue()

    async def ask(server: StorageServer) -> None:
        event: Event | _Heard = Failed(server.server_id)
        try:
            event = _Heard(server, await _read_heads(context, slot, server))
        except TruckeeError as error:
            _log.info("no answer from {server}: {error}", server=server.name, error=error)
        finally:
            events.put(event)

    def tick() -> None:
        events.put(Waited())
        timers[0] = context.clock.callLater(PATIENCE, tick)

    async with Tasks() as tasks:
        timers = [
            context.clock.callLater(PATIENCE, tick),
            context.clock.callLater(CALL_TIMEOUT, events.put, Expired()),
        ]
        try:
            wanted = machine.begin()
            while not machine.done:
                for server_id in wanted:
                    _ = tasks.start(ask(roster.by_id[server_id]))
                event = await events.get()
                if isinstance(event, _Heard):
                    event = await _judge(context, slot, event)
                    heard(event.copies)
                wanted = machine.handle(event)
        finally:
            for timer in timers:
                if timer.active():
                    timer.cancel()
    return machine.map


class _Heard:
    """What a server sent; nothing of it is checked yet."""

    __slots__ = ("heads", "server")

    def __init__(self, server: StorageServer, heads: _Heads) -> None:
        self.server = server
        self.heads = heads


async def _read_heads(context: MutableContext, slot: Slot, server: StorageServer) -> _Heads:
    """Return the first bytes of each share; more than usual where the header says so."""
    limit = SUSPECT_TIMEOUT if context.is_suspect(server) else QUERY_TIMEOUT
    read = partial(server.slot_readv, slot.storage_index)
    vector = ReadVector(0, heads.HEAD_SIZE)
    try:
        answer = await within(context.clock, limit, read(frozenset(), [vector]))
        found = _first(answer, vector.length)
        for shnum, raw in found.items():
            need = _missing(raw)
            if need:
                vector = ReadVector(0, need)
                answer = await within(context.clock, limit, read(frozenset([shnum]), [vector]))
                found[shnum] = _first(answer, need).get(shnum, raw)
    except ServerTimeoutError:
        context.suspect(server)
        raise
    return found


def _first(answer: Mapping[int, Sequence[bytes]], length: int) -> _Heads:
    """Return the one answer per share of a read with one vector, no longer than was asked."""
    shnums = sorted(answer)
    if len(shnums) > MAX_SHARES_HEARD:
        _log.warn("a server lists {count} shares of one slot", count=len(shnums))
    heard = shnums[:MAX_SHARES_HEARD]
    return {shnum: bytes(answer[shnum][0][:length]) for shnum in heard if answer[shnum]}


def _missing(raw: bytes) -> int:
    """Return the bytes to read where the usual ones do not reach, else 0."""
    if len(raw) != heads.HEAD_SIZE:
        return 0
    try:
        need = heads.bytes_needed(raw)
    except FormatError:
        return 0
    return need if need > len(raw) else 0


async def _judge(context: MutableContext, slot: Slot, heard: _Heard) -> Answered:
    """Return what a server sent, checked; report the shares that fail."""
    claims: dict[int, heads.Claim] = {}
    bad: dict[int, str] = {}
    for shnum, raw in heard.heads.items():
        try:
            whole = len(raw) < heads.HEAD_SIZE
            claims[shnum] = heads.claim(raw, shnum, slot.fingerprint, whole=whole)
        except TruckeeError as error:
            bad[shnum] = str(error)
    unseen = {
        digest: claim
        for digest, claim in ((claim.digest, claim) for claim in claims.values())
        if digest not in context.seen
    }
    if unseen:
        verdicts = await context.cpu.run(heads.verify, list(unseen.values()))
        for digest, good in zip(unseen, verdicts, strict=True):
            if good:
                context.seen.add(digest)
        forged = {d for d, good in zip(unseen, verdicts, strict=True) if not good}
        bad.update({s: "wrong signature" for s, c in claims.items() if c.digest in forged})
    for shnum, reason in bad.items():
        advise(context, heard.server, slot, shnum, reason)
    server_id = heard.server.server_id
    copies = [
        Copy(server_id, shnum, claim.header, claim.sections, claim.head)
        for shnum, claim in claims.items()
        if shnum not in bad
    ]
    return Answered(server_id, copies, {shnum: heard.heads[shnum][:_RECORDED] for shnum in bad})


async def read_sections(
    context: MutableContext,
    server: StorageServer,
    slot: Slot,
    shnum: int,
    sections: Sequence[Section],
) -> list[bytes]:
    """Return ranges of one share, cut where it ends; raise a StorageError."""
    found: list[bytes] = []
    for i in range(0, len(sections), _MAX_VECTORS):
        vectors = [ReadVector(s.start, s.size) for s in sections[i : i + _MAX_VECTORS]]
        answer = await within(
            context.clock,
            CALL_TIMEOUT,
            server.slot_readv(slot.storage_index, frozenset([shnum]), vectors),
        )
        pieces = answer.get(shnum, ())
        found += [bytes(p[: v.length]) for p, v in zip(pieces, vectors, strict=False)]
        found += [b""] * (len(vectors) - len(pieces))
    return found


_MAX_VECTORS = 28  # a server may refuse more than 30


async def key_pair(
    context: MutableContext, slot: Slot, roster: Roster, found: Servermap
) -> rsa.KeyPair:
    """Return the key pair of a slot: remembered, or read from the first share that has it right.

    Raises NotWriteableError for a read capability, UnrecoverableFileError when no share has it.
    """
    writekey = slot.require_writekey()
    known = context.pairs.get(writekey)
    if known is not None and mutable_fingerprint(known.public_der) == slot.fingerprint:
        return known
    for copy in list(found.copies.values()):
        pair = await _key_from(context, slot, roster, copy, writekey)
        if pair is not None:
            context.pairs.put(writekey, pair)
            return pair
    raise UnrecoverableFileError("no share holds the private key of the mutable file")


async def _key_from(
    context: MutableContext, slot: Slot, roster: Roster, copy: Copy, writekey: bytes
) -> rsa.KeyPair | None:
    section, pubkey = copy.sections.encprivkey, copy.sections.pubkey.cut(copy.head)
    server = roster.by_id[copy.server_id]
    if section.end <= len(copy.head):
        encrypted = section.cut(copy.head)
    else:
        try:
            (encrypted,) = await read_sections(context, server, slot, copy.shnum, [section])
        except StorageError:
            return None
    try:
        return await context.cpu.run(unlock, encrypted, writekey, pubkey)
    except FormatError as error:
        advise(context, server, slot, copy.shnum, str(error))
        return None


def unlock(encrypted: bytes, writekey: bytes, pubkey: bytes) -> rsa.KeyPair:
    """Return the key pair whose encrypted private half is given; raise FormatError.

    That the private key hashes to the write key is what makes it the right one.
    """
    der = aes.ctr(writekey, encrypted)
    if not hmac.compare_digest(mutable_writekey(der), writekey):
        raise FormatError("a share holds a wrong private key")
    return rsa.load_private(der, rsa.PublicKey.load(pubkey))
