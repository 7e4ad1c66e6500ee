"""The client: uploads, new files and directories, accounts."""

import hashlib
import hmac

import pytest

from tests.fakes.memory_grid import MemoryGrid
from truckee.core import errors
from truckee.core.client import Client
from truckee.core.crypto import hashes
from truckee.core.directory import DirectoryNode
from truckee.core.formats.caps import ChkReadCap, LitCap, MdmfWriteCap, SdmfWriteCap
from truckee.core.interfaces import Encoding
from truckee.core.upload.sources import BytesSource

DATA = b"guess what " * 100


@pytest.fixture
def grid() -> MemoryGrid:
    return MemoryGrid()


@pytest.fixture
def client(grid: MemoryGrid) -> Client:
    return grid.client()


@pytest.mark.threat("A10")
def test_two_accounts_get_different_caps_for_one_file(grid: MemoryGrid, client: Client) -> None:
    alice, bob = client.for_account("alice"), client.for_account("bob")
    caps = [grid.run(c.upload(BytesSource(DATA))) for c in (client, alice, bob)]
    assert len({cap.text for cap in caps}) == 3
    assert grid.run(client.for_account("alice").upload(BytesSource(DATA))) == caps[1]


def test_the_secret_of_an_account_follows_from_the_nodes() -> None:
    client = MemoryGrid(servers=0).client(b"k" * 32).for_account("zoë")
    message = b"truckee account convergence v1" + "zoë".encode()
    secret = hmac.new(b"k" * 32, message, hashlib.sha256).digest()
    assert client.convergence_tag(10**9) == hashes.convergence_tag(secret, 3, 10, 1048578)


@pytest.mark.parametrize(
    ("size", "segment"), [(100, 102), (3, 3), (1048576, 1048578), (5 * 10**6, 1048578)]
)
def test_the_tag_is_that_of_the_effective_segment(size: int, segment: int) -> None:
    client = MemoryGrid(servers=0).client(b"k" * 32)
    assert client.convergence_tag(size) == hashes.convergence_tag(b"k" * 32, 3, 10, segment)


def test_the_tag_gives_the_key_that_an_upload_uses(grid: MemoryGrid, client: Client) -> None:
    cap = grid.run(client.upload(BytesSource(DATA)))
    hasher = hashes.TaggedHasher(client.convergence_tag(len(DATA)))
    hasher.update(DATA)
    assert isinstance(cap, ChkReadCap)
    assert cap.readkey == hasher.digest(16)


def test_a_random_key_gives_another_cap_each_time(grid: MemoryGrid, client: Client) -> None:
    caps = [grid.run(client.upload(BytesSource(DATA), None)) for _ in range(2)]
    assert caps[0] != caps[1]


def test_an_encoding_of_its_own_is_used(grid: MemoryGrid, client: Client) -> None:
    cap = grid.run(client.upload(BytesSource(DATA), encoding=Encoding(2, 2, 4)))
    assert isinstance(cap, ChkReadCap)
    assert (cap.needed_shares, cap.total_shares) == (2, 4)


@pytest.mark.parametrize(
    ("size", "version", "kind"),
    [
        (10, None, SdmfWriteCap),
        (2**20, None, SdmfWriteCap),
        (2**20 + 1, None, MdmfWriteCap),
        (10, 1, MdmfWriteCap),
        (2**20 + 1, 0, SdmfWriteCap),
    ],
)
def test_small_mutable_files_are_sdmf_large_ones_mdmf(
    grid: MemoryGrid, client: Client, size: int, version: int | None, kind: type
) -> None:
    node = grid.run(client.create_mutable_file(bytes(size), version))
    assert isinstance(node.get_cap(), kind)
    assert len(grid.run(node.download_best_version())) == size


def test_sdmf_beyond_its_limit_is_refused_before_it_is_read(
    grid: MemoryGrid, client: Client
) -> None:
    class Huge(BytesSource):
        closed = False

        async def get_size(self) -> int:
            return 64 * 2**20 + 1

        async def read(self, length: int) -> list[bytes]:  # type: ignore[override]
            raise AssertionError("nobody should read this")

        async def close(self) -> None:
            self.closed = True

    source = Huge(b"")
    with pytest.raises(errors.FileTooLargeError):
        grid.run(client.create_mutable_file(source, 0))
    assert source.closed


def test_contents_may_depend_on_the_new_write_key(grid: MemoryGrid, client: Client) -> None:
    node = grid.run(client.create_mutable_file(lambda writekey: writekey * 2))
    assert grid.run(node.download_best_version()) == (node.get_writekey() or b"") * 2


def test_accounts_share_the_directory_cache_and_the_queues(
    grid: MemoryGrid, client: Client
) -> None:
    root = grid.run(client.create_new_mutable_directory())
    views = [client.for_account(n).create_node_from_uri(root.get_uri()) for n in ("a", "b")]
    for i, view in enumerate(views):
        assert isinstance(view, DirectoryNode)
        assert view is not root
        file = grid.run(view.add_file(f"f{i}", BytesSource(DATA)))
        assert file.get_uri() != grid.run(client.upload(BytesSource(DATA))).text.encode()
    assert list(grid.run(root.list())) == ["f0", "f1"]


def test_a_tiny_upload_is_a_literal(grid: MemoryGrid, client: Client) -> None:
    assert grid.run(client.upload(BytesSource(b"tiny"))) == LitCap(b"tiny")
