"""Damaged SFTP packets after the login: no crash, no hang, one answer each, the tree as it was."""

import itertools
import random
import struct
import time

import pytest

from tests.fakes import sftp_client as w
from tests.fakes.sftp_client import A, C, R, T, Talk, W, X, attrs, s, u32, u64
from tests.fakes.tree import Tree
from tests.hostile.test_ftp_confinement import stored
from tests.hostile.test_parsers_fuzz import Mutator

SLOWEST = 2.0
CANARY = "canary-5d41402abc4b"
HANDLES = [s(n.to_bytes(8, "big").hex()) for n in range(1, 8)]


def numbered():
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def requests() -> list[bytes]:
    """Return valid requests without their lengths and ids: the type, then the body."""
    paths = [s(p) for p in ("/f", "/d", "/d/g", "/new", "/", "/é/日本", "..")]
    found = []
    for kind in (w.STAT, w.LSTAT, w.OPENDIR, w.REALPATH, w.REMOVE, w.RMDIR, w.READLINK):
        found += [(kind, p) for p in paths]
    for flags in (R, W, R | W, W | C, W | C | T, W | C | X, W | A | C, 0, 255):
        found += [(w.OPEN, p + u32(flags) + attrs(mode=0o644)) for p in paths[:4]]
    for handle in HANDLES:
        found += [
            (w.READ, handle + u64(0) + u32(32768)),
            (w.WRITE, handle + u64(5) + s(b"written")),
            (w.FSTAT, handle),
            (w.FSETSTAT, handle + attrs(size=9, times=(1, 2))),
            (w.READDIR, handle),
            (w.CLOSE, handle),
            (w.EXTENDED, s("fsync@openssh.com") + handle),
            (w.EXTENDED, s("fstatvfs@openssh.com") + handle),
            (w.EXTENDED, s("copy-data") + handle + u64(0) + u64(0) + HANDLES[0] + u64(0)),
        ]
    for p, q in itertools.permutations(paths[:4], 2):
        found += [
            (w.RENAME, p + q),
            (w.EXTENDED, s("posix-rename@openssh.com") + p + q),
            (w.EXTENDED, s("hardlink@openssh.com") + p + q),
        ]
    for p in paths:
        found += [
            (w.MKDIR, p + attrs(mode=0o755)),
            (w.SETSTAT, p + attrs(size=3, mode=0o644, times=(1, 2), extended=[(b"a", b"b")])),
            (w.EXTENDED, s("statvfs@openssh.com") + p),
            (w.EXTENDED, s("expand-path@openssh.com") + p),
        ]
    found.append((w.EXTENDED, s("limits@openssh.com")))
    return [bytes([kind]) + bytes(4) + body for kind, body in found]


SEEDS = requests()


class Fuzz:
    """Sends damaged packets to one session after another."""

    def __init__(self, tree: Tree, seed: str, **how) -> None:
        self.tree = tree
        self.how = how
        self.dice = random.Random(seed)
        self.mutate = Mutator(SEEDS, self.dice)
        self.talks = 0
        self.answered = 0
        self.codes: set[int] = set()
        self._greet()

    def _greet(self) -> None:
        self.talk = Talk(
            self.tree, self.tree.session(protocol="sftp", **self.how), random=numbered()
        )
        self.talks += 1
        self.numbers = itertools.count(1)

    def packet(self) -> bytes:
        """Return a packet under the next id, mostly with a length that is right."""
        raw = bytearray(self.dice.choice(SEEDS) if self.dice.random() < 0.2 else self.mutate())
        if len(raw) >= 5:
            raw[1:5] = u32(next(self.numbers))
        length = len(raw)
        if self.dice.random() < 0.005:
            length = self.dice.choice((0, 2**32 - 1, 2**18 + 1025, 2**31))
        return u32(length) + raw

    def round(self) -> None:
        """Send some packets in one go, cut anywhere; wait until all are answered."""
        packets = [self.packet() for _ in range(self.dice.choice((1, 1, 2, 8)))]
        fatal = next((i for i, p in enumerate(packets) if is_fatal(p)), None)
        wanted = packets if fatal is None else packets[:fatal]
        raw = b"".join(packets)
        cut = self.dice.randrange(len(raw) + 1)
        before = {struct.unpack(">I", p[5:9])[0] for p in wanted}
        self.talk.feed(raw[:cut])
        if self.talk.channel.closed is None:
            self.talk.feed(raw[cut:])
        for _ in range(400):
            self.talk.collect()
            if self.talk.channel.closed is not None or not before - set(self.talk.answers):
                break
            self.tree.clock.advance(0.25)
        answers, self.talk.answers = self.talk.answers, {}
        assert set(answers) <= before, packets
        if fatal is None:
            assert set(answers) == before, packets
            assert self.talk.channel.closed is None, packets
        else:
            assert self.talk.channel.closed == 1, packets
        for answer in answers.values():
            if answer.kind == w.STATUS:
                self.codes.add(answer.code)
                assert not answer.text.startswith("internal error"), packets
        self.answered += len(answers)
        if self.talk.channel.closed is not None or self.dice.random() < 0.02:
            self.talk.subsystem.lost()
            self._greet()


