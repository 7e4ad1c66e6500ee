"""Directories packed by somebody who means harm, read and edited through a whole client."""

import time
from collections.abc import Callable

import pytest

from tests.fakes.memory_grid import MemoryGrid
from truckee.core import errors, traverse
from truckee.core.client import Client
from truckee.core.directory import DirectoryNode
from truckee.core.formats import dirnode
from truckee.core.formats.caps import DirectoryCap, SdmfWriteCap

pytestmark = pytest.mark.threat("U5")

LIT = b"URI:LIT:me"
WRITE = SdmfWriteCap(bytes(16), bytes(32))

Plant = Callable[[bytes], DirectoryNode]


def ns(data: bytes) -> bytes:
    return b"%d:%b," % (len(data), data)


def entry(name: bytes, read: bytes = LIT, write: bytes = b"", metadata: bytes = b"{}") -> bytes:
    return ns(ns(name) + ns(read) + ns(write) + ns(metadata))


@pytest.fixture
def grid() -> MemoryGrid:
    return MemoryGrid(servers=1)


@pytest.fixture
def client(grid: MemoryGrid) -> Client:
    from truckee.core.interfaces import Encoding

    return grid.client(encoding=Encoding(1, 1, 1))


@pytest.fixture
def plant(grid: MemoryGrid, client: Client) -> Plant:
    def make(packed: bytes) -> DirectoryNode:
        file = grid.run(client.create_mutable_file(packed, 0))
        cap = file.get_cap()
        assert isinstance(cap, SdmfWriteCap)
        node = client.create_node_from_uri(DirectoryCap(cap).text.encode())
        assert isinstance(node, DirectoryNode)
        return node

    return make


def raw(grid: MemoryGrid, client: Client, node: DirectoryNode) -> bytes:
    cap = node.get_cap()
    assert isinstance(cap, DirectoryCap)
    file = client.create_node_from_uri(cap.inner.text.encode())
    return grid.run(file.download_best_version())  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    "packed",
    [
        b"99999999999999:",
        b"99999999999999999999999999:x,",
        b"67108865:x,",
        entry(b"a")[:-1],
        entry(b"a") + b"7:short,",
        entry(b"a") + b"\0",
        b"junk",
    ],
    ids=repr,
)
def test_broken_framing_is_one_clear_error_and_nothing_is_lost(
    grid: MemoryGrid, client: Client, plant: Plant, packed: bytes
) -> None:
    node = plant(packed)
    for work in (node.list(), node.get("a"), node.set_uri("b", LIT), node.delete("a")):
        with pytest.raises(errors.DirectoryFormatError):
            grid.run(work)
    assert raw(grid, client, node) == packed


HIDDEN = [
    entry(b"deep", metadata=b'{"a":' * 1000 + b"1" + b"}" * 1000),
    entry(b"deep list", metadata=b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}"),
    entry(b"long", metadata=b'{"a":"' + b"x" * 65536 + b'"}'),
    entry(b"digits", metadata=b'{"a":' + b"1" * 10000 + b"}"),
    entry(b"utf16", metadata="{}".encode("utf-16")),
    entry(b"not an object", metadata=b'"x"'),
    entry(b"\xc3\x28"),
    entry(b"\xed\xa0\x80"),
    entry(b"n" * 5000),
    entry("e\u0301".encode() * 3000),
    entry(b"bad cap", b"URI:CHK:x"),
    entry(b"forbidden", b"imm." + WRITE.read_cap().text.encode()),
    entry(b"verifier", b"URI:CHK-Verifier:" + b"a" * 26 + b":" + b"a" * 52 + b":3:10:5"),
    ns(ns(b"few") + ns(LIT)),
    ns(b"no frame"),
    ns(b"99999999999:"),
    ns(ns(b"inner") + b"99:x,"),
]


def test_entries_that_break_a_rule_are_hidden_and_survive_edits_byte_for_byte(
    grid: MemoryGrid, client: Client, plant: Plant
) -> None:
    node = plant(b"".join([entry(b"a"), *HIDDEN, entry(b"z")]))
    assert list(grid.run(node.list())) == ["a", "z"]
    grid.run(node.set_uri("m", LIT))
    grid.run(node.move_child_to("a", node, "b"))
    grid.run(node.delete("z"))
    assert list(grid.run(node.list())) == ["b", "m"]
    kept = {e.raw for e in dirnode.split(raw(grid, client, node)) if e.name not in {"b", "m"}}
    assert kept == set(HIDDEN)


@pytest.mark.parametrize("bad", HIDDEN, ids=lambda b: repr(b[:24]))
def test_one_bad_entry_does_not_hide_the_others(grid: MemoryGrid, plant: Plant, bad: bytes) -> None:
    assert list(grid.run(plant(bad + entry(b"a")).list())) == ["a"]
    assert list(grid.run(plant(entry(b"a") + bad).list())) == ["a"]


def test_names_equal_after_normalisation_show_once_and_leave_together(
    grid: MemoryGrid, client: Client, plant: Plant
) -> None:
    first, last = entry("é".encode()), entry("e\u0301".encode(), b"URI:LIT:mi")
    node = plant(first + last + entry(b"o"))
    assert grid.run(node.get("é")).get_uri() == b"URI:LIT:mi"
    grid.run(node.set_uri("new", LIT))
    assert raw(grid, client, node).endswith(first + last)
    grid.run(node.delete("é"))
    assert not grid.run(node.has_child("é"))


def test_a_name_with_many_combining_marks_costs_no_time(grid: MemoryGrid, plant: Plant) -> None:
    marks = ("a" + "\u0301\u0323" * 1022).encode()[:4096]
    packed = b"".join(entry(b"%d" % i + marks[:4000]) for i in range(100))
    node = plant(packed)
    start = time.process_time()
    grid.run(node.list())
    assert time.process_time() - start < 2


@pytest.mark.threat("U4")
def test_a_hundred_thousand_entries_are_listed_edited_and_walked(
    grid: MemoryGrid, client: Client, plant: Plant
) -> None:
    packed = b"".join(entry(b"%06d" % i) for i in range(100_000))
    node = plant(packed)
    start = time.process_time()
    assert len(grid.run(node.list())) == 100_000
    grid.run(node.set_uri("new", LIT))
    stats = grid.run(traverse.start_deep_stats(node, grid.clock).when_done())
    assert stats["count-literal-files"] == 100_001
    assert time.process_time() - start < 20
    assert raw(grid, client, node).startswith(packed)


@pytest.mark.threat("U7")
@pytest.mark.parametrize("prefix", [b"", b"ro.", b"imm.", b"ro.ro."])
@pytest.mark.parametrize("cap", [WRITE, DirectoryCap(WRITE)], ids=repr)
def test_a_write_cap_in_the_read_slot_gives_nobody_more_than_reading(
    grid: MemoryGrid, plant: Plant, prefix: bytes, cap: SdmfWriteCap | DirectoryCap
) -> None:
    node = plant(entry(b"rogue", prefix + cap.text.encode()))
    for child, _ in grid.run(node.list()).values():
        assert child.get_write_uri() is None
        assert child.is_unknown() or child.is_readonly()


def test_garbage_where_the_write_cap_should_be_is_carried(
    grid: MemoryGrid, client: Client, plant: Plant
) -> None:
    bad = entry(b"g", b"x-r:1", b"s" * 16 + b"garbage!" + b"m" * 32)
    node = plant(bad)
    child = grid.run(node.get("g"))
    assert child.is_unknown()
    grid.run(node.set_uri("h", LIT))
    assert raw(grid, client, node).startswith(bad)
