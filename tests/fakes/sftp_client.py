"""A tiny SFTP client, written from the protocol's text alone, and a channel in memory for it.

`Talk` puts both on a subsystem over a session of a tree, and turns the clock until answers come.
"""

import struct
from dataclasses import dataclass, field

from tests.fakes.tree import Tree
from truckee.frontends.sftp.subsystem import SFTPSubsystem

R, W, A, C, T, X = 1, 2, 4, 8, 16, 32

OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8

INIT, VERSION, OPEN, CLOSE, READ, WRITE = 1, 2, 3, 4, 5, 6
LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = 7, 8, 9, 10, 11, 12
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME = 13, 14, 15, 16, 17, 18
READLINK, SYMLINK, EXTENDED = 19, 20, 200
STATUS, HANDLE, DATA, NAME, ATTRS, REPLY = 101, 102, 103, 104, 105, 201


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def s(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return u32(len(raw)) + raw


def attrs(size=None, mode=None, times=None, owner=None, extended=()) -> bytes:
    flags, body = 0, b""
    if size is not None:
        flags, body = flags | 1, body + u64(size)
    if owner is not None:
        flags, body = flags | 2, body + u32(owner[0]) + u32(owner[1])
    if mode is not None:
        flags, body = flags | 4, body + u32(mode)
    if times is not None:
        flags, body = flags | 8, body + u32(times[0]) + u32(times[1])
    if extended:
        flags |= 0x80000000
        body += u32(len(extended)) + b"".join(s(k) + s(v) for k, v in extended)
    return u32(flags) + body


def packet(kind: int, body: bytes = b"") -> bytes:
    return u32(1 + len(body)) + bytes([kind]) + body


@dataclass
class Attrs:
    size: int
    mode: int
    mtime: int


@dataclass
class Answer:
    """One reply, taken apart."""

    kind: int
    body: bytes

    @property
    def id(self) -> int:
        return struct.unpack(">I", self.body[:4])[0]

    @property
    def code(self) -> int:
        assert self.kind == STATUS, self
        return struct.unpack(">I", self.body[4:8])[0]

    @property
    def text(self) -> str:
        assert self.kind == STATUS, self
        size = struct.unpack(">I", self.body[8:12])[0]
        assert self.body[12 + size :] == s("en")
        return self.body[12 : 12 + size].decode()

    @property
    def handle(self) -> bytes:
        assert self.kind == HANDLE, (self.kind, self.body)
        return self.body[8:]

    @property
    def data(self) -> bytes:
        assert self.kind == DATA, (self.kind, self.body)
        assert struct.unpack(">I", self.body[4:8])[0] == len(self.body) - 8
        return self.body[8:]

    @property
    def attrs(self) -> Attrs:
        assert self.kind == ATTRS, (self.kind, self.body)
        found, rest = take_attrs(self.body[4:])
        assert not rest
        return found

    @property
    def names(self) -> dict[str, tuple[str, Attrs | None]]:
        assert self.kind == NAME, (self.kind, self.body)
        (count,) = struct.unpack(">I", self.body[4:8])
        rest, found = self.body[8:], {}
        for _ in range(count):
            name, rest = take_string(rest)
            line, rest = take_string(rest)
            about, rest = take_attrs(rest)
            found[name.decode()] = (line.decode(), about)
        assert not rest
        return found


def take_string(raw: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack(">I", raw[:4])
    assert len(raw) >= 4 + size
    return raw[4 : 4 + size], raw[4 + size :]


def take_attrs(raw: bytes) -> tuple[Attrs | None, bytes]:
    (flags,) = struct.unpack(">I", raw[:4])
    if not flags:
        return None, raw[4:]
    assert flags == 1 | 4 | 8, "owners are never sent"
    size, mode, atime, mtime = struct.unpack(">QIII", raw[4:24])
    assert atime == mtime
    return Attrs(size, mode, mtime), raw[24:]


@dataclass
class FakeChannel:
    """Takes what is written; TCP takes nothing while `stuck`."""

    out: bytearray = field(default_factory=bytearray)
    stuck: bool = False
    unsent: int = 0
    most_unsent: int = 0
    taken: int = 0
    closed: int | None = None
    pieces: list = field(default_factory=list)

    def write(self, pieces) -> None:
        assert self.closed is None
        for piece in pieces:
            self.pieces.append(piece)
            self.out += piece
            if self.stuck:
                self.unsent += len(piece)
        self.most_unsent = max(self.most_unsent, self.unsent)

    def consumed(self, size: int) -> None:
        assert size > 0
        self.taken += size

    def close(self, status: int) -> None:
        if self.closed is None:
            self.closed = status


class Talk:
    """One client on one subsystem."""

    def __init__(self, tree: Tree, session=None, *, greet: bool = True, **more) -> None:
        self.tree = tree
        self.session = session or tree.session(protocol="sftp")
        self.channel = FakeChannel()
        self.subsystem = SFTPSubsystem(self.session, tree.clock, **more)
        self.subsystem.start(self.channel)
        self.answers: dict[int, Answer] = {}
        self.sent = 0
        self._next = 0
        if greet:
            assert self.greet().kind == VERSION

    def greet(self, version: int = 3, more: bytes = b"") -> Answer:
        self.feed(packet(INIT, u32(version) + more))
        for _ in range(5):
            found = self._split()
            if found:
                return found[0]
            self.tree.clock.advance(0.001)
        raise AssertionError("no VERSION")

    def feed(self, data: bytes) -> None:
        self.sent += len(data)
        self.subsystem.data(data)

    def send(self, kind: int, body: bytes = b"") -> int:
        """Send a request; return its id."""
        self._next += 1
        self.feed(packet(kind, u32(self._next) + body))
        return self._next

    def _split(self) -> list[Answer]:
        found = []
        out = self.channel.out
        while len(out) >= 4:
            (size,) = struct.unpack(">I", out[:4])
            if len(out) < 4 + size:
                break
            found.append(Answer(out[4], bytes(out[5 : 4 + size])))
            del out[: 4 + size]
        return found

    def collect(self) -> None:
        for answer in self._split():
            assert answer.id not in self.answers, "answered twice"
            self.answers[answer.id] = answer

    def has(self, number: int) -> bool:
        self.collect()
        return number in self.answers

    def wait(self, number: int, turns: int = 800) -> Answer:
        """Return the answer to a request, letting time pass."""
        for _ in range(turns):
            if self.has(number):
                return self.answers.pop(number)
            self.tree.clock.advance(0.25)
        raise AssertionError(f"request {number} is not answered")

    def ask(self, kind: int, body: bytes = b"") -> Answer:
        return self.wait(self.send(kind, body))

    def settle(self, turns: int = 60) -> None:
        for _ in range(turns):
            self.tree.clock.advance(0.25)
        self.collect()

    # whole requests

    def open(self, path, flags: int, wanted: bytes | None = None) -> Answer:
        return self.ask(OPEN, s(path) + u32(flags) + (attrs() if wanted is None else wanted))

    def handle(self, path, flags: int, wanted: bytes | None = None) -> bytes:
        return s(self.open(path, flags, wanted).handle[0:])

    def write(self, handle: bytes, offset: int, data: bytes) -> int:
        return self.ask(WRITE, handle + u64(offset) + s(data)).code

    def read(self, handle: bytes, offset: int, size: int) -> bytes:
        answer = self.ask(READ, handle + u64(offset) + u32(size))
        if answer.kind == STATUS:
            assert answer.code == EOF, answer.text
            return b""
        return answer.data

    def close(self, handle: bytes) -> int:
        return self.ask(CLOSE, handle).code

    def put(self, path, data: bytes, flags: int = W | C | T) -> None:
        handle = self.handle(path, flags)
        for at in range(0, len(data), 32768):
            assert self.write(handle, at, data[at : at + 32768]) == OK
        assert self.close(handle) == OK

    def get(self, path) -> bytes:
        handle = self.handle(path, R)
        out = b""
        while piece := self.read(handle, len(out), 32768):
            out += piece
        assert self.close(handle) == OK
        return out

    def status(self, kind: int, *paths) -> int:
        """Send a request of paths alone; return the code of its STATUS."""
        return self.ask(kind, b"".join(map(s, paths)) + self._rest(kind)).code

    @staticmethod
    def _rest(kind: int) -> bytes:
        return attrs() if kind in (MKDIR, SETSTAT) else b""

    def stat(self, path) -> Attrs:
        return self.ask(STAT, s(path)).attrs

    def names(self, path="/") -> dict[str, tuple[str, Attrs]]:
        handle = s(self.ask(OPENDIR, s(path)).handle)
        found: dict = {}
        while (answer := self.ask(READDIR, handle)).kind == NAME:
            assert answer.names
            found |= answer.names
        assert answer.code == EOF
        assert self.close(handle) == OK
        return found

    def extended(self, name: str, body: bytes = b"") -> Answer:
        return self.ask(EXTENDED, s(name) + body)
