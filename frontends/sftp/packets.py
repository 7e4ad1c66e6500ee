"""SFTP version 3 packets: bytes to requests, replies to bytes.

Pure: no clock, no Deferred, no file. Trailing bytes of a request are ignored, as OpenSSH's server
does and as some clients need. A request that cannot be read becomes `Malformed`, so that it can be
answered; only a packet too short to carry an id, or of a size that is refused, is a FormatError.
Replies are lists of buffers, so that the data of a READ is never copied into one with its header.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from truckee.core.errors import FormatError
from truckee.frontends.sftp.attributes import Wanted, decode
from truckee.frontends.sftp.fields import U32, Cursor, string

VERSION = 3

MAX_PACKET = 256 * 1024 + 1024
"""Longest packet that is taken, without its length."""

MAX_READ = 256 * 1024
"""Most bytes that one READ gives."""

INIT, OPEN, CLOSE, READ, WRITE = 1, 3, 4, 5, 6
LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = 7, 8, 9, 10, 11, 12
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME = 13, 14, 15, 16, 17, 18
READLINK, SYMLINK, EXTENDED = 19, 20, 200

_VERSION, _STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201

_OK, _EOF = 0, 1

Reply = list[bytes]
"""Buffers that are sent one behind the other."""


# requests


@dataclass(frozen=True, slots=True)
class Request:
    """Something that is answered once, under its id."""

    id: int


@dataclass(frozen=True, slots=True)
class Open(Request):
    """OPEN."""

    path: bytes
    flags: int
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Close(Request):
    """CLOSE."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class Read(Request):
    """READ."""

    handle: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Write(Request):
    """WRITE."""

    handle: bytes
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Stat(Request):
    """STAT and LSTAT: there are no symbolic links."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Fstat(Request):
    """FSTAT."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class Setstat(Request):
    """SETSTAT and lsetstat@openssh.com."""

    path: bytes
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Fsetstat(Request):
    """FSETSTAT."""

    handle: bytes
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Opendir(Request):
    """OPENDIR."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Readdir(Request):
    """READDIR."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class Remove(Request):
    """REMOVE."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Mkdir(Request):
    """MKDIR; the attributes that come with it are not looked at."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Rmdir(Request):
    """RMDIR."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Realpath(Request):
    """REALPATH."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Rename(Request):
    """RENAME; `replace` makes it posix-rename@openssh.com."""

    source: bytes
    target: bytes
    replace: bool


@dataclass(frozen=True, slots=True)
class Statvfs(Request):
    """statvfs@openssh.com."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Fstatvfs(Request):
    """fstatvfs@openssh.com."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class Fsync(Request):
    """fsync@openssh.com."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class Limits(Request):
    """limits@openssh.com."""


@dataclass(frozen=True, slots=True)
class CopyData(Request):
    """copy-data; a length of 0 means up to the end of the source."""

    source: bytes
    source_offset: int
    length: int
    target: bytes
    target_offset: int


@dataclass(frozen=True, slots=True)
class Hardlink(Request):
    """hardlink@openssh.com."""

    source: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class ExpandPath(Request):
    """expand-path@openssh.com."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Unsupported(Request):
    """Whatever is not served, symbolic links among it."""


@dataclass(frozen=True, slots=True)
class Malformed(Request):
    """A known request whose contents cannot be read."""


EXTENSIONS: Mapping[bytes, tuple[bytes, Callable[[int, Cursor], Request]]] = {
    b"posix-rename@openssh.com": (b"1", lambda i, c: Rename(i, c.string(), c.string(), True)),
    b"statvfs@openssh.com": (b"2", lambda i, c: Statvfs(i, c.string())),
    b"fstatvfs@openssh.com": (b"2", lambda i, c: Fstatvfs(i, c.string())),
    b"fsync@openssh.com": (b"1", lambda i, c: Fsync(i, c.string())),
    b"limits@openssh.com": (b"1", lambda i, c: Limits(i)),
    b"copy-data": (
        b"1",
        lambda i, c: CopyData(i, c.string(), c.u64(), c.u64(), c.string(), c.u64()),
    ),
    b"hardlink@openssh.com": (b"1", lambda i, c: Hardlink(i, c.string(), c.string())),
    b"lsetstat@openssh.com": (b"1", lambda i, c: Setstat(i, c.string(), decode(c))),
    b"expand-path@openssh.com": (b"1", lambda i, c: ExpandPath(i, c.string())),
}
"""What VERSION offers: the value told, and how the request is read."""


def _extended(number: int, cursor: Cursor) -> Request:
    known = EXTENSIONS.get(cursor.string())
    return Unsupported(number) if known is None else known[1](number, cursor)


