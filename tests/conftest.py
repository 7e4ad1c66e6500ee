"""Puts the checkout on the path, so that tests import each other's fakes as ``tests.fakes``."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

settings.register_profile("truckee", deadline=None, max_examples=60)
settings.load_profile("truckee")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    reason = pytest.mark.skip(reason="takes minutes: run by make long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(reason)


@pytest.fixture(autouse=True, scope="session")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let trial leave its temporary folders outside the checkout."""
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(ROOT)
