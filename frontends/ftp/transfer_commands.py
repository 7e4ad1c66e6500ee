"""Commands that use a data connection: LIST, NLST, MLSD, RETR, STOR, APPE, STOU.

Knows the vfs session and the transfer; a log line per transfer is written here.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from truckee.core.errors import NoSuchChildError
from truckee.frontends.ftp import listing
from truckee.frontends.ftp.codec import Reply, reply, strip_options
from truckee.frontends.ftp.data import TransferFailed
from truckee.frontends.ftp.errors import reply_for
from truckee.frontends.ftp.session import Refused, Session
from truckee.frontends.ftp.transfer import Transfer, receive_file, send_file
from truckee.frontends.gate.journal import Ending, Verb
from truckee.frontends.vfs.handles import ReadHandle, WriteHandle
from truckee.frontends.vfs.paths import Path, format_path

_log = Logger()

Body = Callable[[Session, Transfer, bytes], Coroutine[Deferred[Any], Any, Reply]]
Command = Callable[[Session, bytes], Coroutine[Deferred[Any], Any, Reply]]


VERBS: dict[str, Verb] = {"RETR": "get", "STOR": "put", "STOU": "put", "APPE": "append"}
"""What a command does, as the journal says it; the others list."""


def transferring(word: str, body: Body) -> Command:
    """Return the command that runs `body` with a transfer, ends that anyway, and reports it."""

    async def command(s: Session, arg: bytes) -> Reply:
        began, name = s.clock.seconds(), s.vfs.account
        try:
            transfer = s.begin_transfer()
        except Refused as refused:
            s.end_transfer()
            return refused.reply
        try:
            answer = await _outcome(s, transfer, body(s, transfer, arg))
            moved = transfer.moved
        finally:
            s.end_transfer()
        ending: Ending = (
            "ok" if answer.code == 226 else "aborted" if answer.code == 426 else "failed"
        )
        verb, path = VERBS.get(word, "list"), _shown(transfer, arg)
        seconds = s.clock.seconds() - began
        s.journal.transfer("ftp", s.peer, name, verb, path, moved, seconds, ending)
        return answer

    return command


def _shown(transfer: Transfer, arg: bytes) -> str:
    """Return the path that a command was about, or what was given if it is none."""
    if transfer.path is None:
        return arg.decode("utf-8", "replace")
    return format_path(transfer.path)


async def _outcome(
    s: Session, transfer: Transfer, work: Coroutine[Deferred[Any], Any, Reply]
) -> Reply:
    """Return the one final reply of a transfer, however it ends."""
    try:
        return await work
    except Refused as refused:
        return refused.reply
    except TransferFailed as failed:
        return reply(failed.code, failed.text)
    except Exception as error:  # noqa: BLE001 - the table takes everything
        failure = transfer.failure
        if failure is not None:
            return reply(failure.code, failure.text)
        return reply(*reply_for(error, started=transfer.moved > 0))


# listings


async def list_(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """LIST."""
    path = transfer.path = s.path_or_cwd(strip_options(arg))
    found = await transfer.unless_aborted(listing.find(s.vfs, path))
    return await _send_listing(s, transfer, found, listing.ls_format(s.vfs.account, s.wall_clock()))


async def nlst(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """NLST. Names that fit a pattern come with the directory that was written before it."""
    given = strip_options(arg)
    path = transfer.path = s.path_or_cwd(given)
    found = await transfer.unless_aborted(listing.find(s.vfs, path))
    directory, slash, _ = given.decode("utf-8").rpartition("/")
    prefixed = found.is_file or found.is_glob
    line = listing.name_format(directory + slash if prefixed else "")
    return await _send_listing(s, transfer, found, line)


async def mlsd(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """MLSD."""
    path = transfer.path = s.path_or_cwd(arg)
    found = await transfer.unless_aborted(listing.find(s.vfs, path, globs=False))
    if found.is_file:
        raise Refused(501, "not a directory")
    return await _send_listing(s, transfer, found, listing.facts_format(s.facts, s.vfs.readonly))


async def _send_listing(
    s: Session, transfer: Transfer, found: listing.Listing, line: listing.Formatter
) -> Reply:
    s.control.send(reply(150, "here comes the listing"))
    connection = await transfer.connect()
    first = True
    async for batch in found.batches:
        transfer.check()
        if not first:
            await deferLater(s.clock, 0)  # a long directory is many short turns
        first = False
        await connection.send(listing.encode_lines(batch, line))
    await connection.finish()
    return reply(226, "listing sent")


# downloads


async def retr(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """RETR."""
    path, offset = s.path(arg), s.rest
    transfer.path = path
    handle = await transfer.unless_aborted(s.vfs.open_read(path), _close)
    try:
        if offset > handle.size:
            raise Refused(554, "REST is beyond the end of the file")
        size = f" ({handle.size - offset} bytes)" if not s.text else ""
        began = reply(150, f"opening data connection{size}")
        await send_file(transfer, handle, offset, s.text, lambda: s.control.send(began))
    finally:
        handle.close()
    return reply(226, "transfer complete")


# uploads


async def stor(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """STOR, with REST n: the first n bytes of the old file stay."""
    return await _upload(s, transfer, s.path(arg), "store")


async def appe(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """APPE: to the end of the file, which is made if it is absent."""
    return await _upload(s, transfer, s.path(arg), "append")


async def stou(s: Session, transfer: Transfer, arg: bytes) -> Reply:
    """STOU: under a name that nothing has yet; nothing exists under it until all is stored."""
    path = s.path(arg or b"upload")
    if not path:
        raise Refused(553, "name not allowed")
    for _ in range(8):
        candidate = (*path[:-1], f"{path[-1]}.{s.random(6).hex()}")
        try:
            await transfer.unless_aborted(s.vfs.stat(candidate))
        except NoSuchChildError:
            break
    else:
        raise Refused(450, "no unused name was found")
    return await _upload(s, transfer, candidate, "unique")


async def _upload(
    s: Session, transfer: Transfer, path: Path, how: Literal["store", "append", "unique"]
) -> Reply:
    transfer.path = path
    offset = s.rest if how == "store" else 0
    opened = s.vfs.open_write(
        path, truncate=how != "append" and not offset, create=True, append=how == "append"
    )
    handle = await transfer.unless_aborted(opened, _abandon)
    try:
        if how == "append":
            offset = handle.size
        elif offset:
            await _keep_first(transfer, handle, offset)
        unique = how == "unique"
        text = f"FILE: {format_path(path)}" if unique else "opening data connection"
        s.control.send(reply(150, text))
        connection = await transfer.connect()
        came = await receive_file(transfer, connection, handle, offset, s.text)
        if s.announced is not None and offset + came < s.announced:
            raise TransferFailed(426, "fewer bytes came than ALLO announced, nothing is stored")
        if connection.cut_off:
            _log.warn("ftp: an upload of {peer} ended without close_notify", peer=s.peer)
            if s.settings.strict_tls_eof:
                raise TransferFailed(426, "TLS ended without close_notify, nothing is stored")
        s.control.listen_closely()
        await transfer.still_wanted(s.settings.commit_delay)
        transfer.committing = True
        await handle.commit()
    finally:
        handle.abandon()
    return reply(226, f"stored, {came} bytes came")


def _close(handle: ReadHandle) -> None:
    handle.close()


def _abandon(handle: WriteHandle) -> None:
    handle.abandon()


async def _keep_first(transfer: Transfer, handle: WriteHandle, offset: int) -> None:
    if offset > handle.size:
        raise Refused(554, "REST is beyond the end of the file")
    await transfer.unless_aborted(handle.truncate(offset))
