"""A node directory with accounts, made without starting anything."""

from pathlib import Path

from tests.fakes.account_lines import BCRYPT, OTHER, WRITE
from truckee.core import files, grid
from truckee.frontends.node import creation
from truckee.frontends.node.creation import GridOptions

ACCOUNTS = f"#truckee-accounts: 2\nann {BCRYPT} {WRITE}\nbob {BCRYPT} {OTHER} ro\n"


def make_node(folder: Path, accounts: str | None = ACCOUNTS, servers: int = 1) -> Path:
    config = creation.create(
        folder, creation.plan(GridOptions(servers=servers)), None, grid.make_stores
    )
    if accounts is not None:
        files.replace(config.access.accounts_file, accounts.encode())
    return folder
