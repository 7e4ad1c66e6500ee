"""Shares written by Truckee are read by stock Tahoe-LAFS 1.20, and the other way round.

Share folders are copied between the two grids' stores. Only reading: the write enablers of copied
mutable shares belong to the other server.
"""

import json
import random
import shutil

import pytest

from benchmarks.tahoe_grid import TAHOE, TahoeGrid
from tests.system.node import Node

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not TAHOE.exists(), reason="no stock Tahoe-LAFS here: make peers"),
]

SERVERS = 5


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    grid = TahoeGrid(tmp_path_factory.mktemp("tahoe"), SERVERS, 3, 5, 10)
    try:
        grid.create()
        grid.start()
        yield grid
    finally:
        grid.stop()


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path / "node") as node:
        yield node


def tree(chance):
    return {
        "empty": b"",
        "literal.txt": b"fifty-five bytes at the most",
        "just over.bin": chance.randbytes(56),
        "naïve é 日本.bin": chance.randbytes(5000),
        "folder/one segment.bin": chance.randbytes(1 << 20),
        "folder/two segments.bin": chance.randbytes((1 << 20) + 3),
        "folder/deeper/four.bin": chance.randbytes(4_000_000),
    }


def copy_shares(sources, targets):
    """Copy whole `shares` folders, source i to target i modulo their number."""
    for i, source in enumerate(sources):
        shutil.copytree(
            source / "shares",
            targets[i % len(targets)] / "shares",
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("incoming"),
        )


def test_stock_tahoe_reads_what_truckee_wrote(grid, node):
    files = tree(random.Random(1))
    with node.ftp() as ftp:
        for folder in ("folder", "folder/deeper"):
            ftp.mkd(folder)
    for name, data in files.items():
        node.put(name, data)
    root = node.rootcap
    assert node.stop() == 0
    copy_shares(node.servers(), [grid.storage(i) for i in range(SERVERS)])

    listed = grid.tahoe("ls", root).decode().splitlines()
    assert sorted(listed) == ["empty", "folder", "just over.bin", "literal.txt", "naïve é 日本.bin"]
    for name, data in files.items():
        assert grid.tahoe("get", f"{root}/{name}") == data, name
    entries = json.loads(grid.tahoe("ls", "--json", f"{root}/folder"))
    assert entries[0] == "dirnode"
    children = entries[1]["children"]
    for name in ("one segment.bin", "two segments.bin"):
        kind, facts = children[name]
        assert kind == "filenode"
        assert facts["size"] == len(files[f"folder/{name}"])
        assert "linkcrtime" in facts["metadata"]["tahoe"]
        # by its own read cap, too
        assert grid.tahoe("get", facts["ro_uri"]) == files[f"folder/{name}"]
    report = json.loads(grid.tahoe("deep-check", "--verify", "--raw", root).splitlines()[-1])
    assert report["type"] == "stats"


def test_stock_tahoe_verifies_every_share_that_truckee_wrote(grid, node):
    data = random.Random(4).randbytes(3_000_000)
    node.put("verified.bin", data)
    root = node.rootcap
    assert node.stop() == 0
    copy_shares(node.servers(), [grid.storage(i) for i in range(SERVERS)])
    for path in (root, f"{root}/verified.bin"):
        report = json.loads(grid.tahoe("check", "--verify", "--raw", path))["results"]
        assert report["count-shares-good"] == 10, report
        assert report["count-corrupt-shares"] == 0
        assert report["recoverable"] is True


def test_truckee_reads_what_stock_tahoe_wrote(grid, node):
    files = tree(random.Random(2))
    root = grid.tahoe("mkdir").decode().strip()
    for name, data in files.items():
        grid.tahoe("put", "-", f"{root}/{name}", stdin=data)
    mutable = random.Random(3).randbytes(400_000)
    for kind in ("SDMF", "MDMF"):
        grid.tahoe("put", "--mutable", f"--format={kind}", "-", f"{root}/{kind}.bin", stdin=mutable)
    grid.tahoe("mkdir", "--format=MDMF", f"{root}/mdmf folder")
    grid.tahoe("put", "-", f"{root}/mdmf folder/inner", stdin=b"i" * 100)
    copy_shares([grid.storage(i) for i in range(SERVERS)], node.servers())

    accounts = node.folder / "private" / "accounts"
    text = accounts.read_text()
    accounts.write_text(text.replace(node.rootcap, root))
    node.restart()
    for name, data in files.items():
        assert node.get(name) == data, name
    assert node.get("SDMF.bin") == mutable
    assert node.get("MDMF.bin") == mutable
    assert node.get("mdmf folder/inner") == b"i" * 100
    names = {n.split("/")[-1] for n in node.names()}
    assert names == {name.split("/")[0] for name in files} | {
        "SDMF.bin",
        "MDMF.bin",
        "mdmf folder",
    }
