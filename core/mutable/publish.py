"""Writing one version: which share goes where, under which test, and what the answers mean.

The first half is pure: plan, tests, evidence of other writers. The shell below it makes shares in
the worker pool and sends them; it touches servers, clock and randomness.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.logger import Logger

from truckee.core.cpu import Cpu
from truckee.core.crypto import aes, rsa
from truckee.core.crypto.hashes import write_enabler
from truckee.core.errors import (
    FileTooLargeError,
    NoSpaceError,
    NotEnoughServersError,
    SequenceNumberExhaustedError,
    ServersFullError,
    ServerTimeoutError,
    TruckeeError,
    UncoordinatedWriteError,
    UnrecoverableFileError,
    UploadUnhappinessError,
)
from truckee.core.formats import mdmf, sdmf
from truckee.core.formats.mutable_share import MAX_SDMF_SIZE, MAX_SEQNUM, SALT_SIZE, Geometry
from truckee.core.mutable.context import MutableContext, Roster, Slot, lease_secrets
from truckee.core.mutable.encoding import (
    Draft,
    Header,
    Strands,
    draft,
    encode_mdmf,
    encode_sdmf,
)
from truckee.core.mutable.servermap import Servermap
from truckee.core.placement import failure_text, happiness
from truckee.core.storage.api import (
    ReadVector,
    TestVector,
    TestWriteResult,
    TestWriteVectors,
    WriteVector,
)
from truckee.core.storage.deadline import CALL_TIMEOUT, QUERY_TIMEOUT, within
from truckee.core.tasks import Tasks

_log = Logger()

MAX_SHARE_BYTES = 256 * 1024 * 1024
"""All shares of a version are in memory while it is written; more than this is refused."""

_TOGETHER = 1024 * 1024
"""Bytes up to which all shares for one server go in one request, all of them or none."""

_BATCH_SEGMENTS = 8

Place = tuple[bytes, int]  # server id, share number


def next_seqnum(found: Servermap) -> int:
    """Return the number of the version to write; raise SequenceNumberExhaustedError."""
    highest = found.highest_seqnum()
    if highest >= MAX_SEQNUM:
        raise SequenceNumberExhaustedError("the highest sequence number is taken")
    return highest + 1


def writers_geometry(size: int, k: int, n: int, *, is_mdmf: bool) -> Geometry:
    """Return how contents are cut; raise FileTooLargeError when memory could not hold the shares.

    SDMF takes 64 MiB; either kind as much as makes 256 MiB of shares (76 MiB for 3 of 10).
    """
    if not is_mdmf and size > MAX_SDMF_SIZE:
        raise FileTooLargeError("an SDMF file holds at most 64 MiB")
    if -(-size // k) * n > MAX_SHARE_BYTES:
        raise FileTooLargeError("a mutable file with these contents makes over 256 MiB of shares")
    return mdmf.geometry(size, k, n) if is_mdmf else sdmf.geometry(size, k, n)


def layout(places: Iterable[Place]) -> dict[int, set[bytes]]:
    """Return the servers of each share number."""
    found: dict[int, set[bytes]] = {}
    for server_id, shnum in places:
        found.setdefault(shnum, set()).add(server_id)
    return found


def goal(found: Servermap, order: Sequence[bytes], total: int, happy: int) -> set[Place]:
    """Return every (server, share number) to write.

    That is where shares are, good or bad; then the numbers without a home, dealt out to the
    servers with the least; then, while the layout is not happy, second copies on servers that have
    nothing. Servers that did not answer are left alone. Raises NotEnoughServersError when there is
    nobody else.
    """
    places = {place for place in (*found.copies, *found.bad) if place[1] < total}
    usable = [server_id for server_id in order if server_id not in found.failed]
    if not usable:
        raise NotEnoughServersError("there is no server to write a mutable file to")
    return deal(places, usable, total, happy)


def deal(places: set[Place], usable: Sequence[bytes], total: int, happy: int) -> set[Place]:
    """Return `places` with a home for every share number, spread until it is happy."""
    load = dict.fromkeys(usable, 0)
    for server_id, _ in places:
        load[server_id] = load.get(server_id, 0) + 1
    at_home = {shnum for _, shnum in places}
    homeless = [shnum for shnum in range(total) if shnum not in at_home]
    by_load = sorted(usable, key=load.__getitem__)  # stable: the permuted order decides
    dealt = {(by_load[i % len(by_load)], shnum) for i, shnum in enumerate(homeless)}
    return places | dealt | _spread(places | dealt, usable, happy)


def _spread(places: set[Place], usable: Sequence[bytes], happy: int) -> set[Place]:
    """Return second copies for servers without a share, until the layout is happy."""
    holders = layout(places)
    reached, busy = happiness(holders), {server_id for server_id, _ in places}
    extra: set[Place] = set()
    for server_id in usable:
        if reached >= happy:
            break
        if server_id in busy:
            continue
        for shnum in sorted(holders, key=lambda s: (len(holders[s]), s)):
            holders[shnum].add(server_id)
            now = happiness(holders)
            if now > reached:
                reached = now
                extra.add((server_id, shnum))
                break
            holders[shnum].discard(server_id)
    return extra


def require_happy(places: Iterable[Place], needed: int, happy: int, what: str) -> None:
    """Raise UploadUnhappinessError unless the layout reaches `happy`."""
    holders = layout(places)
    reached = happiness(holders)
    if reached < happy:
        servers = len({server_id for servers in holders.values() for server_id in servers})
        raise UploadUnhappinessError(f"{what}: {failure_text(servers, needed, happy, reached)}")


def lacks_room(placed: set[Place], full: Iterable[bytes], total: int, happy: int) -> bool:
    """Return whether what was placed could be enough if the full servers had room."""
    able = {(server_id, shnum) for server_id in full for shnum in range(total)}
    return bool(able) and happiness(layout(placed | able)) >= happy


def specimen(found: Servermap, place: Place) -> TestVector:
    """Return what must be at the start of a share for it to be overwritten."""
    copy = found.copies.get(place)
    known = found.bad.get(place, b"") if copy is None else copy.header.checkstring
    return TestVector(0, max(len(known), 1), known)  # nothing known: there must be nothing


def requests(places: Iterable[Place], share_size: int) -> list[tuple[bytes, tuple[int, ...]]]:
    """Return which share numbers go to which server in one request each."""
    by_server: dict[bytes, list[int]] = {}
    for server_id, shnum in sorted(places):
        by_server.setdefault(server_id, []).append(shnum)
    found: list[tuple[bytes, tuple[int, ...]]] = []
    for server_id, shnums in by_server.items():
        if share_size * len(shnums) <= _TOGETHER:
            found.append((server_id, tuple(shnums)))
        else:
            found += [(server_id, (shnum,)) for shnum in shnums]
    return found


def others_wrote(
    data: Mapping[int, Sequence[bytes]],
    server_id: bytes,
    places: set[Place],
    found: Servermap,
    checkstring: bytes,
) -> bool:
    """Return whether an answer shows a share that neither the map nor this write accounts for."""
    return any(
        place not in places
        and place not in found.copies
        and place not in found.bad
        and pieces[:1] != [checkstring]
        for place, pieces in (((server_id, shnum), list(p)) for shnum, p in data.items())
    )


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a write."""

    header: Header
    placed: frozenset[Place]


