"""The first account of a node: named after the user, with a password made up here.

Knows the order of steps that makes a killed creation repeatable: the password is kept in
``private/first-password`` before the account file, which comes last, holds its hash. Touches the
private folder. The file with the password goes when that password is changed.
"""

import getpass
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from truckee.auth import account_edits
from truckee.auth.account_file import read_account_file
from truckee.auth.accounts import AccountTable, BcryptHash, Policy, check_name, parse
from truckee.auth.passwords import hash_password
from truckee.core import files
from truckee.core.config import NodeConfig
from truckee.core.cpu import Cpu
from truckee.core.errors import AccountError, ConfigError

FIRST_PASSWORD = "first-password"  # noqa: S105 - the name of a file
_LIMIT = 1000
_LATER = (
    "ssh_host_ed25519_key",
    "ftp_certificate.pem",
    "logins",
    "removed-accounts",
)  # than accounts
_FALLBACK = "truckee"


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """The account people are told about; `password` only when it was made just now."""

    name: str
    password: str | None = field(default=None, repr=False)


def user_name() -> str:
    """Return the name of the user that runs this, if an account may have it."""
    try:
        name = check_name(getpass.getuser())
    except (AccountError, KeyError, OSError):
        return _FALLBACK
    return _FALLBACK if name in {"anonymous", "ftp"} else name


def existing(config: NodeConfig) -> FirstAccount | None:
    """Return the first usable account of the file, or None when there is no file yet.

    AccountError when the file cannot be used, or when it was there once: a new one would lead to an
    empty directory, as if all files were lost.
    """
    path = config.access.accounts_file
    if not path.exists() and not path.is_symlink():
        if any((config.private / name).exists() for name in _LATER):
            raise AccountError(f"{path} is missing: put it back, it leads to the files")
        return None
    table = read_table(path, config)
    return FirstAccount(next(iter(table.accounts), ""))


def read_table(path: Path, config: NodeConfig) -> AccountTable:
    """Return the accounts as the node will see them; AccountError."""
    data, _ = read_account_file(path, config.access.accounts_permissions)
    plaintext = config.access.accounts_plaintext
    anonymous = config.access.anonymous_rootcap is not None
    return parse(data, Policy(plaintext, anonymous, b"only looked at"))


async def create(
    config: NodeConfig,
    create_directory: Callable[[], Awaitable[str]],
    generate: Callable[[], str],
    cpu: Cpu,
    *,
    name: str | None = None,
) -> FirstAccount:
    """Make the account: its root directory in the grid, its password, its line in the file."""
    name = user_name() if name is None else name
    root = await create_directory()
    kept = files.create_or_read(
        config.private / FIRST_PASSWORD, f"{generate()}\n".encode("ascii"), _LIMIT
    )
    password = kept.decode("ascii").strip()
    hashed = await cpu.run(hash_password, password.encode("ascii"))
    account_edits.edit(
        config.access.accounts_file,
        lambda document: account_edits.add(document, name, hashed, root, []),
        create=True,
    )
    return FirstAccount(name, password)


def password_changed(config: NodeConfig, old: AccountTable, name: str) -> bool:
    """Remove the kept password if it was the one of this account, whose hash is about to go.

    `old` is the table before the change. Returns whether it was removed. Blocking: one bcrypt.
    """
    path = config.private / FIRST_PASSWORD
    account = old.get(name)
    try:
        kept = files.read(path, _LIMIT).strip()
    except (OSError, ConfigError):
        return False
    if account is None or not isinstance(account.password, BcryptHash):
        return False
    if not bcrypt.checkpw(kept[:72], account.password.text):
        return False
    files.remove(path)
    return True
