import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.threat("S3")
@pytest.mark.threat("S9")
@pytest.mark.threat("S10")
def test_lies_about_mutable_files_cost_neither_memory_nor_time_and_never_wrong_bytes():
    program = "from tests.fakes.hostile_mutable import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "played" in done.stdout
    assert "slow" not in done.stdout
