"""A wall clock that is set, by an attacker of NTP or by its owner, moves no time limit."""

import subprocess
import sys
import time

import pytest

from tests.fakes.tree import Tree

JUMPS = """
import time
from truckee.frontends.cli.main import _reactor
reactor = _reactor()
real = time.time
offset = [0.0]
time.time = lambda: real() + offset[0]
fired = []
def jump(seconds):
    offset[0] = seconds
reactor.callLater(0.1, jump, -86400.0)
reactor.callLater(0.3, fired.append, "after a day back")
reactor.callLater(0.4, jump, 86400.0)
reactor.callLater(3600, fired.append, "an hour early")
reactor.callLater(0.6, reactor.stop)
began = time.monotonic()
reactor.run()
assert time.monotonic() - began < 30
assert abs(reactor.seconds() - time.monotonic()) < 1
print(fired)
"""


@pytest.mark.threat("N15")
def test_timers_of_a_node_run_on_the_monotonic_clock() -> None:
    done = subprocess.run(
        [sys.executable, "-c", JUMPS], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "['after a day back']\n", done.stderr


@pytest.mark.threat("N15")
def test_files_being_written_show_the_date_and_not_the_timers_clock(tmp_path) -> None:
    tree = Tree(tmp_path, wall=time.time)
    session = tree.session()
    handle = tree.open(session, "/f")
    tree.run(handle.write(0, b"x"))
    assert abs(tree.stat(session, "/f").mtime - time.time()) < 60
    handle.abandon()