@dataclass(frozen=True, slots=True, repr=False)
class NewVersion:
    """All that a write needs besides the servers; `tried` gets its header before it is sent."""

    contents: bytes
    seqnum: int
    geometry: Geometry
    pair: rsa.KeyPair
    tried: list[Header] = field(default_factory=list)


async def publish(
    context: MutableContext, slot: Slot, roster: Roster, found: Servermap, version: NewVersion
) -> Published:
    """Write a version over what the map shows, under tests that nothing else changed.

    Raises UploadUnhappinessError or NotEnoughServersError, before anything is sent when that can be
    told (ServersFullError afterwards), and UncoordinatedWriteError when somebody else wrote
    meanwhile. After an error the slot holds the old version, the new one, or shares of both: never
    bytes that are neither.
    """
    k, n = version.geometry.needed_shares, version.geometry.total_shares
    happy = min(context.encoding.happy, n)  # more than N servers cannot be happy
    places = goal(found, roster.order, n, happy)
    require_happy(places, k, happy, "no shares of a mutable file were sent")
    header, shares = await _make_shares(context, slot, version)
    version.tried.append(header)
    sender = _Sender(context, slot, roster, found, header.checkstring)
    placed, collided = await sender.send_in_turn(places, shares)
    if not collided and happiness(layout(placed)) < happy:
        # servers broke or are full: once more, elsewhere
        refused = found.failed | {server_id for server_id, _ in places - placed}
        usable = [server_id for server_id in roster.order if server_id not in refused]
        if usable:
            more = deal(placed, usable, n, happy) - placed
            placed_now, collided = await sender.send(more, shares)
            placed |= placed_now
    if collided:
        raise UncoordinatedWriteError("somebody else is writing to the mutable file")
    if happiness(layout(placed)) < happy and lacks_room(placed, sender.full, n, happy):
        raise ServersFullError("servers of a mutable file have no room")
    if len(layout(placed)) < k:
        raise NotEnoughServersError(
            f"only {len(layout(placed))} shares were placed, {k} are needed"
        )
    require_happy(placed, k, happy, "a mutable file was written to too few servers")
    if len(layout(placed)) < n:
        _log.warn("placed {placed} of {total} shares", placed=len(layout(placed)), total=n)
    await sender.delete_surplus(n)
    return Published(header, frozenset(placed))


