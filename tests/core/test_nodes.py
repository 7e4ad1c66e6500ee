"""Files as nodes: literal, immutable, mutable, unknown; and the way from capabilities to them."""

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from tests.fakes.memory_grid import MemoryGrid
from truckee.core import errors
from truckee.core.client import Client
from truckee.core.directory import DirectoryNode
from truckee.core.formats.caps import (
    ChkReadCap,
    DirectoryCap,
    LitCap,
    MdmfWriteCap,
    SdmfReadCap,
    SdmfWriteCap,
)
from truckee.core.nodemaker import UnknownNode, target_of
from truckee.core.nodes import (
    CiphertextNode,
    ImmutableFile,
    LiteralFile,
    MutableFileNode,
)
from truckee.core.upload.sources import BytesSource

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "directories.json").read_text())
WRITE = SdmfWriteCap(bytes(16), bytes(32))
CHK = ChkReadCap(bytes(16), bytes(32), 3, 10, 1000)


@implementer(IConsumer)
class Sink:
    def __init__(self, stop: bool = False) -> None:
        self.data = b""
        self.events: list[str] = []
        self.stop = stop

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.events.append("register")
        if self.stop:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self.events.append("unregister")

    def write(self, data: bytes) -> None:
        self.data += data


@pytest.fixture
def grid() -> MemoryGrid:
    return MemoryGrid()


@pytest.fixture
def client(grid: MemoryGrid) -> Client:
    return grid.client()


KINDS = {
    "UnknownNode": UnknownNode,
    "MutableFileNode": MutableFileNode,
    "ImmutableFileNode": ImmutableFile,
    "LiteralFileNode": LiteralFile,
    "DirectoryNode": DirectoryNode,
}


@pytest.mark.threat("U7")
@pytest.mark.parametrize("case", VECTORS["create_from_cap"])
def test_two_slots_give_the_peers_node(case: dict[str, Any]) -> None:
    client = MemoryGrid(servers=0).client()
    given = [None if case[k] is None else case[k].encode() for k in ("given_rw", "given_ro")]
    node = client.create_node_from_uri(given[0], given[1], case["deep_immutable"])
    assert isinstance(node, KINDS[case["kind"]])
    assert node.is_unknown() is (case["kind"] == "UnknownNode")
    assert node.is_allowed_in_immutable_directory() is case["allowed_in_immutable"]
    if case["error"] is not None:
        with pytest.raises(getattr(errors, case["error"])):
            node.raise_error()
        assert (node.get_write_uri(), node.get_readonly_uri()) == (None, b"")
    elif not (case["given_ro"] or "").startswith("URI:SSK:"):  # see test_dirnode_vectors
        write = node.get_write_uri()
        assert (write and write.decode()) == case["rw_uri"]
        assert node.get_readonly_uri().decode() == (case["ro_uri"] or "")


class TestLiteral:
    def test_it_is_its_own_contents(self, grid: MemoryGrid, client: Client) -> None:
        node = client.create_node_from_uri(LitCap(b"0123456789").text.encode())
        assert isinstance(node, LiteralFile)
        assert node.get_size() == 10
        assert grid.run(node.download_to_data()) == b"0123456789"
        assert grid.run(grid.run(node.get_best_readable_version()).download_to_data())
        assert node.get_verify_cap() is node.get_repair_cap() is node.get_storage_index() is None
        assert not node.is_mutable()
        assert node.is_readonly()

    @pytest.mark.parametrize(
        ("offset", "size", "expected"),
        [(0, None, b"0123456789"), (3, 4, b"3456"), (8, 100, b"89"), (10, 5, b""), (99, 1, b"")],
    )
    def test_ranges_are_clipped(
        self, grid: MemoryGrid, client: Client, offset: int, size: int | None, expected: bytes
    ) -> None:
        node = client.create_node_from_uri(LitCap(b"0123456789").text.encode())
        assert isinstance(node, LiteralFile)
        sink = Sink()
        assert grid.run(node.read(sink, offset, size)) is sink
        assert sink.data == expected
        assert sink.events == (["register", "unregister"] if expected else [])

    def test_a_consumer_that_stops_gets_nothing(self, grid: MemoryGrid, client: Client) -> None:
        node = client.create_node_from_uri(LitCap(b"x").text.encode())
        assert isinstance(node, LiteralFile)
        sink = Sink(stop=True)
        with pytest.raises(errors.DownloadStopped):
            grid.run(node.read(sink))
        assert sink.data == b""
        assert sink.events == ["register", "unregister"]


