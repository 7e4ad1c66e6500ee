"""One node for all modules in which programs only come and go: making one takes seconds."""

from collections.abc import Iterator

import pytest

from tests.interop.clients.node import ClientNode
from tests.interop.clients.table import CLIENTS


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientNode]:
    """Hold ``/many`` and ``/hostile``; each test keeps to a folder of its own beside them."""
    folder = tmp_path_factory.mktemp("shared") / "node"
    strangers = tuple(f"stranger-{column}" for column in CLIENTS)
    node = ClientNode(folder, ("--servers", "1"), more_users=strangers).make(plant=True)
    with node:
        yield node
        assert node.stop() == 0