async def _make_shares(
    context: MutableContext, slot: Slot, version: NewVersion
) -> tuple[Header, list[bytes]]:
    g, cpu = version.geometry, context.cpu
    writekey = slot.require_writekey()
    if not slot.mdmf:
        salt = context.random(SALT_SIZE)
        return await cpu.run(_sdmf_shares, version, salt, slot.readkey, writekey)
    strands = await _mdmf_strands(cpu, version, slot.readkey, context)
    made = await cpu.run(draft, strands, version.seqnum, None, g)
    return await cpu.run(_sign, made, version.pair, writekey)


async def _mdmf_strands(
    cpu: Cpu, version: NewVersion, readkey: bytes, context: MutableContext
) -> Strands:
    g = version.geometry
    strands = Strands.empty(g.total_shares)
    for first in range(0, g.segments, _BATCH_SEGMENTS):
        count = min(_BATCH_SEGMENTS, g.segments - first)
        salts = [context.random(SALT_SIZE) for _ in range(count)]
        strands.extend(await cpu.run(encode_mdmf, version.contents, first, salts, readkey, g))
    return strands


def _sdmf_shares(
    version: NewVersion, salt: bytes, readkey: bytes, writekey: bytes
) -> tuple[Header, list[bytes]]:
    g = version.geometry
    strands = encode_sdmf(version.contents, salt, readkey, g)
    return _sign(draft(strands, version.seqnum, salt, g), version.pair, writekey)


def _sign(made: Draft, pair: rsa.KeyPair, writekey: bytes) -> tuple[Header, list[bytes]]:
    signature = pair.sign(made.header.prefix)
    # a key from a share is not tested when it is loaded: a broken one must not be used to write
    if not rsa.PublicKey.load(pair.public_der).verify(signature, made.header.prefix):
        raise UnrecoverableFileError("the private key of the mutable file does not work")
    encprivkey = aes.ctr(writekey, pair.private_der)
    return made.header, list(made.shares(signature, pair.public_der, encprivkey))


