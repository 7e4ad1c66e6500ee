"""Selecting servers for one file: asking who is there, who has what, and who will take what.

Knows the storage seam and a clock; what to ask is decided in `truckee.core.upload.place`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from truckee.core.crypto import hashes
from truckee.core.errors import (
    NoServersError,
    NoSpaceError,
    ServerTimeoutError,
    UploadUnhappinessError,
)
from truckee.core.placement import permuted
from truckee.core.storage.api import Allocation, LeaseSecrets, StorageServer
from truckee.core.storage.deadline import QUERY_TIMEOUT
from truckee.core.tasks import Tasks
from truckee.core.upload.ask import ask_all
from truckee.core.upload.place import Selection, Verdict, select
from truckee.core.upload.shares import OpenShares, discard, note

VERSION_LIFETIME = 15.0  # seconds for which a server's word about its space is believed
SILENCE_LIFETIME = 60.0  # seconds for which a server that did not answer is asked only in need


class ServerSelector:
    """Finds a home for the shares of one file after the other."""

    def __init__(
        self,
        servers: Callable[[], Sequence[StorageServer]],
        clock: IReactorTime,
        lease_secret: bytes,
        background: Tasks,
    ) -> None:
        """Take the known servers, the lease secret, and a scope for what outlives an upload."""
        self._servers = servers
        self._clock = clock
        self._renewal = hashes.client_renewal_secret(lease_secret)
        self._cancel = hashes.client_cancel_secret(lease_secret)
        self._background = background
        self._space: dict[bytes, tuple[float, int]] = {}  # until when, largest share it takes
        self._silent: dict[bytes, float] = {}  # until when

    def nowhere(self) -> OpenShares:
        """Return shares that go to no server."""
        return OpenShares(self._clock, self._background, Selection(0, 0, 0, [], [], {}))

    async def select(
        self, storage_index: bytes, needed: int, happy: int, total: int, share_size: int
    ) -> OpenShares:
        """Return writers for as many shares as servers will take, enough for `happy`.

        Raises NoServersError or UploadUnhappinessError; then, and when cancelled, all that was
        allocated is given back.
        """
        known = {server.server_id: server for server in self._servers()}
        if not known:
            raise NoServersError("client gave us zero servers")
        order = permuted(known.values(), storage_index)
        now = self._clock.seconds()
        self._silent = {s: until for s, until in self._silent.items() if until > now}
        lively = [server for server in order if server.server_id not in self._silent]
        if len(lively) < len(order) and lively:
            # one hung server must not cost every upload its time limit
            with suppress(UploadUnhappinessError):
                return await self._select(
                    lively[: 2 * total], storage_index, needed, happy, total, share_size
                )
        return await self._select(
            order[: 2 * total], storage_index, needed, happy, total, share_size
        )

    async def _select(
        self,
        order: Sequence[StorageServer],
        storage_index: bytes,
        needed: int,
        happy: int,
        total: int,
        share_size: int,
    ) -> OpenShares:
        known = {server.server_id: server for server in order}
        # a writable server that is going to be asked for space tells what it holds on that occasion
        list_all = len(order) > total
        held = await self._ask_what_they_hold(order, storage_index, share_size, list_all=list_all)
        selection = select(
            needed,
            happy,
            total,
            [server.server_id for server in order],
            {server_id for server_id in held if not self._may_take(server_id, share_size)},
            held,
        )
        shares = OpenShares(self._clock, self._background, selection, self._failed)
        secrets = self._file_secrets(storage_index)
        try:
            await self._rounds(selection, shares, known, storage_index, secrets, share_size)
        except CancelledError:
            _ = self._background.start(shares.abort())
            raise
        except BaseException:
            await shares.abort()
            raise
        return shares

    async def _rounds(
        self,
        selection: Selection,
        shares: OpenShares,
        known: Mapping[bytes, StorageServer],
        storage_index: bytes,
        secrets: tuple[bytes, bytes],
        share_size: int,
    ) -> None:
        verdict = Verdict.AGAIN
        while verdict is Verdict.AGAIN:
            wanted = selection.plan()
            calls = (
                (server_id, _allocate(known[server_id], storage_index, secrets, asked, share_size))
                for server_id, asked in wanted.items()
            )
            answers = await ask_all(self._clock, QUERY_TIMEOUT, calls, late=self._give_back)
            for server_id, answer in answers.items():
                self._take(selection, shares, server_id, wanted[server_id], answer)
            verdict = selection.verdict()
        if verdict is Verdict.FAIL:
            raise selection.error("server selection failed: ")
        for server_id, shnums in selection.surplus().items():
            shares.drop(server_id, shnums)

    def _take(
        self,
        selection: Selection,
        shares: OpenShares,
        server_id: bytes,
        asked: frozenset[int],
        answer: Allocation | Exception,
    ) -> None:
        if isinstance(answer, Exception):
            self._failed(server_id, answer)
            selection.failed(server_id, full=isinstance(answer, NoSpaceError))
            shares.drop(server_id)
            return
        taken = {n: writer for n, writer in answer.writers.items() if n in asked}
        shares.add(server_id, taken)
        selection.answered(server_id, asked, answer.already, taken)
        if not answer.already.union(taken).issuperset(asked):
            self._space.pop(server_id, None)  # it has less room than it said

    def _failed(self, server_id: bytes, error: Exception) -> None:
        """Remember a server that did not answer, and log what none should answer."""
        note(error)
        if isinstance(error, ServerTimeoutError):
            self._silent[server_id] = self._clock.seconds() + SILENCE_LIFETIME

    def _give_back(self, allocation: Allocation) -> None:
        """Abort what a server gave when nobody was waiting any more."""
        if allocation.writers:
            writers = list(allocation.writers.values())
            _ = self._background.start(discard(self._clock, writers))

    async def _ask_what_they_hold(
        self,
        servers: Sequence[StorageServer],
        storage_index: bytes,
        share_size: int,
        *,
        list_all: bool,
    ) -> dict[bytes, frozenset[int]]:
        """Return the complete shares of each server that answers, as far as they must be known."""
        held: dict[bytes, frozenset[int]] = {}
        asked = []
        now = self._clock.seconds()
        for server in servers:
            until, largest = self._space.get(server.server_id, (0.0, 0))
            if until > now and largest >= share_size and not list_all:
                held[server.server_id] = frozenset()
            else:
                asked.append(
                    (
                        server.server_id,
                        self._query(server, storage_index, share_size, list_all=list_all),
                    )
                )
        for server_id, answer in (await ask_all(self._clock, QUERY_TIMEOUT, asked)).items():
            if isinstance(answer, Exception):
                self._failed(server_id, answer)
            else:
                held[server_id] = answer
        return held

    async def _query(
        self, server: StorageServer, storage_index: bytes, share_size: int, *, list_all: bool
    ) -> frozenset[int]:
        now = self._clock.seconds()
        until, _ = self._space.get(server.server_id, (0.0, 0))
        if until <= now:
            version = await server.get_version()
            largest = version.maximum_immutable_share_size
            self._space[server.server_id] = now + VERSION_LIFETIME, largest
        if not list_all and self._may_take(server.server_id, share_size):
            return frozenset()
        return frozenset(await server.get_buckets(storage_index))

    def _may_take(self, server_id: bytes, share_size: int) -> bool:
        return self._space.get(server_id, (0.0, 0))[1] >= share_size

    def _file_secrets(self, storage_index: bytes) -> tuple[bytes, bytes]:
        return (
            hashes.file_renewal_secret(self._renewal, storage_index),
            hashes.file_cancel_secret(self._cancel, storage_index),
        )


async def _allocate(
    server: StorageServer,
    storage_index: bytes,
    secrets: tuple[bytes, bytes],
    shnums: frozenset[int],
    share_size: int,
) -> Allocation:
    seed = server.lease_seed
    lease = LeaseSecrets(
        hashes.bucket_renewal_secret(secrets[0], seed),
        hashes.bucket_cancel_secret(secrets[1], seed),
    )
    return await server.allocate_buckets(storage_index, lease, shnums, share_size)