def test_an_immutable_file_is_read_in_ranges(grid: MemoryGrid, client: Client) -> None:
    data = bytes(range(256)) * 40
    cap = grid.run(client.upload(BytesSource(data)))
    node = client.create_node_from_uri(cap.text.encode())
    assert isinstance(node, ImmutableFile)
    assert node.get_size() == len(data) == grid.run(node.get_current_size())
    sink = Sink()
    grid.run(node.read(sink, 1000, 300))
    assert sink.data == data[1000:1300]
    sink = Sink()
    grid.run(node.read(sink, len(data), 5))
    assert (sink.data, sink.events) == (b"", [])
    assert grid.run(node.download_to_data()) == data
    assert node.get_repair_cap() == node.get_verify_cap()


class TestMutable:
    @pytest.mark.parametrize("version", [0, 1])
    def test_it_is_written_and_read_in_both_formats(
        self, grid: MemoryGrid, client: Client, version: int
    ) -> None:
        node = grid.run(client.create_mutable_file(b"one", version))
        assert node.get_version() == version
        assert grid.run(node.download_best_version()) == b"one"
        grid.run(node.overwrite(BytesSource(b"two!")))
        assert node.get_size() == 4
        grid.run(node.modify(lambda old, _: old + b"!"))
        assert node.get_size() == 5
        best = grid.run(node.get_best_mutable_version())
        grid.run(best.update(b"XY", 1))
        assert grid.run(node.download_best_version()) == b"tXY!!"
        with pytest.raises(ValueError, match="outside"):
            grid.run(best.update(b"", 6))
        assert node.get_writekey() is not None
        assert node.get_repair_cap() == node.get_cap()

    def test_a_version_reads_the_same_range_by_range(
        self, grid: MemoryGrid, client: Client
    ) -> None:
        node = grid.run(client.create_mutable_file(b"0123456789"))
        version = grid.run(node.get_best_readable_version())
        assert (version.get_size(), version.get_sequence_number()) == (10, 1)
        sink = Sink()
        grid.run(version.read(sink, 2, 3))
        assert sink.data == b"234"
        sink = Sink()
        grid.run(version.read(sink, 10, 3))
        assert sink.events == []
        assert grid.run(version.download_to_data()) == b"0123456789"

    def test_a_reader_cannot_write(self, grid: MemoryGrid, client: Client) -> None:
        writer = grid.run(client.create_mutable_file(b"x"))
        reader = client.create_node_from_uri(None, writer.get_readonly_uri())
        assert isinstance(reader, MutableFileNode)
        assert reader.get_writekey() is None
        assert reader.get_repair_cap() is None
        for work in (reader.overwrite(b"y"), reader.modify(lambda old, _: old)):
            with pytest.raises(errors.NotWriteableError):
                grid.run(work)
        assert grid.run(reader.get_size_of_best_version()) == 1

    def test_one_node_per_capability_while_it_is_used(self, client: Client) -> None:
        first = client.create_node_from_uri(WRITE.text.encode())
        assert client.create_node_from_uri(WRITE.text.encode()) is first
        reader = client.create_node_from_uri(None, WRITE.read_cap().text.encode())
        assert reader is not first
        assert isinstance(reader.get_cap(), SdmfReadCap)
        chk = CHK.text.encode()
        assert client.create_node_from_uri(chk) is not client.create_node_from_uri(chk)


def test_an_unknown_node_is_carried_and_answers_nothing(client: Client) -> None:
    node = client.create_node_from_uri(b"x-w:1", b"x-r:1")
    assert isinstance(node, UnknownNode)
    assert (node.get_uri(), node.get_readonly_uri()) == (b"x-w:1", b"ro.x-r:1")
    assert node.get_cap().text == "x-w:1"
    assert node.get_verify_cap() is node.get_size() is node.get_storage_index() is None
    for question in (node.is_readonly, node.is_mutable):
        with pytest.raises(TypeError):
            question()
    assert "x-w" not in repr(node)


def test_a_verify_cap_of_a_file_can_be_checked_but_not_linked(client: Client) -> None:
    node = client.create_node_from_uri(CHK.verify_cap().text.encode())
    assert isinstance(node, CiphertextNode)
    assert node.get_size() == 1000
    with pytest.raises(errors.BadURIError):
        target_of(node)


@pytest.mark.threat("L1")
def test_no_repr_shows_a_capability(client: Client) -> None:
    for cap in (LitCap(b"secret"), CHK, WRITE, MdmfWriteCap(bytes(16), bytes(32))):
        for text in (cap.text, DirectoryCap(cap).text):
            node = client.create_node_from_uri(text.encode())
            assert "aaaa" not in repr(node)
            assert "URI" not in repr(node)
