"""The node's memory does not follow the size of what passes through it."""

import contextlib
import hashlib
import time
from pathlib import Path

import pytest

from tests.system.node import Node

MIB = 1 << 20


class Stream:
    """Bytes that differ everywhere, made as they are read, and their hash."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.counter = 0
        self.sha = hashlib.sha256()

    def read(self, _: int) -> bytes:
        block = hashlib.sha256(self.counter.to_bytes(8, "big")).digest() * (MIB // 32)
        self.counter += 1
        piece = block[: min(MIB, self.left)]
        self.left -= len(piece)
        self.sha.update(piece)
        return piece


def peak_rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def pass_through(node: Node, size: int) -> None:
    stream, back, taken = Stream(size), hashlib.sha256(), 0

    def take(piece: bytes) -> None:
        nonlocal taken
        taken += len(piece)
        back.update(piece)

    with contextlib.closing(node.ftp()) as ftp:
        ftp.timeout = 600
        ftp.storbinary("STOR large.bin", stream, MIB)
        ftp.retrbinary("RETR large.bin", take, MIB)
        assert ftp.size("large.bin") == size
    assert taken == size
    assert back.digest() == stream.sha.digest()


@pytest.mark.long
def test_two_gib_pass_a_one_of_one_node_in_300_mib(tmp_path):
    with Node(tmp_path / "node", ("--servers", "1")) as node:
        pass_through(node, 2048 * MIB + 1)
        assert peak_rss(node.process.pid) < 300 * MIB


def test_a_file_of_400_mib_leaves_the_node_as_small_as_one_of_100(tmp_path):
    with Node(tmp_path / "node", ("--servers", "3")) as node:
        pass_through(node, 100 * MIB)
        small = peak_rss(node.process.pid)
        pass_through(node, 400 * MIB)
        assert peak_rss(node.process.pid) < small + 40 * MIB
        assert peak_rss(node.process.pid) < 300 * MIB


@pytest.mark.threat("F3")
def test_a_client_that_reads_nothing_fills_no_memory(tmp_path):
    with Node(tmp_path / "node", ("--servers", "1")) as node:
        with contextlib.closing(node.ftp()) as ftp:
            ftp.storbinary("STOR large.bin", Stream(200 * MIB), MIB)
        before = peak_rss(node.process.pid)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                ftp = stack.enter_context(contextlib.closing(node.ftp()))
                stack.enter_context(contextlib.closing(ftp.transfercmd("RETR large.bin")))
            time.sleep(3)
            assert peak_rss(node.process.pid) < before + 150 * MIB
