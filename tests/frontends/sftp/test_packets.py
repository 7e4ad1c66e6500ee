"""Bytes to requests and replies to bytes, without anything behind them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import attrs, packet, s, u32, u64
from truckee.core.errors import FormatError
from truckee.frontends.sftp import packets as p
from truckee.frontends.sftp.attributes import Wanted

TIMES = attrs(size=5, mode=0o100644, times=(1, 2), owner=(7, 8), extended=[(b"a", b"b")])
WANTED = Wanted(5, 0o644, 2, empty=False)


def extended(name: str, body: bytes = b"") -> bytes:
    return s(name) + body


REQUESTS = [
    (w.OPEN, s("/a") + u32(26) + TIMES, p.Open(7, b"/a", 26, WANTED)),
    (w.CLOSE, s("h"), p.Close(7, b"h")),
    (w.READ, s("h") + u64(2**40) + u32(9), p.Read(7, b"h", 2**40, 9)),
    (w.WRITE, s("h") + u64(3) + s(b"\0\xff"), p.Write(7, b"h", 3, b"\0\xff")),
    (w.LSTAT, s("/a"), p.Stat(7, b"/a")),
    (w.STAT, s(b"\xff"), p.Stat(7, b"\xff")),
    (w.FSTAT, s("h"), p.Fstat(7, b"h")),
    (w.SETSTAT, s("/a") + TIMES, p.Setstat(7, b"/a", WANTED)),
    (w.FSETSTAT, s("h") + TIMES, p.Fsetstat(7, b"h", WANTED)),
    (w.OPENDIR, s("/a"), p.Opendir(7, b"/a")),
    (w.READDIR, s("h"), p.Readdir(7, b"h")),
    (w.REMOVE, s("/a"), p.Remove(7, b"/a")),
    (w.MKDIR, s("/a") + attrs(mode=0o755), p.Mkdir(7, b"/a")),
    (w.MKDIR, s("/a"), p.Mkdir(7, b"/a")),
    (w.RMDIR, s("/a"), p.Rmdir(7, b"/a")),
    (w.REALPATH, s(""), p.Realpath(7, b"")),
    (w.RENAME, s("/a") + s("/b"), p.Rename(7, b"/a", b"/b", False)),
    (w.READLINK, s("/a"), p.Unsupported(7)),
    (w.SYMLINK, s("/a") + s("/b"), p.Unsupported(7)),
    (2, b"", p.Unsupported(7)),
    (255, s("x"), p.Unsupported(7)),
    (w.EXTENDED, extended("none@example.org", b"x"), p.Unsupported(7)),
    (
        w.EXTENDED,
        extended("posix-rename@openssh.com", s("/a") + s("/b")),
        p.Rename(7, b"/a", b"/b", True),
    ),
    (w.EXTENDED, extended("statvfs@openssh.com", s("/a")), p.Statvfs(7, b"/a")),
    (w.EXTENDED, extended("fstatvfs@openssh.com", s("h")), p.Fstatvfs(7, b"h")),
    (w.EXTENDED, extended("fsync@openssh.com", s("h")), p.Fsync(7, b"h")),
    (w.EXTENDED, extended("limits@openssh.com"), p.Limits(7)),
    (
        w.EXTENDED,
        extended("copy-data", s("h") + u64(1) + u64(2) + s("i") + u64(3)),
        p.CopyData(7, b"h", 1, 2, b"i", 3),
    ),
    (
        w.EXTENDED,
        extended("hardlink@openssh.com", s("/a") + s("/b")),
        p.Hardlink(7, b"/a", b"/b"),
    ),
    (w.EXTENDED, extended("lsetstat@openssh.com", s("/a") + TIMES), p.Setstat(7, b"/a", WANTED)),
    (w.EXTENDED, extended("expand-path@openssh.com", s("~")), p.ExpandPath(7, b"~")),
]


def read_all(raw: bytes, step: int = 0) -> list[p.Request]:
    splitter = p.Splitter()
    found = []
    for at in range(0, len(raw), step or len(raw)):
        splitter.feed(raw[at : at + (step or len(raw))])
        while (one := splitter.next_packet()) is not None:
            found.append(one.request())
    return found


@pytest.mark.parametrize(("kind", "body", "request_"), REQUESTS)
@pytest.mark.parametrize("trailing", [b"", b"\0", bytes(4096)])
def test_every_request_is_read_and_trailing_bytes_are_ignored(kind, body, request_, trailing):
    assert read_all(packet(kind, u32(7) + body + trailing)) == [request_]


@pytest.mark.parametrize(("kind", "body", "request_"), REQUESTS)
def test_a_request_cut_anywhere_is_malformed_and_keeps_its_id(kind, body, request_):
    needed = 0
    for cut in range(len(body)):
        (found,) = read_all(packet(kind, u32(7) + body[:cut]))
        assert found.id == 7
        if isinstance(found, p.Malformed):
            needed = cut + 1
    optional = isinstance(request_, p.Unsupported | p.Mkdir | p.Limits)
    assert needed == len(body) or optional


@given(st.lists(st.sampled_from(REQUESTS), max_size=8), st.integers(1, 40))
def test_packets_may_be_cut_and_joined_anywhere(requests, step):
    raw = b"".join(packet(kind, u32(7) + body) for kind, body, _ in requests)
    assert read_all(raw, step) == [expected for _, _, expected in requests]


@pytest.mark.parametrize("size", [0, p.MAX_PACKET + 1, 2**31, 2**32 - 1])
def test_a_length_that_is_refused_is_refused_before_anything_is_gathered(size):
    splitter = p.Splitter()
    splitter.feed(u32(size))
    for _ in range(2):
        with pytest.raises(FormatError):
            splitter.next_packet()


def test_the_longest_packet_is_taken():
    data = bytes(p.MAX_PACKET - 5 - 5 - 8 - 4)
    raw = packet(w.WRITE, u32(7) + s("h") + u64(0) + s(data))
    assert len(raw) == 4 + p.MAX_PACKET
    assert read_all(raw, 30000) == [p.Write(7, b"h", 0, data)]


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0\0"])
def test_a_packet_without_room_for_an_id_cannot_be_answered(body):
    with pytest.raises(FormatError):
        read_all(packet(w.STAT, body))


def test_lengths_inside_a_packet_do_not_reach_into_the_next_one():
    first = packet(w.STAT, u32(1) + u32(12) + b"/a")
    assert read_all(first + packet(w.STAT, u32(2) + s("/b"))) == [
        p.Malformed(1),
        p.Stat(2, b"/b"),
    ]


def test_the_splitter_holds_no_more_than_what_is_not_taken():
    splitter = p.Splitter()
    one = packet(w.CLOSE, u32(7) + s("h"))
    for _ in range(2000):
        splitter.feed(one)
        assert splitter.next_packet() is not None
    assert len(splitter._buffer) <= len(one)


def test_more_extended_attributes_than_bytes_cost_nothing():
    body = s("/a") + u32(0x80000000) + u32(2**32 - 1)
    assert read_all(packet(w.SETSTAT, u32(7) + body)) == [p.Malformed(7)]


# replies


def joined(reply: p.Reply) -> w.Answer:
    raw = b"".join(reply)
    assert struct.unpack(">I", raw[:4])[0] == len(raw) - 4
    return w.Answer(raw[4], raw[5:])


def test_replies_are_as_the_protocol_has_them():
    assert (joined(p.ok(3)).id, joined(p.ok(3)).code) == (3, w.OK)
    assert joined(p.end_of_file(3)).text == "end of file"
    assert joined(p.status(3, 4, "é")).text == "é"
    assert joined(p.handle(3, b"abc")).handle == b"abc"
    assert joined(p.data(3, b"abc")).data == b"abc"
    assert joined(p.data(3, b"")).data == b""
    assert joined(p.extended_reply(3, b"abc")).body == u32(3) + b"abc"


def test_the_data_of_a_read_is_passed_on_without_a_copy():
    piece = bytes(100_000)
    reply = p.data(3, piece)
    assert reply[1] is piece
    assert len(reply[0]) == 13


def test_version_offers_what_is_read():
    answer = joined(p.version())
    assert answer.kind == w.VERSION
    assert answer.id == 3
    rest, offered = answer.body[4:], {}
    while rest:
        name, rest = w.take_string(rest)
        offered[name], rest = w.take_string(rest)
    assert offered == {
        b"posix-rename@openssh.com": b"1",
        b"statvfs@openssh.com": b"2",
        b"fstatvfs@openssh.com": b"2",
        b"fsync@openssh.com": b"1",
        b"limits@openssh.com": b"1",
        b"copy-data": b"1",
        b"hardlink@openssh.com": b"1",
        b"lsetstat@openssh.com": b"1",
        b"expand-path@openssh.com": b"1",
    }
