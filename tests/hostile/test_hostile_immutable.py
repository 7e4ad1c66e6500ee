"""Each hostile file ends in right bytes or a named error, in bounded time and within 1 GiB."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.immutable_cases import CASES

ROOT = Path(__file__).parents[2]


@pytest.mark.threat("U2", "U3")
@pytest.mark.threat("U2")
@pytest.mark.threat("U3")
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_hostile_file_costs_little(name):
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.immutable_cases", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "ok", done.stderr[-3000:]
