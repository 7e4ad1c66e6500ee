"""Listings: which entries, in which form. Knows the vfs' batches and the line formats.

Entries come in batches of at most 200 and are formatted batch by batch, so that neither a huge
directory nor a slow client holds up anybody else.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from truckee.core.errors import NoSuchChildError
from truckee.frontends.ftp.codec import format_time
from truckee.frontends.ftp.globbing import Pattern, is_pattern
from truckee.frontends.vfs.attributes import Attributes, ls_line
from truckee.frontends.vfs.paths import Path, is_hidden
from truckee.frontends.vfs.session import Batch, VFSSession

Formatter = Callable[[str, Attributes], str]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a path names: the children of a directory, one file, or what fits a pattern."""

    batches: AsyncIterator[Batch]
    is_file: bool = False
    is_glob: bool = False


async def find(vfs: VFSSession, path: Path, *, globs: bool = True) -> Listing:
    """Return the listing of `path`; a pattern in its last part counts if no such name exists.

    Raises NoSuchChildError and whatever else the vfs says, before the first batch.
    """
    try:
        attributes = await vfs.stat(path)
    except NoSuchChildError:
        if not (globs and path and is_pattern(path[-1])):
            raise
        found = await vfs.list(path[:-1])
        return Listing(_visible(found, Pattern(path[-1])), is_glob=True)
    if attributes.is_directory:
        return Listing(_visible(await vfs.list(path)))
    return Listing(_single(path[-1] if path else "/", attributes), is_file=True)


async def _single(name: str, attributes: Attributes) -> AsyncIterator[Batch]:
    yield [(name, attributes)]


async def _visible(
    batches: AsyncIterator[Batch], pattern: Pattern | None = None
) -> AsyncIterator[Batch]:
    """Leave out names that would forge a line, and those that do not fit."""
    async for batch in batches:
        yield [
            (name, attributes)
            for name, attributes in batch
            if not is_hidden(name, lines=True) and (pattern is None or pattern.matches(name))
        ]


def ls_format(account: str, now: float) -> Formatter:
    """Return the formatter of LIST."""

    def line(name: str, attributes: Attributes) -> str:
        return ls_line(name, attributes, account, now)

    return line


def name_format(prefix: str) -> Formatter:
    """Return the formatter of NLST; `prefix` is the directory as the client wrote it."""

    def line(name: str, attributes: Attributes) -> str:
        return prefix + name

    return line


def facts_format(facts: tuple[str, ...], readonly: bool) -> Formatter:
    """Return the formatter of MLSD and MLST."""

    def line(name: str, attributes: Attributes) -> str:
        values = {
            "type": "dir" if attributes.is_directory else "file",
            "size": str(attributes.size),
            "modify": format_time(attributes.mtime),
            "perm": _permissions(attributes, readonly),
            "unique": attributes.unique,
            "UNIX.mode": f"0{attributes.mode:o}",
        }
        if attributes.is_directory:
            del values["size"]
        return "".join(f"{f}={values[f]};" for f in facts if f in values) + " " + name

    return line


def _permissions(attributes: Attributes, readonly: bool) -> str:
    """Return the RFC 3659 letters: what this session may try with the entry."""
    edit = "" if readonly else "df"
    if attributes.is_directory:
        return "el" + ("cmp" if attributes.writable else "") + edit
    readable = "" if attributes.type == "unknown" else "r"
    return readable + ("aw" if attributes.writable else "") + edit


def encode_lines(batch: Batch, line: Formatter) -> bytes:
    """Return the bytes of one batch."""
    return "".join(f"{line(name, found)}\r\n" for name, found in batch).encode("utf-8", "replace")