_READERS: Mapping[int, Callable[[int, Cursor], Request]] = {
    OPEN: lambda i, c: Open(i, c.string(), c.u32(), decode(c)),
    CLOSE: lambda i, c: Close(i, c.string()),
    READ: lambda i, c: Read(i, c.string(), c.u64(), c.u32()),
    WRITE: lambda i, c: Write(i, c.string(), c.u64(), c.string()),
    LSTAT: lambda i, c: Stat(i, c.string()),
    FSTAT: lambda i, c: Fstat(i, c.string()),
    SETSTAT: lambda i, c: Setstat(i, c.string(), decode(c)),
    FSETSTAT: lambda i, c: Fsetstat(i, c.string(), decode(c)),
    OPENDIR: lambda i, c: Opendir(i, c.string()),
    READDIR: lambda i, c: Readdir(i, c.string()),
    REMOVE: lambda i, c: Remove(i, c.string()),
    MKDIR: lambda i, c: Mkdir(i, c.string()),
    RMDIR: lambda i, c: Rmdir(i, c.string()),
    REALPATH: lambda i, c: Realpath(i, c.string()),
    STAT: lambda i, c: Stat(i, c.string()),
    RENAME: lambda i, c: Rename(i, c.string(), c.string(), False),
    EXTENDED: _extended,
}


@dataclass(frozen=True, slots=True)
class Packet:
    """Where one packet lies in the splitter's buffer; good until the splitter is fed again."""

    kind: int
    buffer: bytearray
    start: int
    end: int

    @property
    def size(self) -> int:
        """Return how many bytes it took on the wire."""
        return self.end - self.start + 5

    def version(self) -> int:
        """Return the version that an INIT asks for; its extensions are not looked at."""
        return Cursor(self.buffer, self.start, self.end).u32()

    def request(self) -> Request:
        """Read it as a request. FormatError if it is too short to be answered."""
        cursor = Cursor(self.buffer, self.start, self.end)
        number = cursor.u32()
        reader = _READERS.get(self.kind)
        if reader is None:
            return Unsupported(number)
        try:
            return reader(number, cursor)
        except FormatError:
            return Malformed(number)


class Splitter:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take bytes, cut anywhere."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """Return the next whole packet. FormatError for a size that is refused, ever after."""
        at, here = self._at, len(self._buffer) - self._at
        if here < 4:
            return None
        size: int = U32.unpack_from(self._buffer, at)[0]
        if not 1 <= size <= MAX_PACKET:
            raise FormatError("a packet of a size that is refused")
        if here < 4 + size:
            return None
        self._at = at + 4 + size
        return Packet(self._buffer[at + 4], self._buffer, at + 5, self._at)

    def clear(self) -> None:
        """Forget what is held."""
        self._buffer = bytearray()
        self._at = 0


# replies

_HEAD = Struct(">IBI")
_DATA_HEAD = Struct(">IBII")
_STATUS_HEAD = Struct(">IBII")


def _packet(kind: int, number: int, body: bytes) -> Reply:
    return [_HEAD.pack(5 + len(body), kind, number) + body]


def version() -> Reply:
    """Return VERSION 3 with what else is spoken here."""
    offered = b"".join(string(name) + string(value) for name, (value, _) in EXTENSIONS.items())
    return [_HEAD.pack(5 + len(offered), _VERSION, VERSION) + offered]


def status(number: int, code: int, text: str) -> Reply:
    """Return STATUS."""
    body = string(text.encode("utf-8", "replace")) + string(b"en")
    return [_STATUS_HEAD.pack(9 + len(body), _STATUS, number, code) + body]


def ok(number: int) -> Reply:
    """Return the STATUS of success."""
    return status(number, _OK, "done")


def end_of_file(number: int) -> Reply:
    """Return the STATUS that ends a file or a listing."""
    return status(number, _EOF, "end of file")


def handle(number: int, text: bytes) -> Reply:
    """Return HANDLE."""
    return _packet(_HANDLE, number, string(text))


def data(number: int, piece: bytes) -> Reply:
    """Return DATA; the piece itself is the second buffer."""
    return [_DATA_HEAD.pack(9 + len(piece), _DATA, number, len(piece)), piece]


def names(number: int, entries: Sequence[bytes]) -> Reply:
    """Return NAME."""
    return _packet(_NAME, number, U32.pack(len(entries)) + b"".join(entries))


def attrs(number: int, encoded: bytes) -> Reply:
    """Return ATTRS."""
    return _packet(_ATTRS, number, encoded)


def extended_reply(number: int, body: bytes) -> Reply:
    """Return EXTENDED_REPLY."""
    return _packet(_EXTENDED_REPLY, number, body)
