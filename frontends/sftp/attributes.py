"""File attributes as SFTP version 3 writes them, and the lines of a listing.

Knows the ATTRS structure and the attributes of the vfs; touches nothing.
"""

from dataclasses import dataclass
from struct import Struct

from truckee.core.errors import FormatError
from truckee.frontends.sftp.fields import Cursor, string
from truckee.frontends.vfs.attributes import Attributes, ls_line
from truckee.frontends.vfs.paths import printable

SIZE = 0x1
OWNER = 0x2
PERMISSIONS = 0x4
TIMES = 0x8
EXTENDED = 0x80000000

_DIRECTORY = 0o040000
_REGULAR = 0o100000
_LATEST = 2**32 - 1
_MOST_EXTENSIONS = 256

_ENCODED = Struct(">IQIII")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants set; None is what it does not speak of."""

    size: int | None = None
    mode: int | None = None
    """Permission bits alone; clients send the bits of the file type, too."""
    mtime: int | None = None
    empty: bool = True
    """Whether the structure had nothing in it, not even what is ignored here."""


def decode(cursor: Cursor) -> Wanted:
    """Read ATTRS. Owners, access times and extensions are passed over. FormatError."""
    flags = cursor.u32()
    size = mode = mtime = None
    if flags & SIZE:
        size = cursor.u64()
    if flags & OWNER:
        cursor.u32()
        cursor.u32()
    if flags & PERMISSIONS:
        mode = cursor.u32() & 0o7777
    if flags & TIMES:
        cursor.u32()
        mtime = cursor.u32()
    if flags & EXTENDED:
        _skip_extensions(cursor)
    known = flags & (SIZE | OWNER | PERMISSIONS | TIMES | EXTENDED)
    return Wanted(size, mode, mtime, empty=not known)


def _skip_extensions(cursor: Cursor) -> None:
    count = cursor.u32()
    if count > min(_MOST_EXTENSIONS, cursor.left // 8):
        raise FormatError("more extended attributes than there is room for")
    for _ in range(2 * count):
        cursor.skip_string()


def encode(attributes: Attributes) -> bytes:
    """Return ATTRS with size, mode and times; owners are numbers and have no meaning here."""
    kind = _DIRECTORY if attributes.is_directory else _REGULAR
    mtime = min(max(attributes.mtime, 0), _LATEST)
    return _ENCODED.pack(
        SIZE | PERMISSIONS | TIMES, attributes.size, kind | attributes.mode, mtime, mtime
    )


def encode_name(name: str) -> bytes:
    """Return a child's name as it goes over the wire."""
    return name.encode("utf-8", "replace")


def entry(name: str, attributes: Attributes, account: str, now: float) -> bytes:
    """Return one entry of a NAME reply: the name, its ``ls -l`` line, ATTRS.

    The line is for eyes, and programs print it as it is; the name itself stays untouched.
    """
    line = ls_line(printable(name), attributes, account, now)
    return string(encode_name(name)) + string(encode_name(line)) + encode(attributes)


def bare_entry(path: str) -> bytes:
    """Return the entry that answers REALPATH: a name and nothing known about it."""
    raw = string(encode_name(path))
    return raw + raw + bytes(4)
