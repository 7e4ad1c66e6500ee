import os
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from truckee.frontends.node.process import (
    AlreadyRunningError,
    RunningFile,
    notify_ready,
    running_pid,
    start_time,
)

HARDENED = """
import ctypes, os, resource, sys
from truckee.frontends.node.process import harden
harden()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
print(oct(os.umask(0)), sys.getswitchinterval())
"""


@pytest.mark.threat("L5")
@pytest.mark.threat("L5")
def test_a_hardened_process_leaves_no_core_and_makes_private_files():
    done = subprocess.run(
        [sys.executable, "-c", HARDENED], capture_output=True, check=False, text=True
    )
    assert done.stdout.split("\n")[:2] == ["(0, 0) 0", "0o77 0.001"], done.stderr


@pytest.mark.threat("L5")
@pytest.mark.threat("L5")
def test_a_crash_leaves_no_core_file(tmp_path):
    code = "from truckee.frontends.node.process import harden\nharden()\nimport os\nos.abort()"
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode < 0
    assert os.listdir(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_CORE) == limits


def test_closed_standard_descriptors_are_filled():
    code = "from truckee.frontends.node.process import harden\nharden()\nimport os\nos.fstat(0)"
    done = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "{code}" <&-'], check=False)
    assert done.returncode == 0


def test_one_node_runs_at_a_time(tmp_path):
    one, two = RunningFile(tmp_path), RunningFile(tmp_path)
    one.take()
    assert running_pid(tmp_path) == os.getpid()
    with pytest.raises(AlreadyRunningError, match=str(os.getpid())):
        two.take()
    one.release()
    assert running_pid(tmp_path) is None
    two.take()
    two.release()


@pytest.mark.threat("O4")
@pytest.mark.threat("O4")
def test_a_stale_mark_with_a_number_used_again_is_no_running_node(tmp_path):
    (tmp_path / "running.process").write_text(f"{os.getpid()} 12345678-99\n")
    assert running_pid(tmp_path) is None
    mark = RunningFile(tmp_path)
    mark.take()
    assert (
        tmp_path / "running.process"
    ).read_text() == f"{os.getpid()} {start_time(os.getpid())}\n"
    mark.release()


@pytest.mark.threat("D6")
@pytest.mark.parametrize("text", ["", "x y\n", "12\n", "\u00e9"])
def test_a_damaged_mark_is_no_running_node(tmp_path, text):
    (tmp_path / "running.process").write_bytes(text.encode())
    assert running_pid(tmp_path) is None


def test_systemd_is_told_when_it_asked(tmp_path, monkeypatch):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_ready()
        assert s.recv(100) == b"READY=1"
    notify_ready()  # nobody listens: no error


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.threat("X3")
def test_the_unit_of_the_handbook_is_one_that_systemd_takes(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "running.rst").read_text()
    block = text[text.index("    [Unit]") : text.index("WantedBy=multi-user.target")]
    unit = textwrap.dedent(block).replace("/opt/truckee/bin/truckee", sys.executable)
    (tmp_path / "truckee.service").write_text(unit + "WantedBy=multi-user.target\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "truckee.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "truckee.service" not in done.stderr
