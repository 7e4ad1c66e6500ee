"""A node that may open few files: more connections than it can bear, and none left at all."""

import contextlib
import io
import os
import resource
import socket
import subprocess
import time

import pytest

from tests.system.node import Node

FEW = 256
BEARABLE = (FEW - 128) // 2


@pytest.fixture
def node(tmp_path):
    """A node that was started where 256 files may be open."""
    few = ("sh", "-c", f'ulimit -S -n {FEW}; exec "$@"', "sh")
    node = Node(tmp_path / "node", ("--servers", "1"), through=few).start()
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(node.kill)
        yield node


def open_files(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


def connect(node: Node, door: str) -> socket.socket:
    s = socket.create_connection(("127.0.0.1", node.ready[door]["port"]), 20)
    s.settimeout(20)
    return s


def greeting(s: socket.socket) -> bytes:
    try:
        return s.recv(100)
    except ConnectionError:
        return b""


def log(node: Node) -> str:
    return (node.folder / "logs" / "truckee.log").read_text()


@pytest.mark.threat("D2")
def test_more_connections_than_descriptors_bear_are_turned_away(node) -> None:
    assert f"max_sessions is {BEARABLE}" in log(node)
    with contextlib.ExitStack() as stack:
        doors = ["ftp", "sftp"] * 150
        crowd = [stack.enter_context(connect(node, door)) for door in doors]
        for s in crowd:
            greeting(s)
        assert open_files(node) < FEW - 16
        node.wait_for(lambda: "refuses 127.0.0.1" in log(node))
    node.wait_for(lambda: open_files(node) < 100)
    node.put("after", b"all is well")
    assert node.get("after") == b"all is well"
    assert "Traceback" not in log(node)


@pytest.mark.threat("D2")
def test_without_any_descriptor_left_a_node_lives_and_recovers(node) -> None:
    node.put("kept", b"x" * 100_000)
    with contextlib.ExitStack() as stack:
        ftp = stack.enter_context(contextlib.closing(node.ftp()))
        pid = node.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(node) + 2, hard))
        crowd = [stack.enter_context(connect(node, door)) for door in ["ftp", "sftp"] * 20]
        time.sleep(1)
        assert [b"" for _ in range(30)] == [g for g in map(greeting, crowd) if not g][:30]
        began = _processor_time(pid)
        time.sleep(1)
        assert _processor_time(pid) - began < 0.5  # it does not run in circles
        ftp.voidcmd("NOOP")  # who is in stays in
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, hard))
    node.wait_for(lambda: node.process.poll() is None and _serves(node))
    assert node.get("kept") == b"x" * 100_000
    assert node.stop() == 0


def _serves(node: Node) -> bool:
    with contextlib.suppress(OSError, EOFError), contextlib.closing(node.ftp()) as ftp:
        ftp.storbinary("STOR again", io.BytesIO(b"y"))
        return True
    return False


def _processor_time(pid: int) -> float:
    fields = (
        subprocess.run(["cat", f"/proc/{pid}/stat"], capture_output=True, text=True, check=True)
        .stdout.rpartition(")")[2]
        .split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
