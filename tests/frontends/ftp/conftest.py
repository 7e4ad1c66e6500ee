"""Ends what a test leaves open, so that nothing of it runs in the next one."""

from collections.abc import Iterator

import pytest

from tests.fakes import ftp_wire


@pytest.fixture(autouse=True)
def _end_connections() -> Iterator[None]:
    yield
    wires, ftp_wire.WIRES[:] = ftp_wire.WIRES[:], []
    for wire in wires:
        wire.lose()