def is_fatal(raw: bytes) -> bool:
    """Return whether the connection may only be dropped: no id to answer, or a size refused."""
    (length,) = struct.unpack(">I", raw[:4])
    return not 5 <= length <= 2**18 + 1024 or raw[4] == w.INIT


def planted(tmp_path) -> Tree:
    tree = Tree(tmp_path, max_file_bytes=2**20)
    writer = tree.session()
    tree.put(writer, "/f", b"content of f")
    tree.run(writer.mkdir(("d",)))
    tree.put(writer, "/d/g", bytes(200_000))
    tree.run(writer.mkdir((CANARY,)))
    tree.put(writer, f"/{CANARY}/sings", b"alive")
    return tree


def play(fuzz: Fuzz, wanted: int) -> None:
    while fuzz.answered < wanted:
        began = time.process_time()
        fuzz.round()
        assert time.process_time() - began < SLOWEST
    fuzz.talk.subsystem.lost()
    fuzz.tree.clock.pump([0.25] * 40)
    assert len(fuzz.tree.vfs.pending) == 0
    assert fuzz.tree.vfs.spool.used == 0
    assert fuzz.codes >= {w.OK, w.NO_SUCH_FILE, w.FAILURE, w.BAD_MESSAGE, w.UNSUPPORTED}


def writable(tmp_path, wanted: int, seed: str) -> None:
    tree = planted(tmp_path)
    play(Fuzz(tree, seed), wanted)
    assert tree.get(tree.session(), f"/{CANARY}/sings") == b"alive"


def readonly(tmp_path, wanted: int, seed: str) -> None:
    tree = planted(tmp_path)
    before = stored(tree)
    fuzz = Fuzz(tree, seed, readonly=True)
    fuzz.codes.add(w.OK)
    play(fuzz, wanted)
    assert stored(tree) == before


@pytest.mark.threat("F6")
def test_damaged_packets_are_answered_once_and_hurt_nothing_else(tmp_path):
    writable(tmp_path, 3000, "short")


@pytest.mark.threat("F6")
@pytest.mark.threat("F2")
def test_damaged_packets_change_nothing_where_nothing_may_be_changed(tmp_path):
    readonly(tmp_path, 2000, "short")


@pytest.mark.threat("F6")
def test_a_change_that_is_cut_short_is_not_begun(tmp_path):
    tree = planted(tmp_path)
    talk = Talk(tree)
    before = stored(tree)
    for seed in SEEDS:
        kind, body = seed[0], seed[5:]
        if kind == w.EXTENDED and body.startswith(s("limits@openssh.com")):
            continue
        for cut in range(0, len(body), 3):
            answer = talk.ask(kind, body[:cut])
            if kind in (w.READLINK, w.MKDIR, w.EXTENDED) and answer.code != w.BAD_MESSAGE:
                assert answer.code != w.OK or kind == w.MKDIR
                break
            assert answer.code == w.BAD_MESSAGE, (kind, body, cut)
        if kind == w.MKDIR:
            before = stored(tree)
    assert stored(tree) == before


@pytest.mark.long
@pytest.mark.threat("F6")
def test_a_hundred_thousand_damaged_packets(tmp_path):
    writable(tmp_path / "writable", 80_000, "long")
    readonly(tmp_path / "readonly", 20_000, "long")
