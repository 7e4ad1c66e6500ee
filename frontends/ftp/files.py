"""Commands about files and directories that need no data connection. Knows the vfs session."""

from collections.abc import Awaitable

from truckee.core.errors import ChildOfWrongTypeError, FormatError, NoSuchChildError
from truckee.frontends.ftp import listing
from truckee.frontends.ftp.codec import (
    Reply,
    format_time,
    parse_allo,
    parse_chmod,
    parse_offset,
    parse_utime,
    quoted,
    reply,
    strip_options,
    time_and_path,
)
from truckee.frontends.ftp.session import Refused, Session, argument
from truckee.frontends.vfs.paths import Path, format_path


async def cwd(s: Session, arg: bytes) -> Reply:
    """CWD."""
    return await _enter(s, s.path(arg))


async def cdup(s: Session, arg: bytes) -> Reply:
    """CDUP."""
    return await _enter(s, s.cwd[:-1])


async def _enter(s: Session, path: Path) -> Reply:
    if not (await s.vfs.stat(path)).is_directory:
        raise ChildOfWrongTypeError("not a directory")
    s.cwd = path
    return reply(250, "directory changed")


async def size(s: Session, arg: bytes) -> Reply:
    """SIZE."""
    path = s.path(arg)
    if s.text:
        return reply(550, "SIZE is known in TYPE I only")
    attributes = await s.vfs.stat(path)
    if attributes.is_directory:
        return reply(550, "not a file")
    return reply(213, str(attributes.size))


async def mdtm(s: Session, arg: bytes) -> Reply:
    """MDTM path; and, for old clients, MDTM time path when no file has that whole name."""
    path = s.path(arg)
    try:
        return reply(213, format_time((await s.vfs.stat(path)).mtime))
    except NoSuchChildError as absent:
        try:
            when, target = time_and_path(arg)
        except FormatError:
            raise absent from None
    await s.vfs.set_attributes(s.path(target), mtime=when)
    return reply(213, format_time(when))


async def mfmt(s: Session, arg: bytes) -> Reply:
    """MFMT time path."""
    when, target = argument(time_and_path, arg)
    path = s.path(target)
    await s.vfs.set_attributes(path, mtime=when)
    return reply(213, f"Modify={format_time(when)}; {format_path(path)}")


async def dele(s: Session, arg: bytes) -> Reply:
    """DELE."""
    return await _done(s.vfs.remove(s.path(arg)), "deleted")


async def rmd(s: Session, arg: bytes) -> Reply:
    """RMD."""
    path = s.path(arg)
    if not path:
        raise Refused(550, "the root cannot be removed")
    return await _done(s.vfs.rmdir(path), "directory removed")


async def mkd(s: Session, arg: bytes) -> Reply:
    """MKD."""
    path = s.path(arg)
    await s.vfs.mkdir(path)
    return reply(257, quoted(format_path(path)) + " created")


async def rnfr(s: Session, arg: bytes) -> Reply:
    """RNFR."""
    path = s.path(arg)
    if not path:
        raise Refused(550, "the root cannot be renamed")
    await s.vfs.stat(path)
    s.rename_from = path
    return reply(350, "now RNTO")


async def rnto(s: Session, arg: bytes) -> Reply:
    """RNTO: takes the place of a file, not of a directory."""
    source, s.rename_from = s.rename_from, None
    if source is None:
        return reply(503, "RNFR comes first")
    return await _done(s.vfs.rename(source, s.path(arg), replace=True), "renamed")


async def _done(work: Awaitable[None], text: str) -> Reply:
    await work
    return reply(250, text)


async def rest(s: Session, arg: bytes) -> Reply:
    """REST: where the next transfer starts."""
    offset = argument(parse_offset, arg)
    if offset and s.text:
        return reply(501, "in TYPE A only REST 0")
    s.rest = offset
    return reply(350, f"the next transfer starts at {offset}")


async def allo(s: Session, arg: bytes) -> Reply:
    """ALLO: the size of the upload to come; one that ends short of it is dropped."""
    s.announced = argument(parse_allo, arg)
    return reply(202, "no room needs to be set aside, the size is noted")


async def mlst(s: Session, arg: bytes) -> Reply:
    """MLST."""
    path = s.path_or_cwd(arg)
    line = listing.facts_format(s.facts, s.vfs.readonly)
    text = line(format_path(path), await s.vfs.stat(path))
    return reply(250, "facts:", text, "end")


async def stat_path(s: Session, arg: bytes) -> Reply:
    """STAT path: a LIST over the control connection."""
    found = await listing.find(s.vfs, s.path_or_cwd(strip_options(arg)))
    line = listing.ls_format(s.vfs.account, s.wall_clock())
    s.control.send_raw(b"213-status:\r\n")
    async for batch in found.batches:
        s.control.send_raw(listing.encode_lines(batch, line))
        await s.control.drained()
    return reply(213, "end")


async def site(s: Session, arg: bytes) -> Reply:
    """SITE CHMOD, SITE UTIME, SITE HELP."""
    word, _, rest_of_line = arg.partition(b" ")
    match word.upper():
        case b"CHMOD":
            mode, target = argument(parse_chmod, rest_of_line)
            await s.vfs.set_attributes(s.path(target), mode=mode)
            return reply(200, "mode set")
        case b"UTIME":
            when, target = argument(parse_utime, rest_of_line)
            await s.vfs.set_attributes(s.path(target), mtime=when)
            return reply(200, "time set")
        case b"HELP":
            return reply(200, "SITE CHMOD mode path, SITE UTIME time path, SITE HELP")
    return reply(504, "SITE knows CHMOD, UTIME and HELP")
