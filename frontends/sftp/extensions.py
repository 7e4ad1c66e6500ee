"""What the requests beyond version 3 do: OpenSSH's, and copy-data.

Knows the vfs session; answers with replies, as requests.py does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from truckee.frontends.sftp import attributes, packets
from truckee.frontends.sftp.errors import FAILURE, PERMISSION_DENIED, Refused
from truckee.frontends.sftp.handles import MAX_FILES, OpenFile
from truckee.frontends.sftp.packets import Reply
from truckee.frontends.sftp.requests import Server, State
from truckee.frontends.vfs import paths
from truckee.frontends.vfs.paths import MAX_POINTS, ROOT
from truckee.frontends.vfs.session import WriteHandle

_BLOCK = 4096
_READ_ONLY = 1
_PIECE = 256 * 1024
_LAST = 2**63 - 1
_STATVFS = Struct(">11Q")
_LIMITS = Struct(">4Q")
_NODES = 2**40  # files never run out, and some clients divide by this


@dataclass(frozen=True, slots=True)
class Space:
    """How many bytes the grid has for this account in all, and free."""

    total: int
    free: int


UNKNOWN_SPACE = Space(2**50, 2**50)


async def fsync(s: State, r: packets.Fsync) -> Reply:
    """fsync: what was written so far is stored and linked, as CLOSE would do it."""
    file = s.handles.file(r.handle)
    async with file.turns.alone():
        if file.writing is not None:
            await file.writing.sync()
    return packets.ok(r.id)


async def hardlink(s: State, r: packets.Hardlink) -> Reply:
    """Give a file a second name."""
    source, target = s.path(r.source), s.path(r.target, creating=True)
    async with s.order.change(source, target):
        await s.session.link(source, target)
    return packets.ok(r.id)


async def expand_path(s: State, r: packets.ExpandPath) -> Reply:
    """Everybody's home is the root."""
    raw = r.path
    if raw.startswith(b"~"):
        raw = b"/" + raw.partition(b"/")[2]
    return packets.names(r.id, [attributes.bare_entry(paths.format_path(s.path(raw)))])


async def limits(s: State, r: packets.Limits) -> Reply:
    """Packets, reads, writes, handles; a read and a write leave room for their headers."""
    room = packets.MAX_READ - 1024
    return packets.extended_reply(r.id, _LIMITS.pack(packets.MAX_READ, room, room, MAX_FILES))


async def copy_data(s: State, r: packets.CopyData) -> Reply:
    """Copy from handle to handle; a whole file into an empty one moves no data."""
    source, target = s.handles.file(r.source), s.handles.file(r.target)
    if not source.opening.reads:
        raise Refused(PERMISSION_DENIED, "not opened for reading")
    if target.writing is None or not target.opening.writes:
        raise Refused(PERMISSION_DENIED, "not opened for writing")
    if source is target:
        raise Refused(FAILURE, "a file cannot be copied into itself")
    # both places are taken before either is waited for, so that two copies crosswise get through
    reading, writing = source.turns.together(), target.turns.alone()
    async with reading, writing:
        whole = not r.source_offset and (not r.length or r.length >= source.reading.size)
        if whole and not r.target_offset and not target.writing.size:
            await target.writing.adopt(source.reading)
        else:
            await _copy_range(source, target.writing, r)
    return packets.ok(r.id)


async def _copy_range(source: OpenFile, target: WriteHandle, r: packets.CopyData) -> None:
    if max(r.source_offset, r.target_offset) > _LAST:
        raise Refused(FAILURE, "an offset beyond 2^63")
    done = 0
    while not r.length or done < r.length:
        wanted = min(_PIECE, r.length - done) if r.length else _PIECE
        piece = await source.reading.read(r.source_offset + done, wanted)
        if not piece:
            break
        await target.write(r.target_offset + done, piece)
        done += len(piece)


def statvfs_servers(space: Callable[[], Space | None]) -> dict[type[packets.Request], Server]:
    """Return the servers of statvfs and fstatvfs; `space` tells what is known about room."""

    async def answer(s: State, number: int) -> Reply:
        root = await s.session.stat(ROOT)
        known = space() or UNKNOWN_SPACE
        total, free = known.total // _BLOCK, known.free // _BLOCK
        # `unique` is keyed by process and account: it tells nothing about equal roots
        fsid = int.from_bytes(bytes.fromhex(root.unique)[:8], "big")
        flag = 0 if root.writable else _READ_ONLY
        body = _STATVFS.pack(
            _BLOCK, _BLOCK, total, free, free, _NODES, _NODES, _NODES, fsid, flag, MAX_POINTS
        )
        return packets.extended_reply(number, body)

    async def by_path(s: State, r: packets.Statvfs) -> Reply:
        path = s.path(r.path)
        async with s.order.look(path):
            await s.session.stat(path)
        return await answer(s, r.id)

    async def by_handle(s: State, r: packets.Fstatvfs) -> Reply:
        s.handles.item(r.handle)
        return await answer(s, r.id)

    return {packets.Statvfs: by_path, packets.Fstatvfs: by_handle}


SERVERS: dict[type[packets.Request], Server] = {
    packets.Fsync: fsync,
    packets.Hardlink: hardlink,
    packets.ExpandPath: expand_path,
    packets.Limits: limits,
    packets.CopyData: copy_data,
}
