"""Which servers, in which order, get which shares. Pure: knows sets and numbers, touches nothing.

Happiness of a layout is the size of a maximum matching between servers and the shares they hold,
that is the greatest number of servers that can each answer for another share.
Theory and texts: docs/formats/immutable.rst, section "Placement".
"""

import hashlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from truckee.core.errors import FormatError
from truckee.core.formats import base32


class Permutable(Protocol):
    """What the permuted order needs of a server."""

    @property
    def server_id(self) -> bytes:
        """The identity under which the server is known."""
        ...

    @property
    def permutation_seed(self) -> bytes:
        """The bytes that give the server its place."""
        ...


ServerT = TypeVar("ServerT", bound=Permutable)
S = TypeVar("S", bound=Hashable)


def permuted(
    servers: Iterable[ServerT], storage_index: bytes, preferred: Collection[bytes] = ()
) -> list[ServerT]:
    """Return the servers in the order that belongs to a storage index.

    Those whose server id is in `preferred` come first, in the same order among themselves.
    """

    def key(server: ServerT) -> tuple[bool, bytes]:
        # SHA-1 spreads servers over a ring, as every other client does; nothing rests on it
        place = hashlib.sha1(storage_index + server.permutation_seed, usedforsecurity=False)
        return server.server_id not in preferred, place.digest()

    return sorted(servers, key=key)


def permutation_seed(server_id: str, announced: str | None = None) -> bytes:
    """Return a server's seed: the announced base32 text, else its public key, else a hash.

    Raises FormatError when the announced seed is not base32.
    """
    if announced is not None:
        return base32.a2b(announced)
    prefix, _, key = server_id.partition("-")
    if prefix == "v0" and len(key) == 52:
        try:
            return base32.a2b(key)
        except FormatError:
            pass
    return hashlib.sha256(server_id.encode()).digest()


def matching(holders: Mapping[int, Collection[S]]) -> dict[int, S]:
    """Return a largest set of (share, holder) pairs that repeats neither a share nor a holder."""
    share_of: dict[S, int] = {}
    server_of: dict[int, S] = {}
    exhausted: set[S] = set()  # from these no path leads to a free server, now or later
    for start in holders:
        # breadth-first search for a path that ends at a free server
        came_from: dict[S, int] = {}
        queue, free = [start], None
        for shnum in queue:
            for server in holders[shnum]:
                if server in came_from or server in exhausted:
                    continue
                came_from[server] = shnum
                if server not in share_of:
                    free = server
                    break
                queue.append(share_of[server])
            if free is not None:
                break
        if free is None:
            exhausted.update(came_from)
        while free is not None:  # hand each server on the path to the share before it
            shnum = came_from[free]
            before = server_of.get(shnum)
            server_of[shnum], share_of[free] = free, shnum
            free = before
    return server_of


def happiness(layout: Mapping[int, Collection[S]]) -> int:
    """Return the happiness of a layout, given the servers that hold each share number."""
    return len(matching(layout))


def _held_by(
    servers: Iterable[S], held: Mapping[S, Collection[int]], shnums: Collection[int]
) -> dict[int, list[S]]:
    holders: dict[int, list[S]] = {}
    for server in servers:
        for shnum in sorted(held.get(server, ())):
            if shnum in shnums:
                holders.setdefault(shnum, []).append(server)
    return holders


def assign(
    total_shares: int,
    writable: Sequence[S],
    readonly: Sequence[S],
    held: Mapping[S, Collection[int]],
) -> dict[int, S]:
    """Return one server for each share number below `total_shares`, as happy as can be.

    `writable` and `readonly` are in permuted order, `held` says what each server has already.
    First read-only servers keep what they hold, then writable ones, each a share of its own; then
    writable servers without a share get one each; what is left stays where it is, or goes to the
    writable server with the least. A share is missing only when nobody holds it and nothing is
    writable.
    """
    left = set(range(total_shares))
    placed = matching(_held_by(readonly, held, left))
    left -= placed.keys()
    kept = matching(_held_by(writable, held, left))
    placed.update(kept)
    left -= kept.keys()
    used = set(kept.values())
    spare = [server for server in writable if server not in used]
    for server, shnum in zip(spare, sorted(left), strict=False):
        placed[shnum] = server
        left.discard(shnum)
    if left:
        _place_rest(sorted(left), placed, writable, _held_by([*writable, *readonly], held, left))
    return placed


def _place_rest(
    left: list[int], placed: dict[int, S], writable: Sequence[S], holders: dict[int, list[S]]
) -> None:
    load = dict.fromkeys(writable, 0)
    for server in placed.values():
        if server in load:
            load[server] += 1
    for shnum in left:
        if shnum in holders:
            placed[shnum] = holders[shnum][0]
        elif load:
            # min takes the first of equals: the permuted order decides
            placed[shnum] = min(load, key=load.__getitem__)
        if placed.get(shnum) in load:
            load[placed[shnum]] += 1


def failure_text(servers: int, needed: int, happy: int, effective: int) -> str:
    """Return why a layout is not good enough, in the words Tahoe-LAFS uses.

    `servers` is the number of servers with any share, `effective` the happiness reached.
    """
    if servers < needed:
        return (
            f"shares could be placed or found on only {servers} server(s). We were asked to place "
            f"shares on at least {happy} server(s) such that any {needed} of them have enough "
            f"shares to recover the file."
        )
    if effective < needed:
        return (
            f"shares could be placed or found on {servers} server(s), but they are not spread out "
            f"evenly enough to ensure that any {needed} of these servers would have enough shares "
            f"to recover the file. We were asked to place shares on at least {happy} servers such "
            f"that any {needed} of them have enough shares to recover the file."
        )
    return (
        f"shares could be placed on only {effective} server(s) such that any {needed} of them "
        f"have enough shares to recover the file, but we were asked to place shares on at least "
        f"{happy} such servers."
    )