@dataclass(slots=True, repr=False)
class _Sender:
    """Sends the shares of one write and gathers what comes back."""

    context: MutableContext
    slot: Slot
    roster: Roster
    found: Servermap
    checkstring: bytes
    sent: set[Place] = field(default_factory=set)
    full: set[bytes] = field(default_factory=set)

    async def send_in_turn(
        self, places: set[Place], shares: Sequence[bytes]
    ) -> tuple[set[Place], bool]:
        """Write over good shares first, and to other places only when nobody else showed.

        New copies would succeed in any case and add weight to a version that has lost already:
        with k shares it would hide one that its writer finished.
        """
        over = places & self.found.copies.keys()
        placed, collided = await self.send(over, shares)
        if not collided and places - over:
            placed_now, collided = await self.send(places - over, shares)
            placed |= placed_now
        return placed, collided

    async def send(self, places: set[Place], shares: Sequence[bytes]) -> tuple[set[Place], bool]:
        """Return where shares were placed, and whether another writer showed."""
        self.sent |= places
        batches = requests(places, max(map(len, shares)))
        outcomes = await self._write_all(
            [
                (sid, {shnum: self._change(sid, shnum, shares[shnum]) for shnum in shnums})
                for sid, shnums in batches
            ]
        )
        placed: set[Place] = set()
        collided = False
        for i, result in outcomes.items():
            server_id, shnums = batches[i]
            if not result.success or others_wrote(
                result.data, server_id, self.sent, self.found, self.checkstring
            ):
                collided = True
            if result.success:
                placed |= {(server_id, shnum) for shnum in shnums}
        return placed, collided

    async def delete_surplus(self, total: int) -> None:
        """Remove shares of earlier versions whose numbers the new one does not have."""
        old = [place for place in self.found.copies if place[1] >= total]
        cuts = [
            (sid, {shnum: TestWriteVectors([specimen(self.found, (sid, shnum))], (), 0)})
            for sid, shnum in old
        ]
        await self._write_all(cuts)

    def _change(self, server_id: bytes, shnum: int, share: bytes) -> TestWriteVectors:
        test = specimen(self.found, (server_id, shnum))
        return TestWriteVectors([test], [WriteVector(0, share)], len(share))

    async def _write_all(
        self, writes: Sequence[tuple[bytes, Mapping[int, TestWriteVectors]]]
    ) -> dict[int, TestWriteResult]:
        """Send all at once; return the answers that came, by position."""
        results: dict[int, TestWriteResult] = {}

        async def write(i: int) -> None:
            result = await self._write(*writes[i])
            if result is not None:
                results[i] = result

        async with Tasks() as tasks:
            for done in [tasks.start(write(i)) for i in range(len(writes))]:
                await done
        return results

    async def _write(
        self, server_id: bytes, changes: Mapping[int, TestWriteVectors]
    ) -> TestWriteResult | None:
        """Return the answer of one server, or None when the write failed or may have."""
        context, storage_index = self.context, self.slot.storage_index
        server = self.roster.by_id[server_id]
        limit = QUERY_TIMEOUT if context.is_suspect(server) else CALL_TIMEOUT
        try:
            return await within(
                context.clock,
                limit,
                server.slot_testv_and_readv_and_writev(
                    storage_index,
                    write_enabler(self.slot.require_writekey(), server.lease_seed),
                    lease_secrets(context.lease_secret, storage_index, server.lease_seed),
                    changes,
                    [ReadVector(0, len(self.checkstring))],
                ),
            )
        except TruckeeError as error:
            if isinstance(error, ServerTimeoutError):
                context.suspect(server)
            if isinstance(error, NoSpaceError):
                self.full.add(server_id)
            _log.warn("a share was not written to {server}: {e}", server=server.name, e=error)
            return None
