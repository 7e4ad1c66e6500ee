"""Walks: what is visited, in which order, and where they end."""

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.python.failure import Failure

from tests.fakes.memory_grid import MemoryGrid
from truckee.core import errors, traverse
from truckee.core.client import Client
from truckee.core.directory import DirectoryNode
from truckee.core.formats.caps import ChkReadCap, DirectoryCap, LitCap, SdmfWriteCap
from truckee.core.formats.dirnode import pack
from truckee.core.traverse import Monitor

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "directories.json").read_text())
LIT = b"URI:LIT:onwwc3dmebtgs3df"


@pytest.fixture
def grid() -> MemoryGrid:
    return MemoryGrid()


@pytest.fixture
def client(grid: MemoryGrid) -> Client:
    return grid.client()


@pytest.fixture
def root(grid: MemoryGrid, client: Client) -> DirectoryNode:
    return grid.run(client.create_new_mutable_directory())


def uri(i: int) -> bytes:
    return ChkReadCap(i.to_bytes(16, "big"), bytes(32), 3, 10, 1000 + i).text.encode()


def manifest(grid: MemoryGrid, root: DirectoryNode, **kwargs: Any) -> Any:
    return grid.run(traverse.build_manifest(root, grid.clock, **kwargs).when_done())


def paths(result: Any) -> list[tuple[str, ...]]:
    return [path for path, _ in result["manifest"]]


def test_the_peers_tree_is_walked_as_the_peer_walks_it(
    grid: MemoryGrid, client: Client, root: DirectoryNode
) -> None:
    vector = VECTORS["manifest"]
    sub = grid.run(root.create_subdirectory("sub"))
    # the peer took the write cap in the read slot for one; ours is given where it belongs
    grid.run(root.set_uri("wcap-as-ro", SdmfWriteCap(bytes(16), bytes(32)).text.encode()))
    grid.run(root.set_uri("x", b"x:w", b"x:r"))
    grid.run(sub.set_uri("c", LIT))
    grid.run(sub.set_node("root", root))
    reader = client.create_node_from_uri(None, root.get_readonly_uri())
    grid.run(sub.set_node("root-ro", reader))
    result = manifest(grid, root)
    assert paths(result) == [tuple(path) for path in vector["paths"]]
    kinds = [(text.split(b":")[1] or b"?").decode() for _, text in result["manifest"]]
    assert kinds == ["DIR2", "w", "SSK", "DIR2", "LIT"]
    assert len(result["verifycaps"]) == vector["n_verifycaps"]
    assert len(result["storage-index"]) == vector["n_si"]
    stats = {**result["stats"]}
    expected = {**vector["stats"]}
    for size in ("size-directories", "largest-directory"):  # times differ in length
        assert stats.pop(size) > 0
        del expected[size]
    histogram = [list(bucket) for bucket in stats.pop("size-files-histogram")]
    assert histogram == expected.pop("size-files-histogram")
    assert stats == expected


@pytest.mark.threat("U4")
def test_many_paths_to_few_directories_are_walked_once_each(
    grid: MemoryGrid, client: Client
) -> None:
    below = grid.run(client.create_new_mutable_directory())
    for _ in range(40):  # 2^40 paths
        below = grid.run(client.create_new_mutable_directory({"a": (below, {}), "b": (below, {})}))
    assert len(paths(manifest(grid, below))) == 41


@pytest.mark.threat("U4")
def test_a_tree_deeper_than_the_bound_is_an_error_or_is_noted(
    grid: MemoryGrid, client: Client, root: DirectoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traverse, "MAX_DEPTH", 5)
    node = root
    for _ in range(8):
        node = grid.run(node.create_subdirectory("d"))
    with pytest.raises(errors.AbsurdGeometryError):
        manifest(grid, root)
    monitor = traverse.build_manifest(root, grid.clock, collect_errors=True)
    result = grid.run(monitor.when_done())
    assert max(len(path) for path in paths(result)) == 5
    assert [len(problem.path) for problem in monitor.problems] == [5]


def test_a_directory_that_cannot_be_read_ends_the_walk_or_is_noted(
    grid: MemoryGrid, client: Client, root: DirectoryNode
) -> None:
    lost = DirectoryCap(SdmfWriteCap(b"lost" * 4, bytes(32)))
    grid.run(root.set_uri("lost", lost.text.encode()))
    grid.run(root.create_subdirectory("z"))
    with pytest.raises(errors.UnrecoverableFileError):
        manifest(grid, root)
    monitor = traverse.build_manifest(root, grid.clock, collect_errors=True)
    assert paths(grid.run(monitor.when_done())) == [(), ("lost",), ("z",)]
    assert [problem.path for problem in monitor.problems] == [("lost",)]


def test_a_large_directory_is_walked_in_slices(
    grid: MemoryGrid, root: DirectoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid.run(root.set_children({f"f{i}": (uri(i), None) for i in range(1000)}))
    turns: list[float] = []
    real = grid.clock.callLater

    def counted(delay: float, *args: Any, **kwargs: Any) -> Any:
        turns.append(delay)
        return real(delay, *args, **kwargs)

    monkeypatch.setattr(grid.clock, "callLater", counted)
    monitor = traverse.start_deep_stats(root, grid.clock)
    while not monitor.is_finished():
        grid.clock.advance(0)
    assert turns.count(0) >= 5
    assert monitor.status["count-immutable-files"] == 1000


def test_a_walk_can_be_cancelled(grid: MemoryGrid, client: Client, root: DirectoryNode) -> None:
    grid.run(root.set_children({f"f{i}": (uri(i), None) for i in range(1000)}))
    monitor = traverse.start_deep_stats(root, grid.clock)
    assert not monitor.is_finished()
    ended: list[Any] = []
    monitor.when_done().addErrback(ended.append)
    monitor.cancel()
    grid.clock.advance(0)
    assert monitor.is_finished()
    assert monitor.is_cancelled()
    failure: Failure = ended[0]
    assert failure.check(errors.OperationCancelledError)
    with pytest.raises(errors.OperationCancelledError):
        grid.run(monitor.when_done())


def test_who_no_longer_wants_the_result_does_not_stop_the_walk() -> None:
    monitor = Monitor()
    d = monitor.when_done()
    d.addErrback(lambda _: None)
    d.cancel()
    monitor.finish(5)
    assert monitor.status == 5


def test_literal_directories_are_always_visited(grid: MemoryGrid, client: Client) -> None:
    inner = DirectoryCap(LitCap(pack({"f": (LitCap(b"x"), {})}, writekey=None)))
    outer = pack({"a": (inner, {}), "b": (inner, {})}, writekey=None)
    root = client.create_node_from_uri(DirectoryCap(LitCap(outer)).text.encode())
    assert isinstance(root, DirectoryNode)
    assert paths(manifest(grid, root)) == [(), ("a",), ("a", "f"), ("b",), ("b", "f")]


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        (0, (0, 0)),
        (1, (1, 3)),
        (3, (1, 3)),
        (4, (4, 10)),
        (11, (11, 31)),
        (32, (32, 100)),
        (316, (101, 316)),
        (2**60, (10**18 + 1, 3162277660168379331)),
    ],
)
def test_sizes_fall_into_two_buckets_per_decade(size: int, bucket: tuple[int, int]) -> None:
    assert traverse.bucket_of(size) == bucket
