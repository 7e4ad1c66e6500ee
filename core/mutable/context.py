"""What every mutable file of one process shares, and the names and keys of one slot.

Knows the derivations from a capability; touches nothing itself: servers, worker pool, clock and
randomness are handed in.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import normalvariate
from typing import Self

from twisted.internet.interfaces import IReactorTime

from truckee.core.cpu import Cpu
from truckee.core.crypto import hashes
from truckee.core.errors import NotWriteableError
from truckee.core.formats.caps import MdmfReadCap, MdmfWriteCap, SdmfReadCap, SdmfWriteCap
from truckee.core.interfaces import Encoding
from truckee.core.mutable.keys import KeyPool, PairCache, SeenSignatures
from truckee.core.mutable.locks import SlotLocks
from truckee.core.placement import permuted
from truckee.core.storage.api import LeaseSecrets, StorageServer
from truckee.core.tasks import Tasks

MutableCap = SdmfWriteCap | SdmfReadCap | MdmfWriteCap | MdmfReadCap

SUSPECT_SECONDS = 60.0
"""How long a server that let a call run out of time is given less of it."""


@dataclass(slots=True, repr=False)
class MutableContext:
    """What a mutable file needs of its surroundings; a process has one of these.

    The locks in it keep the jobs of one process apart. Two contexts behave towards each other like
    two processes: they find out about each other only by the test vectors of their writes.
    """

    servers: Callable[[], Sequence[StorageServer]]
    cpu: Cpu
    clock: IReactorTime
    lease_secret: bytes
    keys: KeyPool
    encoding: Encoding
    random: Callable[[int], bytes] = os.urandom
    normal: Callable[[float, float], float] = normalvariate
    locks: SlotLocks = field(default_factory=SlotLocks)
    pairs: PairCache = field(default_factory=PairCache)
    seen: SeenSignatures = field(default_factory=SeenSignatures)
    background: Tasks = field(default_factory=Tasks)
    suspects: dict[bytes, float] = field(default_factory=dict)

    def suspect(self, server: StorageServer) -> None:
        """Note that a server let a call run out of time."""
        self.suspects[server.server_id] = self.clock.seconds() + SUSPECT_SECONDS

    def is_suspect(self, server: StorageServer) -> bool:
        """Return whether a server let a call run out of time a short while ago."""
        until = self.suspects.get(server.server_id)
        if until is not None and until <= self.clock.seconds():
            del self.suspects[server.server_id]
            return False
        return until is not None


@dataclass(frozen=True, slots=True, repr=False)
class Slot:
    """One mutable file by its secrets; `writekey` is None when it can only be read."""

    storage_index: bytes
    readkey: bytes
    writekey: bytes | None
    fingerprint: bytes
    mdmf: bool

    @classmethod
    def of(cls, cap: MutableCap) -> Self:
        """Return the slot that a capability names."""
        writekey = cap.writekey if isinstance(cap, SdmfWriteCap | MdmfWriteCap) else None
        mdmf = isinstance(cap, MdmfWriteCap | MdmfReadCap)
        return cls(cap.storage_index, cap.readkey, writekey, cap.fingerprint, mdmf)

    def require_writekey(self) -> bytes:
        """Return the write key; raise NotWriteableError when there is none."""
        if self.writekey is None:
            raise NotWriteableError("a read-only mutable file cannot be changed")
        return self.writekey


@dataclass(frozen=True, slots=True, repr=False)
class Roster:
    """The servers of one job in permuted order, and by id."""

    order: tuple[bytes, ...]
    by_id: dict[bytes, StorageServer]

    @classmethod
    def of(cls, context: MutableContext, storage_index: bytes) -> Self:
        """Return the servers as they are now."""
        servers = permuted(context.servers(), storage_index)
        by_id = {server.server_id: server for server in servers}
        return cls(tuple(by_id), by_id)


def lease_secrets(lease_secret: bytes, storage_index: bytes, lease_seed: bytes) -> LeaseSecrets:
    """Return the secrets of the lease on a slot at the server with this lease seed."""
    renew = hashes.file_renewal_secret(hashes.client_renewal_secret(lease_secret), storage_index)
    cancel = hashes.file_cancel_secret(hashes.client_cancel_secret(lease_secret), storage_index)
    return LeaseSecrets(
        hashes.bucket_renewal_secret(renew, lease_seed),
        hashes.bucket_cancel_secret(cancel, lease_seed),
    )
